// The photos that meet conditions: all their numbers at once, the rest when it is shown.

import { address, api, askJson } from "./api.js";

const MOST_AT_ONCE = 200; // photos of one request

export class PhotoList {
  /** `onDetails(ids)`: these photos are known now; `onChange()`: the index has changed. */
  constructor({ onDetails, onChange, onProblem }) {
    Object.assign(this, { onDetails, onChange, onProblem, ids: [], version: null });
    this.positions = new Map(); // id → position
    this.known = new Map(); // id → photo
    this.stale = new Set(); // known as they were before the index changed
    this.wanted = new Set();
    this.asking = false;
  }

  /** Read the list anew. `conditions`: parameters of the API. */
  async load(conditions) {
    const { ids, index } = await askJson(api("/photos/ids", conditions));
    if (index.version !== this.version) this.stale = new Set(this.known.keys());
    this.version = index.version;
    this.ids = ids;
    this.positions = new Map(ids.map((id, position) => [id, position]));
    this.wanted.clear();
  }

  /** Return a photo, or undefined. What is missing is asked for with the next `fetch`. */
  photo(id) {
    const photo = this.known.get(id);
    if (!photo || this.stale.has(id)) this.wanted.add(id);
    return photo;
  }

  /** Forget photos that are wanted but no longer shown, and ask for the others. */
  async fetch(isShown = () => true) {
    for (const id of this.wanted) if (!isShown(id)) this.wanted.delete(id);
    if (this.asking || !this.wanted.size) return;
    const ids = [...this.wanted].slice(0, MOST_AT_ONCE);
    for (const id of ids) this.wanted.delete(id);
    this.asking = true;
    try {
      const { photos, index } = await askJson(api("/photos", { limit: MOST_AT_ONCE, id: ids }));
      for (const photo of photos) {
        this.known.set(photo.id, photo);
        this.stale.delete(photo.id);
      }
      this.onDetails(photos.map(({ id }) => id));
      if (index.version !== this.version) this.onChange();
    } catch (problem) {
      this.onProblem(problem);
      return;
    } finally {
      this.asking = false;
    }
    await this.fetch(isShown);
  }
}

/** The small picture of a photo, that the index has. */
export const thumbnail = (id) => api(`/photos/${id}/thumbnail`);

/** An upright picture of a photo that is as large as this screen shows it. */
export function preview(id) {
  const pixels = Math.max(screen.width, screen.height) * devicePixelRatio;
  return api(`/photos/${id}/preview`, { side: pixels <= 800 ? 800 : pixels <= 1920 ? 1600 : 3200 });
}

/** A search with a photo. */
export const searchAddress = (id) => address("/", { photo_id: id });

const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "short", timeZone: "UTC" });
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric", timeZone: "UTC" });

/** Return the date of a photo in words. The clock of the camera counts, in no time zone. */
export const dateText = (taken) => DAY.format(new Date(`${taken.slice(0, 19)}Z`));

/** Return a month such as 2014-05 in words. */
export const monthText = (month) => MONTH.format(new Date(`${month}-01T00:00:00Z`));

export const photosText = (count) => `${count.toLocaleString("en")} photo${count === 1 ? "" : "s"}`;
