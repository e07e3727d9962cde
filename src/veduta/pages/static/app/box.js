// A box on a photo: drawn, moved and resized with a pointer, with keys, or by its numbers.

const MIN_DRAWN = 6; // CSS pixels; less is a click
const STEP = 0.02; // of the photo, for each press of a key
const SETTLE_MS = 600; // After the last press of a key the box is searched for.

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

export class Box {
  /**
   * `frame`: an element as large as the photo, with the elements of the box.
   * `fields`: the four inputs for x, y, width and height.
   * `onChange(box)`: called with [x, y, width, height] in pixels of the photo, or null.
   */
  constructor(frame, fields, onChange) {
    Object.assign(this, { frame, fields, onChange, size: null, box: null });
    this.element = frame.querySelector(".box");
    frame.addEventListener("pointerdown", (event) => this.onPress(event));
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    for (const field of fields) field.addEventListener("change", () => this.onNumber());
  }

  /** Show the box of a photo of `size` [width, height]; null: no box can be drawn. */
  show(size, box) {
    clearTimeout(this.settling);
    this.size = size;
    this.box = size ? box : null;
    this.draw();
  }

  /** Put a box into the middle of the photo. */
  addInMiddle() {
    const [width, height] = this.size;
    this.set([width / 4, height / 4, width / 2, height / 2]);
    this.commit();
    this.element.focus();
  }

  remove() {
    this.box = null;
    this.draw();
    this.commit();
  }

  /** Take a box that may leave the photo, or be too small. */
  set([x, y, width, height]) {
    const [photoWidth, photoHeight] = this.size;
    const wide = clamp(Math.round(width), Math.min(8, photoWidth), photoWidth);
    const high = clamp(Math.round(height), Math.min(8, photoHeight), photoHeight);
    const left = clamp(Math.round(x), 0, photoWidth - wide);
    this.box = [left, clamp(Math.round(y), 0, photoHeight - high), wide, high];
    this.draw();
  }

  draw() {
    this.element.hidden = !this.box;
    this.frame.classList.toggle("drawable", Boolean(this.size));
    this.fields.forEach((field, number) => {
      field.value = this.box ? this.box[number] : "";
      field.disabled = !this.size;
    });
    if (!this.box) return;
    const [x, y, width, height] = this.box;
    const [photoWidth, photoHeight] = this.size;
    const { style } = this.element;
    style.left = `${(100 * x) / photoWidth}%`;
    style.top = `${(100 * y) / photoHeight}%`;
    style.width = `${(100 * width) / photoWidth}%`;
    style.height = `${(100 * height) / photoHeight}%`;
    this.element.ariaLabel = `Box at ${x}, ${y}, ${width} wide, ${height} high. Arrow keys move it, with Shift they change its size, Delete removes it.`;
  }

  commit() {
    clearTimeout(this.settling);
    this.onChange(this.box);
  }

  onPress(event) {
    if (!this.size || event.button !== 0) return;
    const onBox = this.element.contains(event.target);
    // A finger beside the box scrolls the page; its box comes from the button.
    if (!onBox && event.pointerType === "touch") return;
    event.preventDefault();
    const start = this.positionOf(event);
    const before = this.box;
    const edges = event.target.dataset.edges ?? "";
    const changed = (to) => {
      if (!onBox) return between(start, to);
      const by = [to[0] - start[0], to[1] - start[1]];
      return edges ? stretched(before, edges, by) : [before[0] + by[0], before[1] + by[1], before[2], before[3]];
    };
    let moved = false;
    const onMove = (move) => {
      const far = Math.hypot(move.clientX - event.clientX, move.clientY - event.clientY);
      moved ||= far >= MIN_DRAWN;
      if (moved) this.set(changed(this.positionOf(move)));
    };
    const onEnd = (end) => {
      this.frame.removeEventListener("pointermove", onMove);
      this.frame.removeEventListener("pointerup", onEnd);
      this.frame.removeEventListener("pointercancel", onEnd);
      if (end.type === "pointercancel") {
        this.box = before;
        this.draw();
      } else if (moved) this.commit();
    };
    this.frame.setPointerCapture(event.pointerId);
    this.frame.addEventListener("pointermove", onMove);
    this.frame.addEventListener("pointerup", onEnd);
    this.frame.addEventListener("pointercancel", onEnd);
    if (onBox) this.element.focus({ preventScroll: true });
  }

  /** Return where a pointer is, in pixels of the photo. */
  positionOf(event) {
    const frame = this.frame.getBoundingClientRect();
    const [width, height] = this.size;
    const x = ((event.clientX - frame.left) / frame.width) * width;
    const y = ((event.clientY - frame.top) / frame.height) * height;
    return [clamp(x, 0, width), clamp(y, 0, height)];
  }

  onKey(event) {
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.remove();
      return;
    }
    const direction = directions[event.key];
    if (!direction) return;
    event.preventDefault();
    const by = direction.map((sign, axis) => sign * Math.max(1, STEP * this.size[axis]));
    const [x, y, width, height] = this.box;
    this.set(event.shiftKey ? [x, y, width + by[0], height + by[1]] : [x + by[0], y + by[1], width, height]);
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.commit(), SETTLE_MS);
  }

  onNumber() {
    const values = this.fields.map((field) => field.valueAsNumber);
    if (values.some(Number.isNaN)) return; // The other numbers are still to come.
    this.set(values);
    this.commit();
  }
}

/** Return the box between two corners. */
const between = ([x, y], [otherX, otherY]) => [
  Math.min(x, otherX),
  Math.min(y, otherY),
  Math.abs(otherX - x),
  Math.abs(otherY - y),
];

/** Return a box whose edges, such as "ne", were moved. An edge may pass the one opposite to it. */
function stretched([x, y, width, height], edges, [right, down]) {
  const corners = [[x, y], [x + width, y + height]];
  if (edges.includes("w")) corners[0][0] += right;
  if (edges.includes("e")) corners[1][0] += right;
  if (edges.includes("n")) corners[0][1] += down;
  if (edges.includes("s")) corners[1][1] += down;
  return between(...corners);
}
