// The review page: the photos of one class, the decisions on them, and the keys.

import { Chooser, makeClosable } from "./choose.js";
import { Grid } from "./grid.js";
import { RequestError, StepQueue, finish, photoError, photoUrl, readClass, readClasses } from "./server.js";
import { Viewer, suspicionItems } from "./viewer.js";

const byId = (id) => document.getElementById(id);
const formatNumber = (number) => number.toLocaleString("en");
const countOf = (number, noun) => `${formatNumber(number)} ${noun}${number === 1 ? "" : "s"}`;

const state = {
  classes: [],
  labels: [],
  group: 0, // the class that is shown
  photos: [], // all of the class
  view: [], // those that pass the filter
  positions: new Map(), // number of a photo → its position in the view
  undecided: 0, // photos of all classes
  selected: new Set(), // numbers of photos
  anchor: null, // the position where the selection began
  recent: [], // labels, in the order of their keys 1 to 9
  loading: true,
};

const KEEP = { verdict: "keep", label: null };
const PAST_TENSE = { keep: "kept", drop: "dropped", relabel: "relabelled" };
const FILTERS = {
  all: () => true,
  undecided: (photo) => !photo.decision,
  suspected: (photo) => photo.suspicions.length > 0,
  keep: (photo) => photo.decision?.verdict === "keep",
  drop: (photo) => photo.decision?.verdict === "drop",
  relabel: (photo) => photo.decision?.verdict === "relabel",
};

const steps = new StepQueue(showSaved, reloadAfterRefusal);
const grid = new Grid(byId("scroller"), byId("grid"), makeTile, drawTile);
const viewer = new Viewer({ move, onClose: () => grid.focus() });
const labelChooser = new Chooser("labels");
const classChooser = new Chooser("classes");

// ---- tiles

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

function makeTile() {
  const image = make("img", "");
  image.alt = "";
  image.decoding = "async";
  image.draggable = false;
  const error = make("span", "photo-error");
  image.addEventListener("error", async () => {
    const number = image.dataset.number;
    if (!number) return;
    const reason = await photoError(number);
    if (number !== image.dataset.number || !reason) return;
    image.hidden = true;
    error.textContent = reason;
  });
  const frame = make("span", "tile-photo", image, error, make("span", "badge"));
  const tile = make("button", "tile", frame, make("span", "caption"));
  tile.type = "button";
  const quick = make("div", "quick");
  for (const [action, title] of [["keep", "Keep"], ["drop", "Drop"], ["relabel", "Relabel"], ["enlarge", "Enlarge"]]) {
    const button = make("button", action, icon(action));
    Object.assign(button, { type: "button", title, tabIndex: -1, ariaLabel: title });
    button.dataset.quick = action;
    quick.append(button);
  }
  return make("li", "", tile, quick);
}

function drawTile(item, position) {
  const photo = state.view[position];
  const [tile, frame] = [item.firstChild, item.querySelector(".tile-photo")];
  const [image, error, badge] = frame.children;
  const { text, verdict, suggested } = stateOf(photo);
  const classes = [verdict, verdict && (suggested ? "suggested" : "decided")];
  if (position === grid.current) classes.push("current");
  if (state.selected.has(photo.number)) classes.push("selected");
  item.className = classes.filter(Boolean).join(" ");
  frame.style.height = `${grid.pictureHeight}px`;
  if (image.dataset.number !== String(photo.number)) {
    image.dataset.number = photo.number;
    image.hidden = false;
    error.textContent = "";
    image.src = photoUrl(photo.number, "small");
  }
  badge.hidden = !verdict;
  if (verdict) badge.replaceChildren(icon(verdict), make("span", "", text));
  const caption = tile.lastChild;
  const first = photo.suspicions[0];
  caption.className = first ? "caption suspected" : "caption";
  caption.textContent = first ? first.reason || first.kind : photo.name.split("/").at(-1);
  tile.tabIndex = position === grid.current ? 0 : -1;
  tile.title = photo.name;
  tile.ariaCurrent = position === grid.current ? "true" : "false";
  const suspicions = photo.suspicions.map(({ kind, reason }) => `${kind}: ${reason}`).join("; ");
  const selected = state.selected.has(photo.number) ? ", marked" : "";
  tile.ariaLabel = `${photo.name}${selected}. ${text || "undecided"}. ${suspicions}`;
}

/** Return the verdict on a photo, or the suggested one, and its text. */
function stateOf({ decision, suggestion }) {
  const shown = decision ?? suggestion;
  if (!shown) return { text: "", verdict: null, suggested: false };
  const { verdict, label } = shown;
  if (decision) return { text: verdict === "relabel" ? label : PAST_TENSE[verdict], verdict, suggested: false };
  return { text: `${verdict === "relabel" ? label : verdict}?`, verdict, suggested: true };
}

// ---- the header and the footer

const undecidedIn = (group) => group.photos - group.keep - group.drop - group.relabel;

function setClasses(classes) {
  state.classes = classes;
  state.undecided = classes.reduce((sum, group) => sum + undecidedIn(group), 0);
}

const current = () => state.view[grid.current];

function showStatus() {
  const group = state.classes[state.group];
  const left = undecidedIn(group);
  const elsewhere = state.undecided - left;
  byId("class-name").textContent = group.shown;
  byId("bar").max = Math.max(1, group.photos);
  byId("bar").value = group.photos - left;
  byId("left").replaceChildren(
    `${formatNumber(group.photos - left)} of ${formatNumber(group.photos)} decided, ${formatNumber(left)} left`,
    make("span", "wide", state.classes.length > 1 ? `; ${formatNumber(elsewhere)} in other classes` : ""),
  );
  byId("next-class").disabled = !elsewhere;
  const photo = current();
  byId("about-name").textContent = photo ? positionAndName(photo) : "";
  byId("about-why").replaceChildren(...(photo ? suspicionItems(photo) : []));
  byId("recent").hidden = !state.recent.length;
  byId("recent").replaceChildren(
    ...state.recent.slice(0, 3).map((label, index) => make("span", "", make("kbd", "", String(index + 1)), ` ${label}`)),
  );
  if (viewer.isOpen && photo) {
    const { text, suggested } = stateOf(photo);
    viewer.show(photo, { text: suggested ? `suggested: ${text}` : text || "undecided", verdict: stateOf(photo).verdict },
      state.view[grid.current + 1]);
  } else if (viewer.isOpen) viewer.close();
}

function positionAndName(photo) {
  const selected = state.selected.size ? `${countOf(state.selected.size, "photo")} marked; ` : "";
  return `${selected}${formatNumber(grid.current + 1)}/${formatNumber(state.view.length)}  ${photo.name}`;
}

function showSaved() {
  const shown = byId("saved");
  shown.textContent = steps.error ? `${steps.pending} not saved` : steps.pending ? "Saving…" : "Saved";
  shown.classList.toggle("failed", Boolean(steps.error));
  byId("trouble").hidden = !steps.error;
  byId("trouble").firstElementChild.textContent = steps.error && `Not saved: ${steps.error}.`;
}

let toastTimer;

/** Show a message for a few seconds. */
function say(text) {
  byId("said").textContent = text; // for screen readers
  const toast = byId("toast");
  toast.textContent = text;
  toast.hidePopover();
  toast.showPopover(); // a popover is also above a dialog
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toast.hidePopover(), 2500 + 40 * text.length);
}

async function reloadAfterRefusal(reason) {
  setClasses((await readClasses()).classes);
  await openClass(state.group, { photo: current()?.number });
  say(`Not done: ${reason}`);
}

// ---- classes and filters

/** Show a class. The options are those of `applyFilter`. */
async function openClass(group, options) {
  await steps.idle();
  state.loading = true;
  const answer = await readClass(group);
  steps.undoable = answer.steps;
  Object.assign(state, { group, photos: answer.photos, loading: false });
  for (const { decision } of answer.photos) if (decision?.label) remember(decision.label);
  applyFilter(options);
}

/** Apply the filter. `photo`: the photo to go to; `after`: go to the first undecided one after it. */
function applyFilter({ photo, after } = {}) {
  state.view = state.photos.filter(FILTERS[byId("filter").value]);
  if (photo !== undefined && !state.view.some(({ number }) => number === photo)) {
    byId("filter").value = "all";
    state.view = state.photos;
  }
  state.positions = new Map(state.view.map(({ number }, position) => [number, position]));
  clearSelection();
  const start = state.positions.get(photo) ?? Math.max(0, undecidedFrom((state.positions.get(after) ?? -1) + 1));
  grid.setCount(state.view.length, start);
  grid.go(start, { atTop: start >= grid.columns });
  byId("empty").hidden = state.view.length > 0;
  if (!state.view.length) {
    const button = make("button", "", "Show all");
    button.type = "button";
    button.addEventListener("click", () => setFilter("all"));
    byId("empty").replaceChildren(make("p", "", "No photo of this class is like that."), button);
  }
  sessionStorage.setItem("filter", byId("filter").value);
  showStatus();
  if (!document.querySelector("dialog[open]")) grid.focus();
}

function setFilter(name) {
  byId("filter").value = name;
  applyFilter({ after: current()?.number });
}

/** Return the first undecided position from `position` on, then from the start; -1 if none. */
function undecidedFrom(position) {
  const count = state.view.length;
  for (let step = 0; step < count; step++) {
    const candidate = (position + step) % count;
    if (!state.view[candidate].decision) return candidate;
  }
  return -1;
}

/** Return the next class with photos to decide, or the previous class; -1 if there is none. */
function neighbourClass(direction) {
  const count = state.classes.length;
  const suspected = byId("filter").value === "suspected";
  for (let step = 1; step < count; step++) {
    const candidate = (state.group + direction * step + count * step) % count;
    const group = state.classes[candidate];
    if (direction < 0 || (suspected ? group.suspected : undecidedIn(group))) return candidate;
  }
  return -1;
}

async function goToClass(direction) {
  const next = neighbourClass(direction);
  if (next < 0) return say(nothingLeft());
  await openClass(next);
  say(`${state.classes[next].shown}: ${countOf(state.classes[next].photos, "photo")}`);
}

function chooseClass() {
  const names = state.classes.map((group, value) => {
    const left = undecidedIn(group);
    const suspected = group.suspected ? `, ${formatNumber(group.suspected)} suspected` : "";
    const note = left ? `${formatNumber(left)} of ${formatNumber(group.photos)} left${suspected}` : "done";
    return { text: group.shown, shown: group.shown, note, value };
  });
  classChooser.open(names, { selected: state.group, onChoose: (group) => openClass(group) });
}

// ---- moving and selecting

function move(by, select = false) {
  go(Math.max(0, Math.min(state.view.length - 1, grid.current + by)), select);
}

/** Make a photo the current one. `select`: select all from the anchor to it. */
function go(position, select = false, options) {
  if (!state.view.length) return;
  const hadSelection = state.selected.size > 0;
  if (select) {
    state.anchor ??= grid.current;
    state.selected.clear();
    const [from, to] = [state.anchor, position].sort((one, other) => one - other);
    for (const photo of state.view.slice(from, to + 1)) state.selected.add(photo.number);
  } else {
    clearSelection();
  }
  grid.go(position, options);
  if (select || hadSelection) grid.redraw();
  showStatus();
  if (!viewer.isOpen) grid.focus();
}

function clearSelection() {
  state.selected.clear();
  state.anchor = null;
}

/** Select a photo, or no longer. */
function toggleSelected(position) {
  const { number } = state.view[position];
  const first = !state.selected.size && pointer !== "touch";
  if (first && position !== grid.current) state.selected.add(current().number);
  if (!state.selected.delete(number)) state.selected.add(number);
  state.anchor = position;
  grid.go(position);
  grid.redraw();
  showStatus();
}

// ---- deciding

/** Save [photo, decision] pairs as one step, here and on the server. */
function saveStep(pairs) {
  if (steps.error) {
    say("Not saved. Try again first.");
    return false;
  }
  const changed = pairs.filter(([photo, decision]) => !same(photo.decision, decision));
  for (const [photo, decision] of changed) setDecision(photo, decision);
  if (changed.length) {
    steps.save(changed.map(([photo, decision]) => ({ photo: photo.number, ...decision })));
  }
  grid.redraw(changed.map(([{ number }]) => state.positions.get(number)));
  return true;
}

const same = (one, other) => one?.verdict === other?.verdict && one?.label === other?.label;

/** Set the decision of a photo of this class, and the counts. */
function setDecision(photo, decision) {
  const group = state.classes[state.group];
  if (photo.decision) group[photo.decision.verdict] -= 1;
  if (decision) group[decision.verdict] += 1;
  const newlyDecided = !photo.decision - !decision;
  state.undecided -= newlyDecided;
  if (photo.suspicions.length) group.suspected -= newlyDecided; // counts undecided photos only
  photo.decision = decision;
  if (decision?.label) remember(decision.label);
}

const suggestionFor = (photo) => photo.suggestion ?? KEEP;

/** Decide on the selected photos, or on the current one, and go to the next. */
function decide(decisionFor) {
  if (!current()) return;
  const several = state.selected.size > 0;
  const photos = several ? state.view.filter(({ number }) => state.selected.has(number)) : [current()];
  if (!saveStep(photos.map((photo) => [photo, decisionFor(photo)]))) return;
  if (several) say(summary(photos));
  const last = state.positions.get(photos.at(-1).number);
  go(Math.min(last + 1, state.view.length - 1));
  sayWhenDone();
}

function summary(photos) {
  const counts = {};
  for (const { decision } of photos) counts[decision.verdict] = (counts[decision.verdict] ?? 0) + 1;
  const parts = Object.entries(counts).map(([verdict, count]) => `${formatNumber(count)} ${PAST_TENSE[verdict]}`);
  return parts.join(", ");
}

/** Return whether all photos that are shown are decided, and say so. */
function sayWhenDone(before = "") {
  const group = state.classes[state.group];
  if (undecidedFrom(0) >= 0) return false;
  const next = neighbourClass(1);
  const advice = next < 0 ? nothingLeft() : `N goes to ${state.classes[next].shown}.`;
  const left = undecidedIn(group);
  say(`${before}${left ? `${countOf(left, "photo")} of ${group.shown} left, not shown now.` : `${group.shown} is done.`} ${advice}`);
  return true;
}

function nothingLeft() {
  if (!state.undecided) return "Everything is decided: Finish writes the files.";
  const suspected = byId("filter").value === "suspected";
  return `No ${suspected ? "suspected" : "undecided"} photo is left in the other classes.`;
}

/** Do what is suggested for each photo, and keep the others. */
function takeSuggestions(photos) {
  if (!saveStep(photos.map((photo) => [photo, suggestionFor(photo)]))) return false;
  if (photos.length) {
    const text = `${summary(photos)}. `;
    if (!sayWhenDone(text)) say(`${text}U takes it back.`);
  }
  return true;
}

function takeScreen() {
  if (!state.view.length) return;
  if (state.selected.size) return decide(suggestionFor);
  const [first, last] = grid.visible();
  const onScreen = [];
  let notLoaded = 0;
  for (let position = first; position <= last; position++) {
    if (state.view[position].decision) continue;
    if (grid.isLoaded(position)) onScreen.push(state.view[position]);
    else notLoaded += 1;
  }
  if (!takeSuggestions(onScreen)) return;
  if (notLoaded) return say(`${countOf(notLoaded, "photo")} not loaded yet: press Space again.`);
  if (last + 1 < state.view.length) return go(last + 1, false, { atTop: true });
  const left = undecidedFrom(0);
  if (left >= 0) go(left, false, { atTop: true });
  else go(last);
}

function takeRest() {
  const left = state.view.filter((photo) => !photo.decision);
  if (takeSuggestions(left) && left.length) go(grid.current);
}

function relabel() {
  if (!current()) return;
  const own = state.classes[state.group].label;
  const first = [current().suggestion?.label, ...state.recent].filter(Boolean);
  const names = [...new Set([...first, ...state.labels])].map((label) => {
    const note =
      label === own ? "no change" : label === current().suggestion?.label ? "suggested" : state.recent.includes(label) ? "used" : "";
    return { text: label, shown: label, note, value: label };
  });
  labelChooser.open(names, {
    newName: (text) => ({ text, shown: text, note: "new label", value: text }),
    onChoose: (label) => relabelAs(label),
  });
}

function relabelAs(label) {
  if (label === state.classes[state.group].label) return decide(() => KEEP);
  decide(() => ({ verdict: "relabel", label }));
}

/** Give a label its own key. With nine keys in use, the oldest label loses its key. */
function remember(label) {
  if (!state.labels.includes(label)) state.labels.push(label);
  if (state.recent.includes(label)) return;
  state.recent.push(label);
  if (state.recent.length > 9) state.recent.shift();
}

function undo() {
  if (steps.error) return say("Not saved. Try again first.");
  steps.undo(async ({ changed, steps: undoable }) => {
    if (!changed.length) return say(undoable ? "Already taken back." : "Nothing to undo.");
    for (const { photo, class: group, decision } of changed) {
      const shown = group === state.group && state.photos.find(({ number }) => number === photo);
      if (shown) setDecision(shown, decision);
    }
    const last = changed.at(-1); // the first photo of a step over several
    if (last.class !== state.group) {
      const { classes } = await readClasses();
      setClasses(classes);
      setTimeout(() => openClass(last.class, { photo: last.photo }));
      return say(`Taken back in ${classes[last.class].shown}`);
    }
    const position = state.positions.get(last.photo);
    if (position === undefined) applyFilter({ photo: last.photo });
    else go(position);
    grid.redraw();
    say(changed.length > 1 ? `${countOf(changed.length, "decision")} taken back` : "Taken back");
  });
}

// ---- finishing

function openFinish() {
  const sum = (key) => state.classes.reduce((total, group) => total + group[key], 0);
  const decided = sum("keep") + sum("drop") + sum("relabel");
  byId("finish-counts").textContent =
    `${countOf(sum("photos"), "photo")}: ${formatNumber(sum("keep"))} kept, ${formatNumber(sum("drop"))} dropped, ` +
    `${formatNumber(sum("relabel"))} relabelled, ${formatNumber(sum("photos") - decided)} undecided.`;
  byId("finish-done").textContent = "";
  byId("finish").showModal();
}

async function writeFiles(stop) {
  await steps.idle();
  try {
    const { decisions, labels } = await finish(stop);
    byId("finish-done").textContent = `Wrote ${decisions} and ${labels}.`;
    if (stop) showEnd(`Wrote ${decisions} and ${labels}. The review has ended: this page can be closed.`);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    byId("finish-done").textContent = `Not written: ${error.message}.`;
  }
}

/** Replace the page by a message. */
function showEnd(text) {
  const shown = make("p", "", text);
  shown.id = "empty";
  document.querySelector(".review").replaceChildren(shown);
}

// ---- keys, mouse, touch

const actions = {
  keep: () => decide(() => KEEP),
  drop: () => decide(() => ({ verdict: "drop", label: null })),
  relabel,
  undo,
  screen: takeScreen,
  enlarge: () => {
    if (!current()) return;
    viewer.dialog.showModal();
    showStatus();
  },
};

const pageOf = (direction) => () => {
  const rows = Math.max(1, Math.floor(byId("scroller").clientHeight / grid.pitch));
  return direction * rows * grid.columns;
};
const KEYS = {
  k: actions.keep,
  d: actions.drop,
  x: actions.drop,
  delete: actions.drop,
  r: relabel,
  u: undo,
  backspace: undo,
  e: actions.enlarge,
  z: actions.enlarge,
  enter: () => decide(suggestionFor),
  " ": () => (viewer.isOpen ? decide(suggestionFor) : takeScreen()),
  j: () => {
    const next = undecidedFrom(grid.current + 1);
    if (next >= 0) go(next);
    else sayWhenDone();
  },
  home: () => go(0),
  end: () => go(state.view.length - 1),
  c: chooseClass,
  n: () => goToClass(1),
  p: () => goToClass(-1),
  f: () => {
    const names = ["all", "undecided", "suspected"];
    setFilter(names[(names.indexOf(byId("filter").value) + 1) % names.length]);
  },
  "+": () => resize(1),
  "=": () => resize(1),
  "-": () => resize(-1),
  "?": () => byId("help").showModal(),
  escape: () => {
    clearSelection();
    grid.redraw();
    showStatus();
  },
};
const MOVES = {
  arrowleft: () => -1,
  arrowright: () => 1,
  arrowup: () => (viewer.isOpen ? -1 : -grid.columns),
  arrowdown: () => (viewer.isOpen ? 1 : grid.columns),
  pageup: pageOf(-1),
  pagedown: pageOf(1),
};
const VIEWER_KEYS = new Set(["k", "d", "x", "delete", "r", "u", "backspace", "enter", " ", "j", "home", "end"]);

function resize(steps) {
  grid.resize(steps);
  grid.redraw();
  sessionStorage.setItem("size", grid.size);
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing || state.loading) return;
  const key = event.key.toLowerCase();
  const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
  if (dialog && dialog !== viewer.dialog) return;
  const target = event.target;
  if (target.matches("input, select, textarea")) return;
  if ((key === "enter" || key === " ") && target.closest("a, summary, button:not(.tile)")) return;
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if (key === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey) {
      event.preventDefault();
      undo();
    }
    return;
  }
  if (key.length === 1 && key !== " " && !byId("single-keys").checked) return;
  if (key === "escape" && dialog) return; // the browser closes the dialog
  if (key in MOVES) {
    event.preventDefault();
    move(MOVES[key](), event.shiftKey && !viewer.isOpen);
  } else if (/^[1-9]$/.test(key)) {
    const label = state.recent[key - 1];
    if (label !== undefined) relabelAs(label);
  } else if (key === "enter" && event.shiftKey) {
    event.preventDefault();
    if (!viewer.isOpen) takeRest();
  } else if (viewer.isOpen && (key === "e" || key === "z")) {
    viewer.close();
  } else if (key in KEYS && (!viewer.isOpen || VIEWER_KEYS.has(key))) {
    event.preventDefault();
    // A key that is held down must not decide on photos that the user has not seen.
    if (!event.repeat || key === "j") KEYS[key]();
  }
});
// Some browsers press a button when the space bar is released.
document.addEventListener("keyup", (event) => {
  if (event.key === " " && event.target.matches(".tile")) event.preventDefault();
});

let pointer = "mouse";
document.addEventListener("pointerdown", (event) => (pointer = event.pointerType), true);

byId("grid").addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (!item || event.detail === 0) return;
  const position = +item.dataset.position;
  const action = event.target.closest("[data-quick]")?.dataset.quick;
  if (action) {
    if (!state.selected.has(state.view[position].number)) go(position);
    actions[action]();
  } else if (event.shiftKey) go(position, true);
  else if (event.ctrlKey || event.metaKey || (pointer === "touch" && state.selected.size)) toggleSelected(position);
  else if (pointer === "touch" && position === grid.current) actions.enlarge();
  else go(position);
});
byId("grid").addEventListener("dblclick", (event) => {
  if (event.target.closest(".tile") && pointer !== "touch") actions.enlarge();
});
// A long touch selects a photo. Then a tap selects another one.
byId("grid").addEventListener("contextmenu", (event) => {
  const item = event.target.closest("li");
  if (pointer !== "touch" || !item) return;
  event.preventDefault();
  toggleSelected(+item.dataset.position);
});
for (const bar of document.querySelectorAll(".actions")) {
  // The photo keeps the focus, so that the next key acts on it.
  bar.addEventListener("mousedown", (event) => event.preventDefault());
  bar.addEventListener("click", (event) => actions[event.target.closest("[data-do]")?.dataset.do]?.());
}
byId("class-button").addEventListener("click", chooseClass);
byId("next-class").addEventListener("click", () => goToClass(1));
byId("filter").addEventListener("change", (event) => setFilter(event.target.value));
byId("help-button").addEventListener("click", KEYS["?"]);
byId("finish-button").addEventListener("click", openFinish);
byId("finish-write").addEventListener("click", () => writeFiles(false));
byId("finish-stop")?.addEventListener("click", () => writeFiles(true));
byId("trouble").lastElementChild.addEventListener("click", () => steps.retry());
for (const name of ["finish", "help"]) makeClosable(byId(name));
window.addEventListener("beforeunload", (event) => {
  if (steps.pending) event.preventDefault();
});

async function start() {
  byId("filter").value = sessionStorage.getItem("filter") ?? "all";
  grid.size = +(sessionStorage.getItem("size") ?? (window.innerWidth < 700 ? 1 : 3));
  const { classes, labels, problems, steps: undoable, class: group, photo } = await readClasses();
  setClasses(classes);
  state.labels = labels;
  steps.undoable = undoable;
  byId("finish-problems").replaceChildren(...problems.map((problem) => make("li", "", problem)));
  const undecided = classes.findIndex((candidate) => undecidedIn(candidate));
  await openClass(group ?? Math.max(0, undecided), { after: photo ?? undefined });
  if (problems.length) say(problems[0]);
}

start().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").firstElementChild.textContent = `The review cannot be shown: ${error.message}.`;
  if (!(error instanceof RequestError)) throw error;
});
