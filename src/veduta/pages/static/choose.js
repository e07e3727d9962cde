// A dialog to choose one of many names by typing: labels and classes.

const MAX_NAMES = 300; // shown at once

/** Let the buttons of a dialog close it, and a click beside it. */
export function makeClosable(dialog) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
}

export class Chooser {
  constructor(name) {
    this.dialog = document.getElementById(name);
    this.input = document.getElementById(`${name}-input`);
    this.list = document.getElementById(`${name}-list`);
    this.note = document.getElementById(`${name}-note`);
    this.name = name;
    this.input.addEventListener("input", () => this.search());
    this.dialog.addEventListener("keydown", (event) => this.onKey(event));
    this.list.addEventListener("click", (event) => {
      const item = event.target.closest("li");
      if (item) this.choose(+item.dataset.index);
    });
    makeClosable(this.dialog);
  }

  /**
   * Open the dialog.
   * `names`: of {text, shown, note, value}.
   * `selected`: the index of the name that is selected at first.
   * `newName(text)`: returns an entry for a text that is no name, or null.
   * `onChoose(value)`: called with the value of the chosen name.
   */
  open(names, { selected = 0, newName = () => null, onChoose }) {
    Object.assign(this, { names, newName, onChoose });
    this.input.value = "";
    this.dialog.showModal();
    this.search(selected);
    this.input.focus();
  }

  /** List the names that contain the typed text: equal ones first, then those that begin with it. */
  search(selected = 0) {
    const text = this.input.value.trim();
    const query = simplified(text);
    const [equal, beginning, containing] = [[], [], []];
    for (const name of this.names) {
      const candidate = simplified(name.text);
      const position = query ? candidate.indexOf(query) : 0;
      if (position === 0) (candidate === query ? equal : beginning).push(name);
      else if (position > 0) containing.push(name);
    }
    const matches = [...equal, ...beginning, ...containing];
    const isName = matches.some((name) => name.text === text);
    const created = text && !isName ? this.newName(text) : null;
    this.entries = matches.slice(0, MAX_NAMES);
    // A new name comes last, so it is selected only where no known name matches.
    if (created) this.entries.push(created);
    this.list.replaceChildren(...this.entries.map((entry, index) => this.makeItem(entry, index)));
    const hidden = matches.length - MAX_NAMES;
    this.note.textContent = hidden > 0 ? `and ${hidden.toLocaleString("en")} more: type to narrow` : "";
    this.select(Math.min(selected, this.entries.length - 1));
  }

  makeItem(entry, index) {
    const item = document.createElement("li");
    item.role = "option";
    item.id = `${this.name}-${index}`;
    item.dataset.index = index;
    const text = document.createElement("bdi");
    text.textContent = entry.shown;
    const note = document.createElement("span");
    note.textContent = entry.note;
    item.append(text, note);
    return item;
  }

  select(index) {
    this.list.children[this.selected]?.setAttribute("aria-selected", "false");
    this.selected = index;
    const item = this.list.children[index];
    item?.setAttribute("aria-selected", "true");
    item?.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", item?.id ?? "");
  }

  onKey(event) {
    const last = this.entries.length - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.key in steps) {
      event.preventDefault();
      this.select(Math.max(0, Math.min(last, this.selected + steps[event.key])));
    } else if (event.key === "Enter" && !event.isComposing && event.target === this.input) {
      event.preventDefault();
      this.choose(this.selected);
    }
    event.stopPropagation();
  }

  choose(index) {
    const entry = this.entries[index];
    if (!entry) return;
    this.dialog.close();
    this.onChoose(entry.value);
  }
}

/** Return a text without accents, spaces, hyphens and upper case. */
const simplified = (text) => text.normalize("NFKD").replace(/[\p{M}_\-\s]+/gu, "").toLowerCase();
