// Tiles of one size in rows. Only those near the screen exist.

// CSS pixels
const TILE_WIDTHS = [104, 136, 168, 200, 248, 320];

export class Grid {
  /**
   * `makeTile()` returns an element for a tile, `drawTile(element, position)` fills it in.
   * `gap`: CSS pixels between tiles.
   */
  constructor(scroller, list, makeTile, drawTile, { gap = 16 } = {}) {
    Object.assign(this, { scroller, list, makeTile, drawTile, gap, count: 0, current: 0, size: 3 });
    this.tiles = new Map(); // position → element
    this.unused = []; // elements to use again
    scroller.addEventListener("scroll", () => this.renderSoon(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(scroller);
  }

  get pictureHeight() {
    return Math.round(this.width * 0.75);
  }

  setCount(count, current) {
    this.count = count;
    this.current = current;
    for (const position of [...this.tiles.keys()]) this.remove(position);
    this.scroller.scrollTop = 0;
    this.measure();
  }

  /** Make the tiles larger (1) or smaller (-1). */
  resize(steps) {
    this.size = Math.min(TILE_WIDTHS.length - 1, Math.max(0, this.size + steps));
    this.measure();
  }

  /** Compute the columns and keep the current tile in view. */
  measure() {
    const style = getComputedStyle(this.scroller);
    const innerWidth = this.scroller.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (innerWidth <= 0) return;
    const em = parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.padding = parseFloat(style.paddingTop);
    this.columns = Math.max(2, Math.floor((innerWidth + this.gap) / (TILE_WIDTHS[this.size] + this.gap)));
    this.width = Math.floor((innerWidth - this.gap * (this.columns - 1)) / this.columns);
    this.pitch = Math.round(this.pictureHeight + 1.55 * em + this.gap);
    const rows = Math.ceil(this.count / this.columns);
    this.list.style.height = `${Math.max(0, rows * this.pitch - this.gap)}px`;
    for (const [position, tile] of this.tiles) this.place(tile, position);
    this.reveal(this.current);
    this.render();
  }

  place(tile, position) {
    const row = Math.floor(position / this.columns);
    const x = (position - row * this.columns) * (this.width + this.gap);
    tile.style.width = `${this.width}px`;
    tile.style.setProperty("--height", `${this.pictureHeight}px`);
    tile.style.transform = `translate(${x}px, ${row * this.pitch}px)`;
  }

  renderSoon() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.render();
    });
  }

  /** Make the tiles from one screen above to two screens below, and no others. */
  render() {
    if (!this.columns) return;
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.max(0, Math.floor((scrollTop - clientHeight) / this.pitch)) * this.columns;
    const rows = Math.ceil((scrollTop + 3 * clientHeight) / this.pitch);
    const last = Math.min(this.count, rows * this.columns) - 1;
    for (const position of [...this.tiles.keys()]) {
      // The current tile always stays, because it may have the focus.
      if ((position < first || position > last) && position !== this.current) this.remove(position);
    }
    // The photos on the screen are requested first.
    const top = Math.max(0, Math.floor(scrollTop / this.pitch)) * this.columns;
    for (let position = top; position <= last; position++) this.add(position);
    for (let position = top - 1; position >= first; position--) this.add(position);
    if (this.current < this.count) this.add(this.current);
  }

  add(position) {
    if (this.tiles.has(position)) return;
    const tile = this.unused.pop() ?? this.makeTile();
    this.tiles.set(position, tile);
    tile.ariaSetSize = this.count;
    tile.ariaPosInSet = position + 1;
    tile.dataset.position = position;
    this.place(tile, position);
    this.drawTile(tile, position);
    // The elements are in the order of the photos, which is the order of a screen reader.
    let next = null;
    for (const other of this.list.children) {
      if (+other.dataset.position > position) {
        next = other;
        break;
      }
    }
    this.list.insertBefore(tile, next);
  }

  remove(position) {
    const tile = this.tiles.get(position);
    this.tiles.delete(position);
    tile.querySelector("img").removeAttribute("src"); // the browser stops the request
    tile.querySelector("img").dataset.number = "";
    tile.remove();
    this.unused.push(tile);
  }

  redraw(positions = this.tiles.keys()) {
    for (const position of positions) {
      const tile = this.tiles.get(position);
      if (tile) this.drawTile(tile, position);
    }
  }

  /** Scroll as little as possible to show the tile. `atTop`: make its row the first one. */
  reveal(position, { atTop = false } = {}) {
    if (!this.columns || position >= this.count) return;
    const { scrollTop, clientHeight } = this.scroller;
    const top = Math.floor(position / this.columns) * this.pitch;
    const bottom = top + this.pitch + 2 * this.padding - this.gap;
    if (atTop || top < scrollTop) this.scroller.scrollTop = top;
    else if (bottom > scrollTop + clientHeight) this.scroller.scrollTop = bottom - clientHeight;
  }

  /** Make another tile the current one and show it. */
  go(position, options) {
    const previous = this.current;
    this.current = position;
    this.reveal(position, options);
    this.render();
    this.redraw([previous, position]);
  }

  focus() {
    this.tiles.get(this.current)?.querySelector(".tile").focus({ preventScroll: true });
  }

  /** Return the first and the last position whose picture is completely on the screen. */
  visible() {
    const { scrollTop, clientHeight } = this.scroller;
    const above = scrollTop - this.padding;
    const first = Math.ceil((above - 4) / this.pitch);
    let last = Math.floor((above + clientHeight - this.pictureHeight + 4) / this.pitch);
    last = Math.max(first, last); // the screen may be lower than one photo
    return [Math.max(0, first) * this.columns, Math.min(this.count, (last + 1) * this.columns) - 1];
  }

  isLoaded(position) {
    const image = this.tiles.get(position)?.querySelector("img");
    return Boolean(image && ((image.complete && image.naturalWidth) || image.hidden));
  }
}
