// The search page: its address says what is searched for. Every change makes a new address.

import { addressOf, hasQuery, readAddress, withQuery } from "./address.js";
import { Answers } from "./answers.js";
import { Filters } from "./filters.js";
import { say } from "./messages.js";
import { Query } from "./query.js";

const MAX_REMEMBERED = 20;

const byId = (id) => document.getElementById(id);
const title = document.title;

let state = readAddress();
const remembered = new Map(); // address → answers, for the way back

const query = new Query((changed) => {
  const isNew = changed.photoId !== state.photoId || changed.upload !== state.upload;
  go(isNew ? withQuery(state, changed) : { ...state, ...changed });
});
const filters = new Filters((changed) => go({ ...state, ...changed }));
const answers = new Answers({
  onMore: (photoId) => go(withQuery(state, { photoId })),
  onNot: (photoId, name) => reject(photoId, name),
  onAgain: () => show(),
  onClear: () => query.clear(),
});

/** Go to another state, which gets an address of its own. */
function go(next) {
  const address = addressOf(next);
  if (address === location.pathname + location.search) return;
  remember();
  const moves = next.photoId !== state.photoId || next.upload !== state.upload;
  history.pushState(null, "", address);
  state = next;
  show({ moves });
}

function reject(photoId, name) {
  const before = state.not;
  go({ ...state, not: [...before, photoId] });
  say(`${name} is left out.`, { name: "Undo", run: () => go({ ...state, not: before }) });
}

/** Keep the answers that are shown, so that the way back shows them at once. */
function remember() {
  const shown = answers.shown();
  const address = location.pathname + location.search;
  remembered.delete(address);
  if (!shown) return;
  remembered.set(address, { ...shown, top: scrollY });
  if (remembered.size > MAX_REMEMBERED) remembered.delete(remembered.keys().next().value);
}

/** Show the state: its query, its filters, and the answers. `moves`: another query was chosen. */
async function show({ moves = false, back = null } = {}) {
  const shownState = state;
  const asking = hasQuery(state);
  document.body.classList.toggle("asks", asking);
  byId("filters").hidden = !asking;
  if (byId("first")) byId("first").hidden = asking;
  filters.show(state);
  answers.clear();
  if (moves) scrollTo(0, 0);
  try {
    await query.show(state);
  } catch (error) {
    if (shownState !== state) return;
    byId("filters").hidden = true;
    answers.complain(error, { canRepeat: false });
    document.title = title;
    return;
  }
  if (shownState !== state) return;
  document.title = asking ? `${query.name} · ${title}` : title;
  if (!asking) {
    if (moves) byId("pick").focus();
    return;
  }
  if (moves) byId("query-name").focus({ preventScroll: true });
  if (back) {
    answers.restore(back, query, state);
    scrollTo(0, back.top);
    return;
  }
  await answers.search(query, state);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-more]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  const photo = link.closest("[data-photo]");
  go(withQuery(state, { photoId: Number(photo.dataset.photo) }));
});

addEventListener("popstate", () => {
  const before = state;
  state = readAddress();
  const moves = before.photoId !== state.photoId || before.upload !== state.upload;
  show({ moves, back: remembered.get(location.pathname + location.search) ?? null });
});

show();
