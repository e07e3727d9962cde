// The answers to a search: they arrive in parts, and their pages are added one after the other.

import { address, ask, eventsOf, index, Problem } from "./api.js";
import { calm, complain } from "./trouble.js";

const SHELVES = ["same", "alike", "copies"];
const PAGE_PHOTOS = 24;
const SLOW_MS = 6000;

const byId = (id) => document.getElementById(id);

export class Answers {
  /** `on`: onMore(photoId), onNot(photoId, name), onAgain(), onClear(). */
  constructor(on) {
    this.on = on;
    this.section = byId("answers");
    this.button = byId("more");
    this.next = null;
    this.complete = false;
    this.button.addEventListener("click", () => this.more());
    this.section.addEventListener("click", (event) => {
      const card = event.target.closest("button[data-not]")?.closest("[data-photo]");
      if (card) on.onNot(Number(card.dataset.photo), card.querySelector("img").alt);
    });
  }

  /** End what is under way, and show nothing. */
  clear() {
    this.abort?.abort();
    this.abort = null;
    clearTimeout(this.slow);
    this.next = null;
    this.complete = false;
    this.section.replaceChildren();
    calm();
    byId("waiting").hidden = true;
    this.button.hidden = true;
  }

  /** Search, and show the answers as they arrive. */
  async search(query, state) {
    this.asked = { query, state };
    await this.ask(null, ({ name, data }) => {
      this.show(() => this.section.replaceChildren(...this.partsOf(data.html)));
      this.next = data.next;
      this.complete = name === "answer";
    });
  }

  /** Add the next page. */
  async more() {
    this.button.disabled = true;
    let first = null;
    await this.ask(this.next, ({ name, data }) => {
      if (name !== "answer") return;
      first = this.append(data.html);
      this.next = data.next;
      this.complete = true;
    });
    this.button.disabled = false;
    first?.querySelector("a").focus();
  }

  /** Send one request, and pass the parts of its answer on. */
  async ask(cursor, onPart) {
    const { query, state } = this.asked;
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    calm();
    this.button.hidden = cursor === null;
    this.wait("Searching…");
    this.slow = setTimeout(() => this.wait("Searching… The server is busy, or it still loads its network."), SLOW_MS);
    const { folder, after, before, labels, not } = state;
    const filters = { label: labels.length ? labels : null, folder, after, before };
    const options = {
      index,
      limit: PAGE_PHOTOS,
      cursor,
      not_ids: not.length ? not : null,
      filters: Object.fromEntries(Object.entries(filters).filter(([, value]) => value)),
    };
    try {
      const request = { method: "POST", signal: abort.signal, ...query.body(options) };
      request.headers = { ...request.headers, Accept: "text/event-stream" };
      const response = await ask(address("/search/answers"), request);
      let ended = false;
      for await (const event of eventsOf(response)) {
        if (abort.signal.aborted) return;
        clearTimeout(this.slow);
        if (event.name === "verified") {
          this.wait(null, event.data);
          continue;
        }
        if (event.name === "problem") throw new Problem(event.data.detail, event.data.status);
        onPart(event);
        ended = event.name === "answer";
        if (!ended) this.wait("The nearest photos. Now they are verified…");
      }
      if (!ended) throw new Problem("The server ended before the answer was complete.");
      this.end();
    } catch (error) {
      if (error.name === "AbortError" || abort.signal.aborted) return;
      this.complain(error, { canRepeat: true });
    }
  }

  /** Say what is waited for. */
  wait(words, verified = null) {
    byId("waiting").hidden = false;
    const progress = byId("progress");
    progress.hidden = false;
    if (words) byId("status").textContent = words;
    if (verified) {
      progress.max = verified.of;
      progress.value = verified.photos;
    } else progress.removeAttribute("value");
  }

  /** Say how many photos were found. */
  end() {
    clearTimeout(this.slow);
    const cards = this.section.querySelectorAll(".photo-card").length;
    const same = this.section.querySelectorAll("[data-shelf=same] .photo-card").length;
    this.wait(cards ? `${counted(cards)}, ${same} of the same place${this.next ? ", and more" : ""}.` : "No photo fits.");
    byId("progress").hidden = true;
    this.button.hidden = !this.next;
  }

  /** Replace what is shown, and leave the focus on the same button of the same photo. */
  show(replace) {
    const focused = this.section.contains(document.activeElement) ? document.activeElement : null;
    const photo = focused?.closest("[data-photo]")?.dataset.photo;
    const place = focused && [...(focused.closest("[data-photo]")?.querySelectorAll("a, button, summary") ?? [])].indexOf(focused);
    replace();
    if (photo === undefined) return;
    const card = this.section.querySelector(`[data-photo="${photo}"]`);
    card?.querySelectorAll("a, button, summary")[place]?.focus({ preventScroll: true });
  }

  /** Add the photos of another page to their shelves, and return the first one. */
  append(html) {
    const parts = this.partsOf(html);
    const added = [];
    for (const shelf of parts.filter((part) => part.dataset?.shelf)) {
      const kind = shelf.dataset.shelf;
      const cards = [...shelf.querySelectorAll(".photo-card")];
      added.push(...cards);
      const there = this.section.querySelector(`[data-shelf=${kind}]`);
      if (there) {
        there.querySelector(".cards").append(...cards);
        there.querySelector(".count").textContent = there.querySelectorAll(".photo-card").length;
        continue;
      }
      const later = SHELVES.slice(SHELVES.indexOf(kind) + 1);
      const before = later.map((one) => this.section.querySelector(`[data-shelf=${one}]`)).find(Boolean);
      this.section.insertBefore(shelf, before ?? null);
    }
    return added[0];
  }

  /** Return the elements of an answer. Its photos lead to the evidence for them. */
  partsOf(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const { photoId, upload, box } = this.asked.state;
    for (const card of template.content.querySelectorAll(".photo-card")) {
      const values = { query: photoId, upload, box: box?.join(",") ?? null, hit: card.dataset.photo };
      card.querySelector("a.frame").href = address("/evidence", values);
    }
    return [...template.content.children];
  }

  /** Return what is shown, to show it again; null while it is not complete. */
  shown() {
    if (!this.complete) return null;
    return { nodes: [...this.section.childNodes], next: this.next };
  }

  restore({ nodes, next }, query, state) {
    this.asked = { query, state };
    this.section.replaceChildren(...nodes);
    this.next = next;
    this.complete = true;
    this.end();
  }

  /** Say what went wrong, and offer a way on. */
  complain(error, { canRepeat }) {
    clearTimeout(this.slow);
    byId("waiting").hidden = true;
    this.button.hidden = !this.next;
    const changed = error.status === 409 && this.next;
    complain(error, {
      again: canRepeat && !changed ? this.on.onAgain : null,
      ways: changed ? [{ name: "Search again", run: this.on.onAgain }] : [{ name: "Choose another photo", run: this.on.onClear }],
    });
  }
}

const counted = (photos) => (photos === 1 ? "1 photo" : `${photos} photos`);
