// One photo, as large as the window, with what is known of it.

import { address, ask } from "./api.js";
import { make } from "./elements.js";
import { dateText, preview, searchAddress, thumbnail } from "./photo_list.js";
import { listenForSwipes } from "../swipes.js";

const byId = (id) => document.getElementById(`viewer-${id}`);

export class PhotoViewer {
  /** `move(by)` goes to another photo, `onClose()` is called when the viewer has closed. */
  constructor({ move, onClose }) {
    this.dialog = document.getElementById("viewer");
    this.image = byId("photo");
    this.dialog.addEventListener("close", () => {
      this.id = null;
      onClose();
    });
    this.dialog.addEventListener("click", (event) => {
      const button = event.target.closest("[data-move]");
      if (button) move(+button.dataset.move);
    });
    this.dialog.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      move(by);
    });
    listenForSwipes(this.dialog.querySelector(".picture"), move);
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Show a photo. `next`: the number of the photo to load ahead, or undefined. */
  show(id, { position, count, next }) {
    if (!this.isOpen) this.dialog.showModal();
    byId("position").textContent = `${(position + 1).toLocaleString("en")} of ${count.toLocaleString("en")}`;
    this.dialog.querySelector('[data-move="-1"]').disabled = position === 0;
    this.dialog.querySelector('[data-move="1"]').disabled = position === count - 1;
    byId("search").href = searchAddress(id);
    byId("recognize").href = address("/recognize", { photo_id: id });
    const group = byId("group"); // an index without keypoints has no groups
    if (group) group.href = address("/browse", { group: id });
    if (this.id === id) return;
    this.id = id;
    byId("problem").hidden = true;
    // The small picture is loaded already. It is shown until the large one is loaded.
    this.image.src = thumbnail(id);
    this.loadLarge(id, next);
  }

  /** Say what is known of the photo. */
  describe(photo) {
    byId("name").replaceChildren(make("bdi", { textContent: photo.name }));
    this.image.alt = photo.label ? `${photo.name}, ${photo.label}` : photo.name;
    const facts = [
      ["Label", photo.label ?? "none"],
      ["Taken", photo.taken ? dateText(photo.taken) : "no date"],
      ["Size", `${photo.width} × ${photo.height} pixels`],
      ["File", photo.path],
    ];
    byId("facts").replaceChildren(
      ...facts.map(([name, value]) => {
        const pair = document.createElement("div");
        const shown = document.createElement("dd");
        shown.append(make("bdi", { textContent: value }));
        pair.append(make("dt", { textContent: name }), shown);
        return pair;
      }),
    );
  }

  async loadLarge(id, next) {
    const large = new Image();
    large.src = preview(id);
    try {
      await large.decode();
    } catch {
      if (this.id === id) await this.showProblem(id);
      return;
    }
    if (this.id !== id) return;
    this.image.src = large.src;
    if (next !== undefined) new Image().src = preview(next);
  }

  /** Say why there is no large picture, in the words of the service. */
  async showProblem(id) {
    try {
      await ask(preview(id));
    } catch (problem) {
      if (this.id !== id) return;
      byId("problem").textContent = `${problem.message} This is the small picture in the index.`;
      byId("problem").hidden = false;
    }
  }

  close() {
    this.dialog.close();
  }
}
