// The page that recognises: its address says which photo is looked at.

import { addressOf, hasQuery, readAddress } from "./address.js";
import { address, ask, askJson, index } from "./api.js";
import { Query } from "./query.js";
import { calm, complain } from "./trouble.js";

const PATH = "/recognize";
const SLOW_MS = 3000;
const LEARNING = "Recognising… The first time after a change, the labels of the collection are learned";

const byId = (id) => document.getElementById(id);
const title = document.title;

let state = readAddress();
let abort = null;
let slow = 0;

const query = new Query((changed) => {
  const isNew = changed.photoId !== state.photoId || changed.upload !== state.upload;
  const next = { ...changed, box: isNew ? null : changed.box };
  if (addressOf(next, PATH) === location.pathname + location.search) return;
  history.pushState(null, "", addressOf(next, PATH));
  state = next;
  show({ moves: isNew });
});

/** Say what is waited for. `spoken`: only to screen readers, because the page shows it. */
function wait(words, { spoken = false } = {}) {
  byId("waiting").hidden = !words;
  byId("waiting").classList.toggle("spoken", spoken);
  byId("status").textContent = words;
}

function stopTelling() {
  clearTimeout(slow);
  slow = 0;
}

/** Say how much is learned, until the answer is there. */
async function tellLearning(signal) {
  const { photos, of } = await askJson(address(`${PATH}/learned`), { signal }).catch(() => ({ of: null }));
  if (signal.aborted || !slow) return;
  wait(of ? `${LEARNING}: ${Math.floor((100 * photos) / of)} %.` : `${LEARNING}, which takes a while.`);
  slow = setTimeout(() => tellLearning(signal), SLOW_MS / 3);
}

async function show({ moves = false } = {}) {
  abort?.abort();
  abort = new AbortController();
  const { signal } = abort;
  stopTelling();
  const asking = hasQuery(state);
  document.body.classList.toggle("asks", asking);
  byId("answers").replaceChildren();
  calm();
  wait("");
  const ways = [{ name: "Choose another photo", run: () => query.clear() }];
  try {
    await query.show(state);
    if (signal.aborted) return;
    document.title = asking ? `${query.name} · ${title}` : title;
    if (moves) byId(asking ? "query-name" : "pick").focus({ preventScroll: true });
    if (!asking) return;
    wait("Recognising…");
    slow = setTimeout(() => tellLearning(signal), SLOW_MS);
    const response = await ask(address(`${PATH}/answer`), { method: "POST", signal, ...query.body({ index }) });
    const html = await response.text();
    if (signal.aborted) return;
    stopTelling();
    byId("answers").innerHTML = html;
    const { photoId, upload } = state;
    for (const card of byId("answers").querySelectorAll(".photo-card")) {
      card.querySelector("a.frame").href = address("/evidence", { query: photoId, upload, hit: card.dataset.photo });
    }
    wait(byId("named").textContent, { spoken: true });
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    wait("");
    complain(error, { again: () => show(), ways });
  } finally {
    if (!signal.aborted) stopTelling();
  }
}

addEventListener("popstate", () => {
  state = readAddress();
  show();
});

show();
