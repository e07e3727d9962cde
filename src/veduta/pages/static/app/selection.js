// Which photos are selected, and where a range of them begins.

export class Selection {
  /** `list`: has the `ids` in their order; `onChange()`: other photos are selected. */
  constructor(list, onChange) {
    Object.assign(this, { list, onChange, ids: new Set(), anchor: null });
  }

  get size() {
    return this.ids.size;
  }

  has(id) {
    return this.ids.has(id);
  }

  toggle(position) {
    const id = this.list.ids[position];
    if (!this.ids.delete(id)) this.ids.add(id);
    this.anchor = position;
    this.onChange();
  }

  /** Select all from the anchor to a position, and nothing else. `from`: the anchor, if there is none. */
  extend(position, from) {
    this.anchor ??= from;
    const [first, last] = [this.anchor, position].sort((one, other) => one - other);
    this.ids = new Set(this.list.ids.slice(first, last + 1));
    this.onChange();
  }

  all() {
    this.ids = new Set(this.list.ids);
    this.onChange();
  }

  clear() {
    this.anchor = null;
    if (!this.ids.size) return;
    this.ids.clear();
    this.onChange();
  }

  /** Forget photos that are not in the list any more. */
  keepListed() {
    this.anchor = null;
    for (const id of this.ids) if (!this.list.positions.has(id)) this.ids.delete(id);
    this.onChange();
  }
}
