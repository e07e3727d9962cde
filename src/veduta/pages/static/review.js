// The review: what is decided about the photos of one class, and what each key does.

import { Chooser, closable } from "./choose.js";
import { Grid } from "./grid.js";
import { Outbox, Refused, finish, photoUrl, readClass, readClasses, whyLost } from "./server.js";
import { Viewer, reasons } from "./viewer.js";

const byId = (id) => document.getElementById(id);
const many = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

const state = {
  classes: [],
  labels: [],
  group: 0, // the class that is shown
  photos: [], // all of it
  view: [], // those that the filter lets through
  places: new Map(), // number of a photo → its position in the view
  left: 0, // undecided photos of all classes
  marked: new Set(), // numbers of photos
  anchor: null, // where marking began
  recent: [], // labels, in the order of their keys
  loading: true,
};

const KEEP = { verdict: "keep", label: null };
const DONE = { keep: "kept", drop: "dropped", relabel: "relabelled" };
const FILTERS = {
  all: () => true,
  undecided: (photo) => !photo.decision,
  suspected: (photo) => photo.why.length > 0,
  keep: (photo) => photo.decision?.verdict === "keep",
  drop: (photo) => photo.decision?.verdict === "drop",
  relabel: (photo) => photo.decision?.verdict === "relabel",
};

const outbox = new Outbox(showSaved, rejected);
const grid = new Grid(byId("scroller"), byId("grid"), makeTile, drawTile);
const viewer = new Viewer({ move, onClose: () => grid.focus() });
const labels = new Chooser("labels");
const classes = new Chooser("classes");

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
  const lost = make("span", "lost");
  image.addEventListener("error", async () => {
    const number = image.dataset.number;
    if (!number) return;
    const why = await whyLost(number);
    if (number !== image.dataset.number || !why) return;
    image.hidden = true;
    lost.textContent = why;
  });
  const frame = make("span", "frame", image, lost, make("span", "badge"));
  const tile = make("button", "tile", frame, make("span", "caption"));
  tile.type = "button";
  const quick = make("div", "quick");
  for (const [what, title] of [["keep", "Keep"], ["drop", "Drop"], ["relabel", "Relabel"], ["enlarge", "Enlarge"]]) {
    const button = make("button", what, icon(what));
    Object.assign(button, { type: "button", title, tabIndex: -1, ariaLabel: title });
    button.dataset.quick = what;
    quick.append(button);
  }
  return make("li", "", tile, quick);
}

function drawTile(item, position) {
  const photo = state.view[position];
  const [tile, frame] = [item.firstChild, item.querySelector(".frame")];
  const [image, lost, badge] = frame.children;
  const { text, verdict, suggested } = stateOf(photo);
  const classes = [verdict, verdict && (suggested ? "suggested" : "decided")];
  if (position === grid.current) classes.push("current");
  if (state.marked.has(photo.number)) classes.push("marked");
  item.className = classes.filter(Boolean).join(" ");
  frame.style.height = `${grid.pictureHeight}px`;
  if (image.dataset.number !== String(photo.number)) {
    image.dataset.number = photo.number;
    image.hidden = false;
    lost.textContent = "";
    image.src = photoUrl(photo.number, "small");
  }
  badge.hidden = !verdict;
  if (verdict) badge.replaceChildren(icon(verdict), make("span", "", text));
  const caption = tile.lastChild;
  const first = photo.why[0];
  caption.className = first ? "caption why" : "caption";
  caption.textContent = first ? first.reason || first.kind : photo.name.split("/").at(-1);
  tile.tabIndex = position === grid.current ? 0 : -1;
  tile.title = photo.name;
  tile.ariaCurrent = position === grid.current ? "true" : "false";
  const why = photo.why.map(({ kind, reason }) => `${kind}: ${reason}`).join("; ");
  const marked = state.marked.has(photo.number) ? ", marked" : "";
  tile.ariaLabel = `${photo.name}${marked}. ${text || "undecided"}. ${why}`;
}

/** Return the verdict on a photo, or the one suggested, and how to say it. */
function stateOf({ decision, suggestion }) {
  const shown = decision ?? suggestion;
  if (!shown) return { text: "", verdict: null, suggested: false };
  const { verdict, label } = shown;
  if (decision) return { text: verdict === "relabel" ? label : DONE[verdict], verdict, suggested: false };
  return { text: `${verdict === "relabel" ? label : verdict}?`, verdict, suggested: true };
}

// ---- what is shown

const undecidedIn = (group) => group.photos - group.keep - group.drop - group.relabel;

function setClasses(classes) {
  state.classes = classes;
  state.left = classes.reduce((sum, group) => sum + undecidedIn(group), 0);
}

const current = () => state.view[grid.current];

function showAll() {
  const group = state.classes[state.group];
  const left = undecidedIn(group);
  const elsewhere = state.left - left;
  byId("class-name").textContent = group.shown;
  byId("bar").max = Math.max(1, group.photos);
  byId("bar").value = group.photos - left;
  const count = (number) => number.toLocaleString("en");
  byId("left").replaceChildren(
    `${count(group.photos - left)} of ${count(group.photos)} decided, ${count(left)} left`,
    make("span", "wide", state.classes.length > 1 ? `; ${count(elsewhere)} in other classes` : ""),
  );
  byId("next-class").disabled = !elsewhere;
  const photo = current();
  byId("about-name").textContent = photo ? aboutName(photo) : "";
  byId("about-why").replaceChildren(...(photo ? reasons(photo) : []));
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

function aboutName(photo) {
  const marked = state.marked.size ? `${many(state.marked.size, "photo")} marked; ` : "";
  return `${marked}${(grid.current + 1).toLocaleString("en")}/${state.view.length.toLocaleString("en")}  ${photo.name}`;
}

function showSaved() {
  const shown = byId("saved");
  shown.textContent = outbox.trouble ? `${outbox.pending} not saved` : outbox.pending ? "Saving…" : "Saved";
  shown.classList.toggle("lost", Boolean(outbox.trouble));
  byId("trouble").hidden = !outbox.trouble;
  byId("trouble").firstElementChild.textContent = outbox.trouble && `Not saved: ${outbox.trouble}.`;
}

let toastEnds;
function say(text) {
  byId("said").textContent = text;
  const toast = byId("toast");
  toast.textContent = text;
  toast.hidePopover();
  toast.showPopover(); // above a dialog too
  clearTimeout(toastEnds);
  toastEnds = setTimeout(() => toast.hidePopover(), 2500 + 40 * text.length);
}

async function rejected(why) {
  setClasses((await readClasses()).classes);
  await openClass(state.group, { at: current()?.number });
  say(`Not done: ${why}`);
}

// ---- classes and filters

async function openClass(group, { at, after } = {}) {
  await outbox.idle();
  state.loading = true;
  const { photos, steps } = await readClass(group);
  outbox.steps = steps;
  Object.assign(state, { group, photos, loading: false });
  for (const { decision } of photos) if (decision?.label) remember(decision.label);
  filter({ at, after });
}

/** Apply the filter anew. `at`: the photo to go to; `after`: go to the first undecided behind it. */
function filter({ at, after } = {}) {
  state.view = state.photos.filter(FILTERS[byId("filter").value]);
  if (at !== undefined && !state.view.some((photo) => photo.number === at)) {
    byId("filter").value = "all";
    state.view = state.photos;
  }
  state.places = new Map(state.view.map(({ number }, position) => [number, position]));
  unmark();
  const start = state.places.get(at) ?? Math.max(0, undecidedFrom((state.places.get(after) ?? -1) + 1));
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
  showAll();
  if (!document.querySelector("dialog[open]")) grid.focus();
}

function setFilter(name) {
  byId("filter").value = name;
  filter({ after: current()?.number });
}

/** Return the first undecided position from `position` on, round the end; -1 if there is none. */
function undecidedFrom(position) {
  const count = state.view.length;
  for (let step = 0; step < count; step++) {
    const at = (position + step) % count;
    if (!state.view[at].decision) return at;
  }
  return -1;
}

function neighbourClass(direction) {
  const count = state.classes.length;
  const suspected = byId("filter").value === "suspected";
  for (let step = 1; step < count; step++) {
    const at = (state.group + direction * step + count * step) % count;
    const group = state.classes[at];
    if (direction < 0 || (suspected ? group.suspected : undecidedIn(group))) return at;
  }
  return -1;
}

async function goToClass(direction) {
  const next = neighbourClass(direction);
  if (next < 0) return say(noneLeft());
  await openClass(next);
  say(`${state.classes[next].shown}: ${many(state.classes[next].photos, "photo")}`);
}

function chooseClass() {
  const names = state.classes.map((group, value) => {
    const left = undecidedIn(group);
    const suspected = group.suspected ? `, ${group.suspected.toLocaleString("en")} suspected` : "";
    const note = left ? `${left.toLocaleString("en")} of ${group.photos.toLocaleString("en")} left${suspected}` : "done";
    return { text: group.shown, shown: group.shown, note, value };
  });
  classes.open(names, { chosen: state.group, done: (group) => openClass(group) });
}

// ---- moving and marking

function move(by, marking = false) {
  go(Math.max(0, Math.min(state.view.length - 1, grid.current + by)), marking);
}

function go(position, marking = false, options) {
  if (!state.view.length) return;
  const marked = state.marked.size;
  if (marking) {
    state.anchor ??= grid.current;
    state.marked.clear();
    const [from, to] = [state.anchor, position].sort((one, other) => one - other);
    for (const photo of state.view.slice(from, to + 1)) state.marked.add(photo.number);
  } else {
    unmark();
  }
  grid.go(position, options);
  if (marking || marked) grid.redraw();
  showAll();
  if (!viewer.isOpen) grid.focus();
}

function unmark() {
  state.marked.clear();
  state.anchor = null;
}

function toggle(position) {
  const { number } = state.view[position];
  const first = !state.marked.size && pointer !== "touch";
  if (first && position !== grid.current) state.marked.add(current().number);
  if (!state.marked.delete(number)) state.marked.add(number);
  state.anchor = position;
  grid.go(position);
  grid.redraw();
  showAll();
}

// ---- deciding

/** Make one step of [photo, decision] pairs, here and on the server. */
function apply(pairs) {
  if (outbox.trouble) {
    say("Not saved. Try again first.");
    return false;
  }
  const changed = pairs.filter(([photo, decision]) => !same(photo.decision, decision));
  for (const [photo, decision] of changed) put(photo, decision);
  if (changed.length) {
    outbox.step(changed.map(([photo, decision]) => ({ photo: photo.number, ...decision })));
  }
  grid.redraw(changed.map(([{ number }]) => state.places.get(number)));
  return true;
}

const same = (one, other) => one?.verdict === other?.verdict && one?.label === other?.label;

function put(photo, decision) {
  const group = state.classes[state.group];
  if (photo.decision) group[photo.decision.verdict] -= 1;
  if (decision) group[decision.verdict] += 1;
  const less = !photo.decision - !decision;
  state.left -= less;
  if (photo.why.length) group.suspected -= less; // those still to decide
  photo.decision = decision;
  if (decision?.label) remember(decision.label);
}

const suggestionFor = (photo) => photo.suggestion ?? KEEP;

/** Decide on the marked photos or the current one, and go on. */
function decide(decisionFor) {
  if (!current()) return;
  const several = state.marked.size > 0;
  const photos = several ? state.view.filter(({ number }) => state.marked.has(number)) : [current()];
  if (!apply(photos.map((photo) => [photo, decisionFor(photo)]))) return;
  if (several) say(summary(photos));
  const last = state.places.get(photos.at(-1).number);
  go(Math.min(last + 1, state.view.length - 1));
  tellWhenDone();
}

function summary(photos) {
  const counts = {};
  for (const { decision } of photos) counts[decision.verdict] = (counts[decision.verdict] ?? 0) + 1;
  const parts = Object.entries(counts).map(([verdict, count]) => `${count.toLocaleString("en")} ${DONE[verdict]}`);
  return parts.join(", ");
}

/** Return whether all that is shown, or the class, is done, and say so. */
function tellWhenDone(before = "") {
  const group = state.classes[state.group];
  if (undecidedFrom(0) >= 0) return false;
  const next = neighbourClass(1);
  const what = next < 0 ? noneLeft() : `N goes to ${state.classes[next].shown}.`;
  const left = undecidedIn(group);
  say(`${before}${left ? `${many(left, "photo")} of ${group.shown} left, not shown now.` : `${group.shown} is done.`} ${what}`);
  return true;
}

function noneLeft() {
  if (!state.left) return "Everything is decided: Finish writes the files.";
  const suspected = byId("filter").value === "suspected";
  return `No ${suspected ? "suspected" : "undecided"} photo is left in the other classes.`;
}

function take(photos, what) {
  if (!apply(photos.map((photo) => [photo, suggestionFor(photo)]))) return false;
  if (photos.length) {
    const text = `${summary(photos)}${what}. `;
    if (!tellWhenDone(text)) say(`${text}U takes it back.`);
  }
  return true;
}

function takeScreen() {
  if (!state.view.length) return;
  if (state.marked.size) return decide(suggestionFor);
  const [first, last] = grid.visible();
  const here = [];
  let missing = 0;
  for (let position = first; position <= last; position++) {
    if (state.view[position].decision) continue;
    if (grid.isLoaded(position)) here.push(state.view[position]);
    else missing += 1;
  }
  if (!take(here, "")) return;
  if (missing) return say(`${many(missing, "photo")} not on the screen yet: once more, please.`);
  if (last + 1 < state.view.length) return go(last + 1, false, { atTop: true });
  const left = undecidedFrom(0);
  if (left >= 0) go(left, false, { atTop: true });
  else go(last);
}

function takeRest() {
  const left = state.view.filter((photo) => !photo.decision);
  if (take(left, "") && left.length) go(grid.current);
}

function relabel() {
  if (!current()) return;
  const own = state.classes[state.group].label;
  const first = [current().suggestion?.label, ...state.recent].filter(Boolean);
  const names = [...new Set([...first, ...state.labels])].map((label) => {
    const note =
      label === own ? "as it is" : label === current().suggestion?.label ? "suggested" : state.recent.includes(label) ? "used" : "";
    return { text: label, shown: label, note, value: label };
  });
  labels.open(names, {
    fresh: (text) => ({ text, shown: text, note: "new label", value: text }),
    done: (label) => relabelAs(label),
  });
}

function relabelAs(label) {
  if (label === state.classes[state.group].label) return decide(() => KEEP);
  decide(() => ({ verdict: "relabel", label }));
}

/** Give a label a key of its own; with nine in use, that of the oldest. */
function remember(label) {
  if (!state.labels.includes(label)) state.labels.push(label);
  if (state.recent.includes(label)) return;
  state.recent.push(label);
  if (state.recent.length > 9) state.recent.shift();
}

function undo() {
  if (outbox.trouble) return say("Not saved. Try again first.");
  outbox.undo(async ({ changed, steps }) => {
    if (!changed.length) return say(steps ? "Already taken back." : "Nothing to undo.");
    for (const { photo, class: group, decision } of changed) {
      const shown = group === state.group && state.photos.find(({ number }) => number === photo);
      if (shown) put(shown, decision);
    }
    const last = changed.at(-1); // of a step over many, the first
    if (last.class !== state.group) {
      const { classes } = await readClasses();
      setClasses(classes);
      setTimeout(() => openClass(last.class, { at: last.photo }));
      return say(`Taken back in ${classes[last.class].shown}`);
    }
    const position = state.places.get(last.photo);
    if (position === undefined) filter({ at: last.photo });
    else go(position);
    grid.redraw();
    say(changed.length > 1 ? `${many(changed.length, "decision")} taken back` : "Taken back");
  });
}

// ---- finishing

function openFinish() {
  const sum = (what) => state.classes.reduce((total, group) => total + group[what], 0);
  const decided = sum("keep") + sum("drop") + sum("relabel");
  byId("finish-counts").textContent =
    `${many(sum("photos"), "photo")}: ${sum("keep").toLocaleString("en")} kept, ${sum("drop").toLocaleString("en")} dropped, ` +
    `${sum("relabel").toLocaleString("en")} relabelled, ${(sum("photos") - decided).toLocaleString("en")} undecided.`;
  byId("finish-done").textContent = "";
  byId("finish").showModal();
}

async function writeFiles(stop) {
  await outbox.idle();
  try {
    const { decisions, labels: names } = await finish(stop);
    byId("finish-done").textContent = `Wrote ${decisions} and ${names}.`;
    if (stop) end(`Wrote ${decisions} and ${names}. The review has ended: this page can be closed.`);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    byId("finish-done").textContent = `Not written: ${error.message}.`;
  }
}

function end(text) {
  const shown = make("p", "", text);
  shown.id = "empty";
  document.body.replaceChildren(shown);
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
    showAll();
  },
};

const page = (direction) => () => {
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
    else tellWhenDone();
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
    unmark();
    grid.redraw();
    showAll();
  },
};
const MOVES = {
  arrowleft: () => -1,
  arrowright: () => 1,
  arrowup: () => (viewer.isOpen ? -1 : -grid.columns),
  arrowdown: () => (viewer.isOpen ? 1 : grid.columns),
  pageup: page(-1),
  pagedown: page(1),
};
const IN_VIEWER = new Set(["k", "d", "x", "delete", "r", "u", "backspace", "enter", " ", "j", "home", "end"]);

function resize(by) {
  grid.resize(by);
  grid.redraw();
  sessionStorage.setItem("size", grid.size);
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing || state.loading) return;
  const key = event.key.toLowerCase();
  const other = [...document.querySelectorAll("dialog[open]")].at(-1);
  if (other && other !== viewer.dialog) return;
  const target = event.target;
  if (target.matches("input, select, textarea")) return;
  if ((key === "enter" || key === " ") && target.closest("button:not(.tile)")) return;
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if (key === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey) {
      event.preventDefault();
      undo();
    }
    return;
  }
  if (key.length === 1 && key !== " " && !byId("single-keys").checked) return;
  if (key === "escape" && other) return; // the browser closes the dialog
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
  } else if (key in KEYS && (!viewer.isOpen || IN_VIEWER.has(key))) {
    event.preventDefault();
    // A key held down must not decide about photos that nobody has seen.
    if (!event.repeat || key === "j") KEYS[key]();
  }
});
// Some browsers press a button when the space bar comes up again.
document.addEventListener("keyup", (event) => {
  if (event.key === " " && event.target.matches(".tile")) event.preventDefault();
});

let pointer = "mouse";
document.addEventListener("pointerdown", (event) => (pointer = event.pointerType), true);

byId("grid").addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (!item || event.detail === 0) return;
  const position = +item.dataset.position;
  const what = event.target.closest("[data-quick]")?.dataset.quick;
  if (what) {
    if (!state.marked.has(state.view[position].number)) go(position);
    actions[what]();
  } else if (event.shiftKey) go(position, true);
  else if (event.ctrlKey || event.metaKey || (pointer === "touch" && state.marked.size)) toggle(position);
  else if (pointer === "touch" && position === grid.current) actions.enlarge();
  else go(position);
});
byId("grid").addEventListener("dblclick", (event) => {
  if (event.target.closest(".tile") && pointer !== "touch") actions.enlarge();
});
// A long touch: it marks, and so do the taps after it.
byId("grid").addEventListener("contextmenu", (event) => {
  const item = event.target.closest("li");
  if (pointer !== "touch" || !item) return;
  event.preventDefault();
  toggle(+item.dataset.position);
});
for (const bar of document.querySelectorAll(".actions")) {
  // The photo keeps the focus, so that the next key means it.
  bar.addEventListener("mousedown", (event) => event.preventDefault());
  bar.addEventListener("click", (event) => actions[event.target.closest("[data-do]")?.dataset.do]?.());
}
byId("class-button").addEventListener("click", chooseClass);
byId("next-class").addEventListener("click", () => goToClass(1));
byId("filter").addEventListener("change", (event) => setFilter(event.target.value));
byId("help-button").addEventListener("click", KEYS["?"]);
byId("finish-button").addEventListener("click", openFinish);
byId("finish-write").addEventListener("click", () => writeFiles(false));
byId("finish-stop").addEventListener("click", () => writeFiles(true));
byId("trouble").lastElementChild.addEventListener("click", () => outbox.retry());
for (const name of ["finish", "help"]) closable(byId(name));
window.addEventListener("beforeunload", (event) => {
  if (outbox.pending) event.preventDefault();
});

async function start() {
  byId("filter").value = sessionStorage.getItem("filter") ?? "all";
  grid.size = +(sessionStorage.getItem("size") ?? (window.innerWidth < 700 ? 1 : 3));
  const { classes: all, labels: names, problems, steps, class: group, photo } = await readClasses();
  setClasses(all);
  state.labels = names;
  outbox.steps = steps;
  byId("finish-problems").replaceChildren(...problems.map((problem) => make("li", "", problem)));
  const undecided = all.findIndex((one) => undecidedIn(one));
  await openClass(group ?? Math.max(0, undecided), { after: photo ?? undefined });
  if (problems.length) say(problems[0]);
}

start().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").firstElementChild.textContent = `The review cannot be shown: ${error.message}.`;
  if (!(error instanceof Refused)) throw error;
});
