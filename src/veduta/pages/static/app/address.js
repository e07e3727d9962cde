// The state of a search in the address of its page, so that it can be shared and reloaded.

import { address } from "./api.js";

/** Return the state in an address: what is searched for, and where. */
export function readAddress(query = location.search) {
  const values = new URLSearchParams(query);
  const numbers = (text) => (text ?? "").split(",").map((part) => (/^\d{1,15}$/.test(part) ? Number(part) : NaN));
  const box = numbers(values.get("box"));
  const photo = numbers(values.get("photo_id"));
  return {
    photoId: Number.isInteger(photo[0]) ? photo[0] : null,
    upload: values.get("upload"),
    box: box.length === 4 && box.every(Number.isInteger) ? box : null,
    labels: values.getAll("label"),
    folder: values.get("folder"),
    after: values.get("after"),
    before: values.get("before"),
    not: numbers(values.get("not")).filter(Number.isInteger),
  };
}

/** Return the address of a page with a state, or with the part of one that it needs. */
export function addressOf(state, path = "/") {
  return address(path, {
    photo_id: state.photoId,
    upload: state.upload,
    box: state.box?.join(",") ?? null,
    label: state.labels,
    folder: state.folder,
    after: state.after,
    before: state.before,
    not: state.not?.length ? state.not.join(",") : null,
  });
}

/** Return the state with another query and the same filters. */
export const withQuery = (state, query) => ({ ...state, photoId: null, upload: null, box: null, not: [], ...query });

/** Whether there is anything to search with. */
export const hasQuery = (state) => state.photoId !== null || Boolean(state.upload);
