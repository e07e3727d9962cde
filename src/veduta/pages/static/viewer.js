// One photo, as large as the window.

import { closable } from "./choose.js";
import { photoUrl, whyLost } from "./server.js";

export class Viewer {
  /** `move(by)` goes to another photo, `onClose()` is called when it has closed. */
  constructor({ move, onClose }) {
    this.dialog = document.getElementById("viewer");
    this.image = document.getElementById("viewer-photo");
    this.lost = document.getElementById("viewer-lost");
    closable(this.dialog);
    this.dialog.addEventListener("close", onClose);
    this.dialog.addEventListener("click", (event) => {
      const button = event.target.closest("[data-move]");
      if (button) move(+button.dataset.move);
    });
    this.image.addEventListener("error", () => this.failed());
    this.swipes(move);
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Show a photo; `state` describes its decision, `next` is fetched ahead. */
  show(photo, state, next) {
    if (!this.isOpen) {
      this.dialog.showModal();
      this.dialog.querySelector(".picture").focus(); // on a button, Enter would press it
    }
    document.getElementById("viewer-name").textContent = photo.name;
    const shown = document.getElementById("viewer-state");
    shown.textContent = state.text;
    shown.className = state.verdict ?? "";
    document.getElementById("viewer-why").replaceChildren(...reasons(photo));
    if (this.number === photo.number && this.image.src) return;
    this.number = photo.number;
    this.compare(photo.why.find(({ other }) => other !== null));
    this.lost.hidden = true;
    this.image.hidden = false;
    this.image.alt = photo.name;
    // The small one is there already: it stands in until the large one is.
    this.image.src = photoUrl(photo.number, "small");
    const large = new Image();
    large.src = photoUrl(photo.number, "large");
    large.decode().then(
      () => {
        if (this.number === photo.number) this.image.src = large.src;
        if (next) new Image().src = photoUrl(next.number, "large");
      },
      () => {}, // the small one has failed too, and says so
    );
  }

  /** Show the photo that this one is a copy of beside it. */
  compare(why) {
    document.getElementById("viewer-other").hidden = !why;
    const image = document.getElementById("viewer-other-photo");
    image.removeAttribute("src");
    if (!why) return;
    image.src = photoUrl(why.other, "large");
    image.alt = why.otherName;
    document.getElementById("viewer-other-name").textContent = why.otherName;
  }

  async failed() {
    const number = this.number;
    if (!this.image.getAttribute("src")) return;
    const why = await whyLost(number);
    if (number !== this.number || !why) return;
    this.image.hidden = true;
    this.lost.hidden = false;
    this.lost.textContent = why;
  }

  close() {
    this.dialog.close();
  }

  swipes(move) {
    const area = this.dialog.querySelector(".picture");
    let from = null;
    area.addEventListener("touchstart", (event) => {
      from = event.touches.length === 1 ? event.touches[0] : null;
    }, { passive: true });
    area.addEventListener("touchend", (event) => {
      const to = event.changedTouches[0];
      const zoomed = window.visualViewport.scale > 1.05;
      if (from && !zoomed && !event.touches.length) {
        const x = to.clientX - from.clientX;
        const y = to.clientY - from.clientY;
        if (Math.abs(x) > 45 && Math.abs(x) > 1.5 * Math.abs(y)) move(x < 0 ? 1 : -1);
      }
      from = null;
    });
  }
}

/** Return list items that say why a photo is suspected. */
export function reasons(photo) {
  const items = photo.why.map(({ kind, score, reason }) => {
    const item = document.createElement("li");
    const what = document.createElement("b");
    what.textContent = kind.replaceAll(/[_-]/g, " ");
    const text = document.createElement("bdi");
    text.textContent = reason;
    item.append(what, " ", text, ` (${score.toPrecision(3).replace(/\.?0+$/, "")})`);
    return item;
  });
  if (!items.length) {
    const item = document.createElement("li");
    item.textContent = "Nothing was found against it.";
    items.push(item);
  }
  return items;
}
