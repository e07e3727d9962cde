// The photo that a page asks about: chosen, dropped, pasted or taken, and shown until it is cleared.

import { addressOf } from "./address.js";
import { api, ask, askJson, Problem } from "./api.js";
import { Box } from "./box.js";
import { say } from "./messages.js";
import { bytesOf, find, forget, keep, photosAmong } from "./uploads.js";

const MAX_PHOTOS = 8;
const PREVIEW_SIDE = 800;
const MIN_SHOWN = 200; // CSS pixels of the long side: in a smaller photo no box can be drawn

const byId = (id) => document.getElementById(id);

export class Query {
  /** `onQuery(query)`: called with {photoId, upload, box} when the user changes it. */
  constructor(onQuery) {
    this.onQuery = onQuery;
    this.state = { photoId: null, upload: null, box: null };
    this.photos = []; // of {name, url, size}; the first one is shown
    this.files = []; // that are sent
    this.image = byId("query-image");
    const fields = [...document.querySelectorAll(".box-number")];
    this.box = new Box(byId("query-photo"), fields, (box) => this.onQuery({ ...this.state, box }));
    this.listen();
  }

  listen() {
    for (const id of ["pick", "take", "add"]) {
      const input = byId(id);
      input.addEventListener("change", () => {
        this.take([...input.files], id === "add");
        input.value = "";
      });
    }
    byId("query-clear").addEventListener("click", () => this.clear());
    byId("box-add").addEventListener("click", () => this.box.addInMiddle());
    byId("box-remove").addEventListener("click", () => this.box.remove());
    byId("query-others").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.drop(Number(button.dataset.number));
    });
    this.image.addEventListener("load", () => this.onImage());
    this.image.addEventListener("error", () => this.onNoImage());
    document.addEventListener("paste", (event) => {
      const files = [...event.clipboardData.files];
      if (!files.length) return;
      event.preventDefault();
      this.take(files, false);
    });
    listenForDrops((files) => this.take(files, false), (photoId) => this.onQuery({ photoId, upload: null, box: null }));
  }

  /** Search with files that the user chose. `more`: together with those that are there. */
  async take(files, more) {
    const photos = photosAmong(files);
    if (!files.length) return;
    if (!photos.length) return say(`${files[0].name} is no photo.`);
    let chosen = [];
    try {
      for (const file of photos) chosen.push(await bytesOf(file));
      if (more && this.state.photoId !== null) chosen = [await this.indexedPhoto(), ...chosen];
    } catch (error) {
      return say(error instanceof Problem ? error.message : "This browser cannot read the file. Choose it again.");
    }
    if (more) chosen = [...this.files, ...chosen];
    if (chosen.length > MAX_PHOTOS) say(`A query has at most ${MAX_PHOTOS} photos. The others are left out.`);
    this.onQuery({ photoId: null, upload: await keep(chosen.slice(0, MAX_PHOTOS)), box: null });
  }

  /** Return the photo of the index that is the query, to send it with others. */
  async indexedPhoto() {
    const response = await ask(api(`/photos/${this.state.photoId}/preview`, { side: 3200 }));
    return { name: this.photos[0].name, data: await response.blob() };
  }

  /** Take one of several photos out of the query. */
  async drop(number) {
    const files = this.files.filter((_, position) => position !== number);
    this.onQuery({ photoId: null, upload: await keep(files), box: null });
  }

  clear() {
    if (this.state.upload) forget(this.state.upload);
    this.onQuery({ photoId: null, upload: null, box: null });
  }

  /** Show a query. Throws a Problem where there is no such photo. */
  async show(state) {
    const same = this.state.photoId === state.photoId && this.state.upload === state.upload;
    this.state = { photoId: state.photoId, upload: state.upload, box: state.box };
    if (!same) {
      for (const photo of this.photos) URL.revokeObjectURL(photo.url);
      this.photos = [];
      this.files = [];
      if (state.upload) await this.readUpload(state.upload);
      else if (state.photoId !== null) await this.readIndexed(state.photoId);
    }
    this.draw();
  }

  async readUpload(upload) {
    const files = await find(upload);
    if (upload !== this.state.upload) return; // Another query was chosen meanwhile.
    if (!files) throw new Problem("The photo of this search is not in this browser. It stays in the browser in which it was chosen, for a day. Choose it again.", 404);
    this.files = files;
    this.photos = files.map(({ name, data }) => ({ name, url: URL.createObjectURL(data), size: null }));
  }

  async readIndexed(photoId) {
    const photo = await askJson(api(`/photos/${photoId}`));
    if (photoId !== this.state.photoId) return;
    const url = api(`/photos/${photoId}/preview`, { side: PREVIEW_SIDE });
    const small = api(`/photos/${photoId}/thumbnail`);
    this.photos = [{ name: photo.name, url, small, label: photo.label, size: [photo.width, photo.height] }];
  }

  get name() {
    const names = this.photos.map((photo) => photo.name);
    return names.length > 1 ? `${names[0]} and ${names.length - 1} more` : (names[0] ?? "");
  }

  draw() {
    const [photo] = this.photos;
    byId("start").hidden = Boolean(photo);
    byId("query").hidden = !photo;
    if (!photo) return;
    byId("query-name").textContent = this.name || "The query";
    byId("query-note").hidden = !this.state.upload;
    if (this.image.dataset.url !== photo.url) {
      this.image.dataset.url = photo.url;
      byId("query-blank").hidden = true;
      this.image.hidden = false;
      this.image.alt = `Query: ${photo.name}`;
      // The small photo is there at once; the larger one takes its place.
      this.image.src = photo.small ?? photo.url;
    }
    // The same query on another page.
    const elsewhere = byId("query-elsewhere");
    elsewhere.href = addressOf(this.state, elsewhere.dataset.path);
    this.drawOthers();
    this.drawBox();
  }

  drawOthers() {
    const list = byId("query-others");
    list.hidden = this.photos.length < 2;
    list.replaceChildren(...(list.hidden ? [] : this.photos.map(({ name, url }, number) => {
      const item = document.createElement("li");
      const image = document.createElement("img");
      image.src = url;
      image.alt = name;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "×";
      button.ariaLabel = `Remove ${name}`;
      button.dataset.number = number;
      item.append(image, button);
      return item;
    })));
  }

  drawBox() {
    const [photo] = this.photos;
    const single = this.photos.length === 1;
    const size = single ? photo.size : null;
    byId("box-fields").hidden = !size;
    this.box.show(size, this.state.box);
    byId("box-add").hidden = Boolean(this.state.box);
    byId("box-remove").hidden = !this.state.box;
    const of = photo.size ? `${photo.size[0]} × ${photo.size[1]} pixels` : "";
    byId("query-facts").textContent = [photo.label, single ? of : "Boxes are for a single photo."].filter(Boolean).join(" · ");
  }

  onImage() {
    const [photo] = this.photos;
    if (!photo) return;
    if (photo.small && this.image.src.endsWith(photo.small)) {
      this.image.src = photo.url;
      return;
    }
    const { naturalWidth, naturalHeight } = this.image;
    photo.size ??= [naturalWidth, naturalHeight];
    const scale = Math.max(1, MIN_SHOWN / Math.max(naturalWidth, naturalHeight));
    this.image.style.width = scale > 1 ? `${Math.round(naturalWidth * scale)}px` : "";
    this.drawBox();
  }

  onNoImage() {
    const [photo] = this.photos;
    if (!photo || !this.image.getAttribute("src")) return;
    if (photo.small && !this.image.src.endsWith(photo.small)) {
      // The file is gone since it was indexed. The stored small photo is still there.
      photo.url = photo.small;
      this.image.dataset.url = photo.small;
      this.image.src = photo.small;
      photo.small = null;
      return;
    }
    this.image.hidden = true;
    byId("query-blank").hidden = false;
  }

  /** Return the body of a request with this query. `options`: further fields. */
  body(options) {
    const { photoId, box } = this.state;
    const given = { ...options, photo_id: photoId, box };
    const fields = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null && value !== undefined));
    if (!this.files.length) return { body: JSON.stringify(fields), headers: { "Content-Type": "application/json" } };
    const form = new FormData();
    for (const { name, data } of this.files) form.append("photo", data, name);
    form.append("options", JSON.stringify(fields));
    return { body: form };
  }
}

/** Take files that are dropped anywhere, and photos of answers that are dragged. */
function listenForDrops(onFiles, onPhoto) {
  let depth = 0;
  const mark = (by) => {
    depth = by ? depth + by : 0;
    document.body.classList.toggle("dropping", depth > 0);
  };
  const takes = (event) => event.dataTransfer?.types.some((type) => type === "Files" || type === "text/uri-list");
  addEventListener("dragenter", (event) => takes(event) && mark(1));
  addEventListener("dragleave", (event) => takes(event) && mark(-1));
  addEventListener("dragover", (event) => takes(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!takes(event)) return;
    event.preventDefault();
    mark(0);
    const files = [...event.dataTransfer.files];
    const photo = /\/photos\/(\d+)\/thumbnail/.exec(event.dataTransfer.getData("text/uri-list"));
    // Browsers give a dragged photo of this page as a file, too.
    if (photo) onPhoto(Number(photo[1]));
    else if (files.length) onFiles(files);
  });
}
