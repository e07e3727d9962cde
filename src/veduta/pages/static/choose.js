// A dialog to choose one of many names by typing: labels, and classes.

const MOST = 300; // names shown at once

/** Let the buttons of a dialog, and a click beside it, close it. */
export function closable(dialog) {
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
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("click", (event) => {
      const item = event.target.closest("li");
      if (item) this.take(+item.dataset.index);
    });
    closable(this.dialog);
  }

  /** Open it. `names`: {text, shown, note, value}; `fresh(text)`: what a new name would be, or null. */
  open(names, { chosen = 0, fresh = () => null, done }) {
    Object.assign(this, { names, fresh, done });
    this.input.value = "";
    this.dialog.showModal();
    this.search(chosen);
    this.input.focus();
  }

  search(at = 0) {
    const text = this.input.value.trim();
    const wanted = plain(text);
    const ranked = [[], [], []];
    for (const name of this.names) {
      const place = wanted ? plain(name.text).indexOf(wanted) : 0;
      if (place === 0) ranked[plain(name.text) === wanted ? 0 : 1].push(name);
      else if (place > 0) ranked[2].push(name);
    }
    const found = ranked.flat();
    const exact = found.some((name) => name.text === text);
    const fresh = text && !exact ? this.fresh(text) : null;
    // A name that nobody has used stands first only where nothing else fits.
    this.found = found.slice(0, MOST);
    if (fresh) this.found.push(fresh);
    this.list.replaceChildren(...this.found.map((name, index) => this.item(name, index)));
    const more = found.length - MOST;
    this.note.textContent = more > 0 ? `and ${more.toLocaleString("en")} more: type to narrow` : "";
    this.mark(Math.min(at, this.found.length - 1));
  }

  item(name, index) {
    const item = document.createElement("li");
    item.role = "option";
    item.id = `${this.name}-${index}`;
    item.dataset.index = index;
    const text = document.createElement("bdi");
    text.textContent = name.shown;
    const note = document.createElement("span");
    note.textContent = name.note;
    item.append(text, note);
    return item;
  }

  mark(at) {
    this.list.children[this.at]?.setAttribute("aria-selected", "false");
    this.at = at;
    const item = this.list.children[at];
    item?.setAttribute("aria-selected", "true");
    item?.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", item?.id ?? "");
  }

  key(event) {
    const last = this.found.length - 1;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.key in moves) {
      event.preventDefault();
      this.mark(Math.max(0, Math.min(last, this.at + moves[event.key])));
    } else if (event.key === "Enter" && !event.isComposing && event.target === this.input) {
      event.preventDefault();
      this.take(this.at);
    }
    event.stopPropagation();
  }

  take(index) {
    const name = this.found[index];
    if (!name) return;
    this.dialog.close();
    this.done(name.value);
  }
}

const plain = (text) => text.normalize("NFKD").replace(/[\p{M}_\-\s]+/gu, "").toLowerCase();
