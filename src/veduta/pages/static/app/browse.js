// The page that shows the collection: what is shown, the keys, and labels of photos.

import { Chooser } from "../choose.js";
import { Grid } from "../grid.js";
import { address, api, askJson } from "./api.js";
import { make } from "./elements.js";
import { LabelEdits } from "./label_edits.js";
import { say } from "./messages.js";
import { PhotoList, monthText, photosText, thumbnail } from "./photo_list.js";
import { PhotoViewer } from "./photo_viewer.js";
import { Selection } from "./selection.js";

const byId = (id) => document.getElementById(id);

const CONDITIONS = ["label", "unlabelled", "folder", "month", "after", "before", "group", "within", "id"];
const LOAD_MS = 80; // pictures of rows that only fly by are not asked for
const ADDRESS_MS = 300;
const WAITING_MS = 500; // without an answer, before the page says so
const LONG_PRESS_MS = 500;
const SLIP_PIXELS = 12; // a finger that rests may move this far
const MOST_REMOVED_AT_ONCE = 200;
const SIZE = "veduta-browse-size";

const mayEdit = document.querySelector(".browse").dataset.edits === "true";

const list = new PhotoList({ onDetails: redraw, onChange: refresh, onProblem: showProblem });
const grid = new Grid(byId("scroller"), byId("grid"), makeTile, drawTile, { gap: 8 });
const selection = new Selection(list, showSelection);
const edits = new LabelEdits(refresh);
const viewer = new PhotoViewer({ move: (by) => openPhoto(grid.current + by), onClose: leavePhoto });
const chooserOf = { label: new Chooser("labels"), folder: new Chooser("folders"), month: new Chooser("months") };
const newLabel = mayEdit ? new Chooser("new-label") : null;

let shown = null; // the conditions of the photos in the grid, as text
let facets = null; // a promise: asked for ahead, so that a dialog opens at once

// ---- the address

const query = () => new URLSearchParams(location.search);
const conditions = () => {
  const asked = query();
  const given = CONDITIONS.filter((name) => asked.has(name));
  return Object.fromEntries(given.map((name) => [name, asked.getAll(name)]));
};
const isLimited = () => Object.keys(conditions()).length > 0;

/** Change the address; null takes a name away. `push`: "Back" undoes it. */
function setAddress(values, { push = false } = {}) {
  const changed = query();
  for (const [name, value] of Object.entries(values)) {
    changed.delete(name);
    if (value !== null) changed.append(name, value);
  }
  const text = `${location.pathname}${changed.size ? `?${changed}` : ""}`;
  history[push ? "pushState" : "replaceState"]({ pushed: push }, "", text);
}

/** Show what the address says. */
async function followAddress() {
  const asked = query();
  const order = asked.get("order") ?? "path";
  byId("order").value = order;
  const wanted = JSON.stringify([order, conditions()]);
  if (wanted !== shown) {
    const waiting = setTimeout(showWaiting, WAITING_MS);
    const worked = await load();
    clearTimeout(waiting);
    if (!worked) return;
    shown = wanted;
    selection.clear();
    const start = list.positions.get(+(asked.get("photo") ?? asked.get("at"))) ?? 0;
    grid.setCount(list.ids.length, start);
    grid.reveal(start, { atTop: true });
  }
  const photo = asked.get("photo");
  if (photo === null) {
    if (viewer.isOpen) viewer.close();
  } else if (list.positions.has(+photo)) showPhoto(list.positions.get(+photo));
  else setAddress({ photo: null });
}

/** Read the list that the address asks for. Return whether that worked. */
async function load() {
  try {
    facets = askJson(api("/facets"));
    facets.catch(() => {}); // said when a dialog needs it
    await list.load({ ...conditions(), order: byId("order").value });
  } catch (problem) {
    byId("count").textContent = "";
    if (problem.status >= 400 && problem.status < 429) showEmpty(problem.message, "Show all", showAll);
    else showEmpty(problem.message, "Try again", followAddress);
    return false;
  }
  showConditions();
  return true;
}

/** Read the list anew, because the index has changed. What is on the screen stays there. */
async function refresh() {
  const [before, photo, top] = [list.ids, list.ids[grid.current], byId("scroller").scrollTop];
  if (!(await load())) return;
  if (before.length === list.ids.length && before.every((id, position) => id === list.ids[position])) {
    grid.redraw(); // only labels have changed
    if (viewer.isOpen) list.photo(viewer.id);
    return;
  }
  const last = Math.max(0, list.ids.length - 1);
  grid.setCount(list.ids.length, list.positions.get(photo) ?? Math.min(grid.current, last));
  byId("scroller").scrollTop = top;
  grid.render();
  selection.keepListed();
  if (!viewer.isOpen) return;
  if (list.ids.length) openPhoto(grid.current);
  else viewer.close();
}

let addressTimer;
byId("scroller").addEventListener("scroll", () => {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {
    if (!list.ids.length || viewer.isOpen) return;
    const [first] = grid.visible();
    setAddress({ at: byId("scroller").scrollTop > 0 ? list.ids[first] : null });
  }, ADDRESS_MS);
}, { passive: true });

// ---- what is shown

function showConditions() {
  const asked = query();
  const names = {
    label: asked.has("unlabelled") ? "none" : asked.getAll("label").join(", "),
    folder: asked.get("folder")?.split("/").at(-1) ?? "",
    month: { null: "", none: "no date" }[asked.get("month")] ?? monthText(asked.get("month")),
  };
  for (const [name, value] of Object.entries(names)) {
    const button = byId(`by-${name}`);
    button.lastElementChild.textContent = value;
    button.classList.toggle("set", value !== "");
  }
  byId("show-all").hidden = !isLimited();
  const kind = asked.has("group") ? " of one group" : asked.has("within") ? " of a part of the map" : "";
  byId("count").textContent = `${photosText(list.ids.length)}${kind}`;
  if (mayEdit) byId("name-group").hidden = !asked.has("group");
  if (list.ids.length) byId("empty").hidden = true;
  else if (isLimited()) showEmpty("No photo of the index is like that.", "Show all", showAll);
  else showEmpty("The index holds no photo yet.");
}

function showWaiting() {
  grid.setCount(0, 0);
  byId("count").textContent = "";
  showEmpty(query().has("group") ? "Finding the groups. The first time this may take a while." : "Loading…");
}

function showEmpty(text, action, run) {
  byId("empty").hidden = false;
  byId("empty").firstElementChild.textContent = text;
  byId("empty").querySelector("button")?.remove();
  if (action) byId("empty").append(make("button", { type: "button", textContent: action, onclick: run }));
}

const NOTHING = Object.fromEntries([...CONDITIONS, "at", "photo"].map((name) => [name, null]));

function show(values) {
  setAddress({ at: null, photo: null, ...values }, { push: true });
  followAddress();
}

const showAll = () => show(NOTHING);

const CHOICES = {
  label: ({ labels }) =>
    labels.map(({ label, photos }) =>
      label === null
        ? entry("No label", photos, { label: null, unlabelled: "true" })
        : entry(label, photos, { label, unlabelled: null })),
  folder: ({ folders }) => nested(folders).map(({ folder, name, photos }) => entry(name, photos, { folder })),
  month: ({ months }) =>
    months.map(({ month, photos }) =>
      month === null ? entry("No date", photos, { month: "none" }) : entry(monthText(month), photos, { month })).reverse(),
};

const entry = (text, photos, value) => ({ text, shown: text, note: photos.toLocaleString("en"), value });

const parentOf = (path) => path.slice(0, path.lastIndexOf("/"));

/** Return folders with the photos in them and below. One that only holds another one is left out. */
function nested(folders) {
  const [all, own] = [new Map(), new Set(folders.map(({ folder }) => folder))];
  for (const { folder, photos } of folders) {
    for (let path = folder; path; path = parentOf(path)) all.set(path, (all.get(path) ?? 0) + photos);
  }
  const paths = [...all.keys()].sort();
  const passing = new Set(paths.filter((path) => all.get(parentOf(path)) === all.get(path)).map(parentOf));
  const kept = paths.filter((path) => own.has(path) || !passing.has(path));
  const start = `${parentOf(kept[0] ?? "")}/`;
  const within = kept.every((path) => path.startsWith(start));
  return kept.map((path) => ({ folder: path, name: within ? path.slice(start.length) : path, photos: all.get(path) }));
}

for (const [name, chooser] of Object.entries(chooserOf)) {
  byId(`by-${name}`).addEventListener("click", () => attempt(async () => {
    chooser.open(CHOICES[name](await facets), { onChoose: show });
  }));
}
byId("show-all").addEventListener("click", showAll);
byId("order").addEventListener("change", () => show({ order: byId("order").value === "path" ? null : byId("order").value }));

function resize(steps) {
  grid.resize(steps);
  localStorage.setItem(SIZE, grid.size);
  loadSoon();
}
byId("smaller").addEventListener("click", () => resize(-1));
byId("larger").addEventListener("click", () => resize(1));

// ---- tiles

function makeTile() {
  const image = make("img", { alt: "", decoding: "async", draggable: false });
  const caption = make("bdi", { className: "caption" });
  const link = make("a", { className: "tile", draggable: false }, make("span", { className: "frame" }, image), caption);
  const item = make("li", {}, link);
  if (mayEdit) item.append(make("input", { type: "checkbox", className: "pick" }));
  return item;
}

function drawTile(item, position) {
  const id = list.ids[position];
  const [link, pick] = item.children;
  const image = item.querySelector("img");
  const photo = list.photo(id);
  const current = position === grid.current;
  if (image.dataset.number !== String(id)) {
    image.removeAttribute("src");
    image.dataset.number = id;
    link.href = address("/browse", { photo: id });
  }
  const name = photo?.name ?? `Photo ${id}`;
  link.ariaLabel = photo?.label ? `${name}, ${photo.label}` : name;
  link.title = photo?.path ?? "";
  link.tabIndex = current ? 0 : -1;
  const caption = link.lastElementChild;
  caption.textContent = photo ? photo.label ?? photo.name : "";
  caption.classList.toggle("unlabelled", !photo?.label);
  item.classList.toggle("current", current);
  if (pick) {
    pick.checked = selection.has(id);
    pick.ariaLabel = `Select ${name}`;
    pick.tabIndex = current ? 0 : -1;
    item.classList.toggle("selected", pick.checked);
  }
  loadSoon();
}

/** Draw the photos with these numbers again. */
function redraw(ids) {
  grid.redraw(ids.map((id) => list.positions.get(id)));
  if (viewer.isOpen && ids.includes(viewer.id)) viewer.describe(list.photo(viewer.id));
}

let loadTimer = 0;

/** Load the pictures and the names of the tiles that are there in a moment. */
function loadSoon() {
  loadTimer ||= setTimeout(() => {
    loadTimer = 0;
    for (const tile of grid.tiles.values()) {
      const image = tile.querySelector("img");
      if (!image.hasAttribute("src")) image.src = thumbnail(image.dataset.number);
    }
    list.fetch((id) => id === viewer.id || grid.tiles.has(list.positions.get(id)));
  }, LOAD_MS);
}

// ---- one photo

function openPhoto(position) {
  if (position < 0 || position >= list.ids.length) return;
  setAddress({ photo: list.ids[position] }, { push: !viewer.isOpen });
  showPhoto(position);
}

function showPhoto(position) {
  const id = list.ids[position];
  grid.go(position);
  viewer.show(id, { position, count: list.ids.length, next: list.ids[position + 1] });
  const photo = list.photo(id);
  if (photo) viewer.describe(photo);
  else loadSoon();
}

function leavePhoto() {
  if (query().has("photo")) {
    if (history.state?.pushed) history.back();
    else setAddress({ photo: null });
  }
  grid.focus();
}

// ---- selecting

function showSelection() {
  grid.redraw();
  if (!mayEdit) return;
  byId("chosen").hidden = !selection.size;
  byId("chosen-count").textContent = `${selection.size.toLocaleString("en")} selected`;
  document.querySelector(".browse").classList.toggle("selecting", selection.size > 0);
}

byId("grid").addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (!item) return;
  const position = +item.dataset.position;
  const onBox = event.target.matches(".pick");
  if (mayEdit && event.shiftKey) selection.extend(position, grid.current);
  else if (mayEdit && (onBox || event.ctrlKey || event.metaKey || selection.size)) selection.toggle(position);
  else if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the browser opens it elsewhere
  else openPhoto(position);
  if (!onBox) event.preventDefault();
  grid.go(position);
});

let press = null; // of a finger

byId("grid").addEventListener("pointerdown", (event) => {
  const item = event.target.closest("li");
  if (!mayEdit || event.pointerType !== "touch" || !item || event.target.matches(".pick")) return;
  press = { x: event.clientX, y: event.clientY, done: false };
  press.timer = setTimeout(() => {
    press.done = true;
    selection.toggle(+item.dataset.position);
    navigator.vibrate?.(15);
  }, LONG_PRESS_MS);
});
byId("grid").addEventListener("pointermove", (event) => {
  if (press && Math.hypot(event.clientX - press.x, event.clientY - press.y) > SLIP_PIXELS) endPress();
});
byId("grid").addEventListener("pointercancel", endPress);
byId("grid").addEventListener("pointerup", () => clearTimeout(press?.timer));
byId("grid").addEventListener("contextmenu", (event) => press && event.preventDefault());
byId("grid").addEventListener("click", (event) => {
  if (press?.done) {
    event.preventDefault(); // the finger of a long press is lifted
    event.stopImmediatePropagation();
  }
  endPress();
}, { capture: true });

function endPress() {
  clearTimeout(press?.timer);
  press = null;
}

// ---- keys

function moveTo(position, event) {
  const goal = Math.max(0, Math.min(list.ids.length - 1, position));
  if (mayEdit && event.shiftKey) selection.extend(goal, grid.current);
  else selection.anchor = null;
  grid.go(goal);
  grid.focus();
}

byId("scroller").addEventListener("keydown", (event) => {
  if (!list.ids.length || event.altKey) return;
  const { current, columns } = grid;
  const screen = columns * Math.max(1, Math.floor(byId("scroller").clientHeight / grid.pitch));
  const goals = {
    ArrowLeft: current - 1, ArrowRight: current + 1, ArrowUp: current - columns, ArrowDown: current + columns,
    PageUp: current - screen, PageDown: current + screen, Home: 0, End: list.ids.length - 1,
  };
  const marked = selection.size ? [...selection.ids] : [list.ids[current]];
  if (event.key in goals) moveTo(goals[event.key], event);
  else if (event.key === " " && mayEdit && !event.target.matches("input")) selection.toggle(current);
  else if (event.key === "Escape" && selection.size) selection.clear();
  else if (event.key === "Delete" && mayEdit) removePhotos(marked);
  else if (event.key === "l" && mayEdit && !event.ctrlKey && !event.metaKey) labelPhotos(marked);
  else if (event.key === "+" || event.key === "-") resize(event.key === "+" ? 1 : -1);
  else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (!mayEdit || !(event.ctrlKey || event.metaKey) || event.target.matches('input[type="text"]')) return;
  if (event.key === "z" && !event.shiftKey) undo();
  else if (event.key === "a" && !document.querySelector("dialog[open]")) selection.all();
  else return;
  event.preventDefault();
});

// ---- labels, and taking photos out of the index

/** Run something, and say why if it fails. */
async function attempt(run) {
  try {
    await run();
  } catch (problem) {
    showProblem(problem);
  }
}

function showProblem(problem) {
  if (!(problem instanceof Error && "status" in problem)) throw problem;
  say(problem.message);
}

function labelPhotos(ids) {
  return attempt(async () => {
    const { labels } = await facets;
    const names = labels.filter(({ label }) => label !== null).map(({ label, photos }) => entry(label, photos, { label }));
    names.push({ text: "", shown: "No label", note: "", value: { label: null } });
    newLabel.open(names, {
      newName: (text) => ({ text, shown: text, note: "new", value: { label: text } }),
      onChoose: ({ label }) => attempt(() => giveLabel(ids, label)),
    });
  });
}

async function giveLabel(ids, label) {
  const changed = await edits.give(ids, label);
  const done = label === null ? `${photosText(changed)}: no label now.` : `${photosText(changed)}: “${label}”.`;
  say(done, changed ? { name: "Undo", run: undo } : null);
}

function undo() {
  return attempt(async () => {
    const changed = await edits.undo();
    const more = edits.steps.length ? { name: "Undo more", run: undo } : null;
    say(changed === null ? "Nothing to undo." : `${photosText(changed)}: the label before.`, more);
  });
}

function removePhotos(ids) {
  const dialog = byId("removal");
  byId("removal-title").textContent = `Take ${photosText(ids.length)} out of the index?`;
  dialog.returnValue = "";
  dialog.onclose = () => dialog.returnValue === "remove" && attempt(() => remove(ids));
  dialog.showModal();
}

async function remove(ids) {
  try {
    for (let start = 0; start < ids.length; start += MOST_REMOVED_AT_ONCE) {
      const part = ids.slice(start, start + MOST_REMOVED_AT_ONCE);
      await askJson(api("/photos", { id: part }), { method: "DELETE" });
    }
  } finally {
    await refresh();
  }
  say(`${photosText(ids.length)} taken out of the index. The files stay.`);
}

if (mayEdit) {
  byId("label-chosen").addEventListener("click", () => labelPhotos([...selection.ids]));
  byId("remove-chosen").addEventListener("click", () => removePhotos([...selection.ids]));
  byId("name-group").addEventListener("click", () => labelPhotos(list.ids));
  byId("clear-chosen").addEventListener("click", () => {
    selection.clear();
    grid.focus();
  });
  byId("viewer-label").addEventListener("click", () => labelPhotos([viewer.id]));
  byId("viewer-remove").addEventListener("click", () => removePhotos([viewer.id]));
}

addEventListener("popstate", followAddress);
grid.size = +(localStorage.getItem(SIZE) ?? grid.size);
followAddress();
