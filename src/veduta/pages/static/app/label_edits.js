// Labels that are given to photos, and taken back step by step.

import { api, askJson } from "./api.js";

const MOST_AT_ONCE = 10_000; // photos of one request

export class LabelEdits {
  /** `onEdit()`: labels have changed on the server. */
  constructor(onEdit) {
    this.onEdit = onEdit;
    this.steps = []; // each: {id, label} of the labels before
  }

  /** Give photos one label; null takes it away. Return how many have changed. */
  async give(ids, label) {
    const before = await this.send(ids.map((id) => ({ id, label })));
    if (before.length) this.steps.push(before);
    return before.length;
  }

  /** Undo the last step. Return how many photos have their old label again; null if there is no step. */
  async undo() {
    const step = this.steps.pop();
    if (!step) return null;
    try {
      await this.send(step);
    } catch (problem) {
      this.steps.push(step);
      throw problem;
    }
    return step.length;
  }

  /** Change labels. Return those before, of the photos that had another one. */
  async send(changes) {
    const before = [];
    try {
      for (let start = 0; start < changes.length; start += MOST_AT_ONCE) {
        const body = { changes: changes.slice(start, start + MOST_AT_ONCE) };
        const answer = await askJson(api("/photos"), { method: "PATCH", body });
        for (const { id, label, previous } of answer.changes) {
          if (label !== previous) before.push({ id, label: previous });
        }
      }
    } finally {
      this.onEdit();
    }
    return before;
  }
}
