// Conditions on the photos that are searched: labels, a folder, and when they were taken.

import { api, askJson, Problem } from "./api.js";
import { say } from "./messages.js";

const byId = (id) => document.getElementById(id);

export class Filters {
  /** `onChange(changed)`: called with what the user changed of labels, folder, after, before, not. */
  constructor(onChange) {
    this.onChange = onChange;
    this.state = null;
    this.facets = null;
    byId("filters").addEventListener("toggle", () => byId("filters").open && this.load());
    byId("filter-form").addEventListener("submit", (event) => event.preventDefault());
    byId("filter-label").addEventListener("change", () => this.addLabel());
    byId("filter-folder").addEventListener("change", (event) => onChange({ folder: event.target.value || null }));
    byId("filter-from").addEventListener("change", (event) => onChange({ after: event.target.value || null }));
    byId("filter-to").addEventListener("change", (event) => onChange({ before: dayAfter(event.target.value, 1) }));
    byId("active").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.chips[Number(button.dataset.number)].remove();
    });
  }

  /** Read by what the photos can be filtered, once. */
  async load() {
    this.facets ??= askJson(api("/facets"));
    try {
      const { labels, folders } = await this.facets;
      byId("filter-labels").replaceChildren(...labels.filter(({ label }) => label !== null).map(({ label, photos }) => new Option(`${photos}`, label)));
      const parent = commonParent(folders.map(({ folder }) => folder));
      const all = byId("filter-folder").options[0];
      byId("filter-folder").replaceChildren(all, ...folders.map(({ folder, photos }) => new Option(`${folder.slice(parent) || folder} (${photos})`, folder)));
      this.names = new Set(labels.map(({ label }) => label));
      if (this.state) byId("filter-folder").value = this.state.folder ?? "";
    } catch (error) {
      this.facets = null;
      if (error instanceof Problem) say(error.message);
      else throw error;
    }
  }

  addLabel() {
    const field = byId("filter-label");
    const label = field.value.trim();
    field.value = "";
    if (!label) return;
    if (this.names && !this.names.has(label)) return say(`No photo has the label ${label}.`);
    if (!this.state.labels.includes(label)) this.onChange({ labels: [...this.state.labels, label] });
  }

  /** Show the conditions of a state. */
  show(state) {
    this.state = state;
    const { labels, folder, after, before, not } = state;
    byId("filter-from").value = after ?? "";
    byId("filter-to").value = dayAfter(before, -1) ?? "";
    byId("filter-folder").value = folder ?? "";
    this.chips = [
      ...labels.map((label) => ({ text: label, remove: () => this.onChange({ labels: labels.filter((one) => one !== label) }) })),
      ...(folder ? [{ text: folder, remove: () => this.onChange({ folder: null }) }] : []),
      ...(after ? [{ text: `from ${after}`, remove: () => this.onChange({ after: null }) }] : []),
      ...(before ? [{ text: `to ${dayAfter(before, -1)}`, remove: () => this.onChange({ before: null }) }] : []),
      ...(not.length ? [{ text: `without ${not.length === 1 ? "1 photo" : `${not.length} photos`}`, remove: () => this.onChange({ not: [] }) }] : []),
    ];
    byId("active").hidden = !this.chips.length;
    byId("active").replaceChildren(...this.chips.map(({ text }, number) => {
      const item = document.createElement("li");
      const words = document.createElement("bdi");
      words.textContent = text;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "×";
      button.ariaLabel = `Remove the condition: ${text}`;
      button.dataset.number = number;
      item.append(words, button);
      return item;
    }));
  }
}

/** Return a day, some days later, as ISO text; null for none. The limits of the API are half open. */
function dayAfter(day, days) {
  const time = Date.parse(day);
  return Number.isNaN(time) ? null : new Date(time + days * 24 * 60 * 60 * 1000).toISOString().slice(0, 10);
}

/** Return how many letters of all folders are those of their common parent. */
function commonParent(folders) {
  if (folders.length < 2) return 0;
  const [first, ...others] = folders.map((folder) => folder.split("/"));
  let depth = 0;
  while (depth < first.length - 1 && others.every((parts) => parts[depth] === first[depth])) depth++;
  return first.slice(0, depth).join("/").length + (depth ? 1 : 0);
}
