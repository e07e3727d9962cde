// One photo, as large as the window.

import { makeClosable } from "./choose.js";
import { photoError, photoUrl } from "./server.js";
import { listenForSwipes } from "./swipes.js";

export class Viewer {
  /** `move(by)` goes to another photo, `onClose()` is called when the viewer has closed. */
  constructor({ move, onClose }) {
    this.dialog = document.getElementById("viewer");
    this.image = document.getElementById("viewer-photo");
    this.error = document.getElementById("viewer-error");
    makeClosable(this.dialog);
    this.dialog.addEventListener("close", onClose);
    this.dialog.addEventListener("click", (event) => {
      const button = event.target.closest("[data-move]");
      if (button) move(+button.dataset.move);
    });
    this.image.addEventListener("error", () => this.showError());
    listenForSwipes(this.dialog.querySelector(".picture"), move);
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Show a photo. `state`: {text, verdict} of its decision; `next`: the photo to load ahead. */
  show(photo, state, next) {
    if (!this.isOpen) {
      this.dialog.showModal();
      this.dialog.querySelector(".picture").focus(); // on a button, Enter would press it
    }
    document.getElementById("viewer-name").textContent = photo.name;
    const stateText = document.getElementById("viewer-state");
    stateText.textContent = state.text;
    stateText.className = state.verdict ?? "";
    document.getElementById("viewer-why").replaceChildren(...suspicionItems(photo));
    if (this.number === photo.number && this.image.src) return;
    this.number = photo.number;
    this.showOther(photo.suspicions.find(({ other }) => other !== null));
    this.error.hidden = true;
    this.image.hidden = false;
    this.image.alt = photo.name;
    // The small photo is loaded already. It is shown until the large one is loaded.
    this.image.src = photoUrl(photo.number, "small");
    const large = new Image();
    large.src = photoUrl(photo.number, "large");
    large.decode().then(
      () => {
        if (this.number === photo.number) this.image.src = large.src;
        if (next) new Image().src = photoUrl(next.number, "large");
      },
      () => {}, // the small photo fails too, and its error is shown
    );
  }

  /** Show the photo that this one is a copy of beside it. */
  showOther(suspicion) {
    document.getElementById("viewer-other").hidden = !suspicion;
    const image = document.getElementById("viewer-other-photo");
    image.removeAttribute("src");
    if (!suspicion) return;
    image.src = photoUrl(suspicion.other, "large");
    image.alt = suspicion.otherName;
    document.getElementById("viewer-other-name").textContent = suspicion.otherName;
  }

  async showError() {
    const number = this.number;
    if (!this.image.getAttribute("src")) return;
    const reason = await photoError(number);
    if (number !== this.number || !reason) return;
    this.image.hidden = true;
    this.error.hidden = false;
    this.error.textContent = reason;
  }

  close() {
    this.dialog.close();
  }
}

/** Return list items that say why a photo is suspected. */
export function suspicionItems(photo) {
  const items = photo.suspicions.map(({ kind, score, reason }) => {
    const item = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = kind.replaceAll(/[_-]/g, " ");
    const text = document.createElement("bdi");
    text.textContent = reason;
    item.append(name, " ", text, ` (${score.toPrecision(3).replace(/\.?0+$/, "")})`);
    return item;
  });
  if (!items.length) {
    const item = document.createElement("li");
    item.textContent = "Nothing was found against it.";
    items.push(item);
  }
  return items;
}
