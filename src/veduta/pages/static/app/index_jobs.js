// The page of an index: starts an indexing run, watches it, and cancels it.

import { api, ask, askJson, index, Problem } from "./api.js";
import { say } from "./messages.js";

const form = document.getElementById("start");
let watched = null; // {number, events}

/** Let htmx load the state of the index and of its runs again. */
const reload = () => document.body.dispatchEvent(new Event("runs-changed"));

// ---- watching

/** Watch the run that the page shows, if there is one. */
function watch() {
  const run = document.querySelector("[data-run]");
  if (watched && watched.number !== run?.dataset.run) {
    watched.events.close();
    watched = null;
  }
  if (!run || watched) return;
  const number = run.dataset.run;
  const events = new EventSource(api(`/jobs/${number}/events`, { after: run.dataset.position }));
  watched = { number, events };
  events.addEventListener("running", ({ data }) => show(JSON.parse(data)));
  for (const state of ["done", "failed", "cancelled"]) {
    events.addEventListener(state, () => {
      events.close(); // A browser would connect again.
      say({ done: "The indexing run is done.", failed: "The indexing run failed.", cancelled: "The indexing run was cancelled." }[state]);
      reload();
    });
  }
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) reload(); // The service refused: it may have ended.
  });
}

function show({ done, total, words }) {
  const run = document.querySelector("[data-run]");
  if (!run) return;
  const bar = run.querySelector("progress");
  if (total) [bar.max, bar.value] = [total, done];
  run.querySelector(".words").textContent = words.join(" ");
}

document.addEventListener("htmx:afterSettle", watch);
watch();

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-cancel]");
  if (!button) return;
  button.disabled = true;
  try {
    await ask(api(`/jobs/${button.closest("[data-run]").dataset.run}`), { method: "DELETE" });
    button.textContent = "Cancelling…";
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    button.disabled = false;
    say(error.message);
  }
});

// ---- starting

/** Return what the form asks for, as `IndexRequest` has it. */
function request() {
  const data = new FormData(form);
  const sent = { index: index || null };
  if (data.get("what") === "new") sent.folders = [data.get("folder").trim()];
  const labels = data.get("labels");
  if (labels) sent.labels = labels === "csv" ? data.get("csv").trim() : labels;
  const exclude = form.elements.exclude;
  if (exclude.value !== exclude.defaultValue) sent.exclude = exclude.value.split("\n").map((line) => line.trim()).filter(Boolean);
  for (const box of form.querySelectorAll("input[type=checkbox]:checked")) sent[box.name] = true;
  return sent;
}

/** Show the fields that the choices ask for. */
function showFields() {
  const fields = { folder: form.elements.what.value === "new", csv: form.elements.labels.value === "csv" };
  for (const [name, asked] of Object.entries(fields)) {
    document.getElementById(`${name}-field`).hidden = !asked;
    form.elements[name].required = asked;
  }
}

async function start(event) {
  event.preventDefault();
  const button = form.querySelector("[type=submit]");
  const problem = document.getElementById("start-problem");
  problem.hidden = true;
  button.disabled = true;
  try {
    await askJson(api("/jobs/index"), { method: "POST", body: request() });
    say("The indexing run has started.");
    reload();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem.textContent = error.message;
    problem.hidden = false;
  }
  button.disabled = false;
}

if (form) {
  form.addEventListener("change", showFields);
  form.addEventListener("submit", start);
  showFields();
}
