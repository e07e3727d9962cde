// Two photos in windows that zoom in step, and over both the points, lines, outlines and maps.

const MAX_ZOOM = 16;
const STEP = 1.4;
const WHEEL_STEP = 0.0015;
const PAN_PIXELS = 60;
const TAP_PIXELS = 5; // A pointer that moves less has not dragged.
const REACH_PIXELS = 24; // From a tap to the point that it chooses.
const LINES_FOR_STEP = 6; // With fewer, the photos are not brought in line by their points.
const POINT_RADIUS = 3;
const CLEAR_LINES = 40; // More of them are fainter, so that the photos stay visible.
const FAINTEST_LINE = 0.35;
const FAINTEST_COLOUR = 0.7; // Of a map, where it is zero: a share of its strength.
const MAX_SHAPE = 2; // Width of a window by its height.
const MIN_SHAPE = 0.8;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** One photo in its window. Positions in the photo are in pixels of its full size. */
class Pane {
  constructor(window) {
    this.window = window;
    this.image = window.querySelector("img");
    this.size = null;
    this.centre = [0, 0];
    this.part = null; // x, y, width, height of the part that is compared
    this.outline = null;
    this.map = null; // {canvas, box: in pixels of `size`}
  }

  /** Begin with a photo of width × height pixels. */
  place(width, height) {
    this.size = [width, height];
    this.centre = [width / 2, height / 2];
  }

  /** Return the pixels of the window for a pixel of the photo. */
  scale(zoom) {
    const { clientWidth, clientHeight } = this.window;
    return Math.min(clientWidth / this.size[0], clientHeight / this.size[1]) * zoom;
  }

  /** Move the centre so that no more paper shows than must. */
  keepIn(zoom) {
    const scale = this.scale(zoom);
    const seen = [this.window.clientWidth / scale, this.window.clientHeight / scale];
    this.centre = this.centre.map((value, axis) => {
      const [length, part] = [this.size[axis], seen[axis]];
      return part >= length ? length / 2 : clamp(value, part / 2, length - part / 2);
    });
  }

  /** Return where in the window a point of the photo is. */
  inWindow([x, y], zoom) {
    const scale = this.scale(zoom);
    return [(x - this.centre[0]) * scale + this.window.clientWidth / 2, (y - this.centre[1]) * scale + this.window.clientHeight / 2];
  }

  /** Return the point of the photo at a place in the window. */
  inPhoto([x, y], zoom) {
    const scale = this.scale(zoom);
    return [(x - this.window.clientWidth / 2) / scale + this.centre[0], (y - this.window.clientHeight / 2) / scale + this.centre[1]];
  }

  show(zoom) {
    const [left, top] = this.inWindow([0, 0], zoom);
    const scale = this.scale(zoom);
    this.image.style.width = `${this.size[0] * scale}px`;
    this.image.style.height = `${this.size[1] * scale}px`;
    this.image.style.transform = `translate(${left}px, ${top}px)`;
  }
}

export class Stage {
  /** `onChoice(number)`: called when another point is chosen; null: none. */
  constructor(stage, canvas, { onChoice, onZoom }) {
    this.stage = stage;
    this.canvas = canvas;
    this.onChoice = onChoice;
    this.onZoom = onZoom;
    this.panes = [...stage.querySelectorAll(".window")].map((window) => new Pane(window));
    this.zoom = 1;
    this.lines = [];
    this.chosen = null;
    this.shown = { lines: true, points: true, outline: true, map: false };
    this.strength = 0.65;
    this.toOther = null; // two affine maps: from each photo to the other one
    this.pointers = new Map();
    this.panes.forEach((pane, number) => this.listen(pane, number));
    new ResizeObserver(() => this.draw()).observe(stage);
  }

  get isReady() {
    return this.panes.every((pane) => pane.size);
  }

  /** Forget what the photos have in common. */
  clear() {
    this.lines = [];
    this.toOther = null;
    this.chosen = null;
    this.zoom = 1;
    for (const pane of this.panes) Object.assign(pane, { outline: null, map: null });
    this.draw();
  }

  /** Take the answer of `/match`. `box`: the part of the first photo that was compared, or null. */
  take(match, box) {
    match.sizes.forEach((size, number) => {
      if (number || !box) this.panes[number].place(...size);
    });
    this.lines = match.lines.map(([x, y, u, v]) => [[x, y], [u, v]]);
    this.hues = huesOf(this.lines.map(([point]) => point));
    this.panes.forEach((pane, number) => (pane.outline = match.regions?.[number] ?? null));
    this.toOther = match.model && this.lines.length >= LINES_FOR_STEP ? mapsBetween(this.lines) : null;
    this.zoomTo(1);
  }

  /** Take a map of the similarity, as `/explain` gives it, for one of the photos, or a part of it. */
  takeMap(number, { map, box, size }, scale, part) {
    const pane = this.panes[number];
    const [left, top, width] = part ?? [0, 0, pane.size[0]];
    const [x, y, ...extent] = box.map((value) => value * (width / size[0]));
    pane.map = { canvas: coloured(map, scale), box: [left + x, top + y, ...extent] };
    this.draw();
  }

  zoomTo(zoom, number = 0, at = null) {
    if (!this.isReady) return;
    const pane = this.panes[number];
    const place = at ?? [pane.window.clientWidth / 2, pane.window.clientHeight / 2];
    const held = pane.inPhoto(place, this.zoom);
    this.zoom = clamp(zoom, 1, MAX_ZOOM);
    const moved = pane.inPhoto(place, this.zoom);
    pane.centre = pane.centre.map((value, axis) => value + held[axis] - moved[axis]);
    this.follow(number);
    this.stage.classList.toggle("zoomed", this.zoom > 1);
    this.onZoom(this.zoom);
  }

  pan(number, dx, dy) {
    if (!this.isReady) return;
    const pane = this.panes[number];
    const scale = pane.scale(this.zoom);
    pane.centre = [pane.centre[0] - dx / scale, pane.centre[1] - dy / scale];
    this.follow(number);
  }

  /** Show in the other window what one of them shows. */
  follow(number) {
    const [pane, other] = [this.panes[number], this.panes[1 - number]];
    pane.keepIn(this.zoom);
    const [x, y] = pane.centre;
    if (this.toOther) {
      const [a, b] = this.toOther[number];
      other.centre = [a[0] * x + a[1] * y + a[2], b[0] * x + b[1] * y + b[2]];
    } else other.centre = [(x / pane.size[0]) * other.size[0], (y / pane.size[1]) * other.size[1]];
    other.keepIn(this.zoom);
    this.draw();
  }

  /** Choose a point; null: none. `moves`: bring it into the middle of both windows. */
  choose(number, { moves = false } = {}) {
    this.chosen = number;
    if (moves && number !== null && this.zoom > 1) {
      this.panes.forEach((pane, side) => {
        pane.centre = [...this.lines[number][side]];
        pane.keepIn(this.zoom);
      });
    }
    this.onChoice(number);
    this.draw();
  }

  step(by) {
    if (!this.lines.length) return;
    const first = by > 0 ? 0 : this.lines.length - 1;
    const next = this.chosen === null ? first : (this.chosen + by + this.lines.length) % this.lines.length;
    this.choose(next, { moves: true });
  }

  chooseNear(number, place) {
    let best = null;
    let nearest = REACH_PIXELS;
    this.lines.forEach((line, at) => {
      const [x, y] = this.panes[number].inWindow(line[number], this.zoom);
      const distance = Math.hypot(x - place[0], y - place[1]);
      if (distance < nearest) [best, nearest] = [at, distance];
    });
    this.choose(best);
  }

  listen(pane, number) {
    const { window } = pane;
    const placeOf = (event) => {
      const frame = window.getBoundingClientRect();
      return [event.clientX - frame.left - window.clientLeft, event.clientY - frame.top - window.clientTop];
    };
    window.addEventListener(
      "wheel",
      (event) => {
        if (!this.isReady) return;
        event.preventDefault();
        this.zoomTo(this.zoom * Math.exp(-event.deltaY * WHEEL_STEP), number, placeOf(event));
      },
      { passive: false },
    );
    window.addEventListener("pointerdown", (event) => {
      if (!this.isReady || event.button !== 0) return;
      window.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { number, place: placeOf(event), moved: 0 });
    });
    window.addEventListener("pointermove", (event) => {
      const held = this.pointers.get(event.pointerId);
      if (!held) return;
      const place = placeOf(event);
      const [dx, dy] = [place[0] - held.place[0], place[1] - held.place[1]];
      const other = [...this.pointers].find(([id, one]) => id !== event.pointerId && one.number === number)?.[1];
      held.moved += Math.hypot(dx, dy);
      if (other) {
        const apart = (one) => Math.hypot(one[0] - other.place[0], one[1] - other.place[1]) || 1;
        const middle = [(place[0] + other.place[0]) / 2, (place[1] + other.place[1]) / 2];
        this.zoomTo((this.zoom * apart(place)) / apart(held.place), number, middle);
        other.moved += TAP_PIXELS;
      } else if (held.moved > TAP_PIXELS && this.zoom > 1) this.pan(number, dx, dy);
      held.place = place;
    });
    const release = (event) => {
      const held = this.pointers.get(event.pointerId);
      this.pointers.delete(event.pointerId);
      if (held && event.type === "pointerup" && held.moved <= TAP_PIXELS) this.chooseNear(number, placeOf(event));
    };
    window.addEventListener("pointerup", release);
    window.addEventListener("pointercancel", release);
    window.addEventListener("dblclick", (event) => this.zoomTo(this.zoom * 2, number, placeOf(event)));
    window.addEventListener("keydown", (event) => {
      if (event.target !== window || !this.isReady || event.ctrlKey || event.metaKey || event.altKey) return;
      const work = {
        "+": () => this.zoomTo(this.zoom * STEP, number),
        "=": () => this.zoomTo(this.zoom * STEP, number),
        "-": () => this.zoomTo(this.zoom / STEP, number),
        0: () => this.zoomTo(1, number),
        ArrowLeft: () => this.pan(number, PAN_PIXELS, 0),
        ArrowRight: () => this.pan(number, -PAN_PIXELS, 0),
        ArrowUp: () => this.pan(number, 0, PAN_PIXELS),
        ArrowDown: () => this.pan(number, 0, -PAN_PIXELS),
        Escape: () => this.choose(null),
      }[event.key];
      // While the photos are whole, the arrows scroll the page.
      if (!work || (event.key.startsWith("Arrow") && this.zoom === 1)) return;
      event.preventDefault();
      work();
    });
  }

  zoomIn() {
    this.zoomTo(this.zoom * STEP);
  }

  zoomOut() {
    this.zoomTo(this.zoom / STEP);
  }

  /** Draw everything again before the next frame. */
  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    const { canvas, stage } = this;
    const dense = devicePixelRatio || 1;
    this.shapeWindows();
    canvas.width = Math.round(stage.clientWidth * dense);
    canvas.height = Math.round(stage.clientHeight * dense);
    for (const pane of this.panes) {
      if (!pane.size) continue;
      pane.keepIn(this.zoom);
      pane.show(this.zoom);
    }
    if (!this.isReady) return;
    const paper = canvas.getContext("2d");
    paper.setTransform(dense, 0, 0, dense, 0, 0);
    paper.lineJoin = "round";
    const frame = stage.getBoundingClientRect();
    const offsets = this.panes.map(({ window }) => {
      const one = window.getBoundingClientRect();
      return [one.left - frame.left + window.clientLeft, one.top - frame.top + window.clientTop];
    });
    this.panes.forEach((pane, number) => this.drawPane(paper, pane, offsets[number]));
    const ends = this.lines.map((line) => line.map((point, number) => this.panes[number].inWindow(point, this.zoom)));
    const inside = ends.map((line) => line.map(([x, y], number) => isInside(this.panes[number].window, x, y)));
    ends.forEach((line, at) => {
      if (at !== this.chosen) this.drawMatch(paper, line, inside[at], offsets, at);
    });
    if (this.chosen !== null) this.drawMatch(paper, ends[this.chosen], inside[this.chosen], offsets, this.chosen);
  }

  /** Give both windows the shape of the higher one of the photos. */
  shapeWindows() {
    const shapes = this.panes.filter(({ size }) => size).map(({ size }) => size[0] / size[1]);
    const shape = shapes.length ? clamp(Math.min(...shapes), MIN_SHAPE, MAX_SHAPE) : 1.5;
    this.stage.style.setProperty("--shape", shape.toFixed(3));
  }

  drawPane(paper, pane, [left, top]) {
    paper.save();
    paper.beginPath();
    paper.rect(left, top, pane.window.clientWidth, pane.window.clientHeight);
    paper.clip();
    paper.translate(left, top);
    if (this.shown.map && pane.map) {
      const [x, y, width, height] = pane.map.box;
      const [from, to] = [pane.inWindow([x, y], this.zoom), pane.inWindow([x + width, y + height], this.zoom)];
      paper.globalAlpha = this.strength;
      paper.imageSmoothingQuality = "high";
      paper.drawImage(pane.map.canvas, from[0], from[1], to[0] - from[0], to[1] - from[1]);
      paper.globalAlpha = 1;
    }
    if (pane.part) {
      const [x, y, width, height] = pane.part;
      const [from, to] = [pane.inWindow([x, y], this.zoom), pane.inWindow([x + width, y + height], this.zoom)];
      paper.beginPath();
      const [start, end] = [pane.inWindow([0, 0], this.zoom), pane.inWindow(pane.size, this.zoom)];
      paper.rect(...start, end[0] - start[0], end[1] - start[1]);
      paper.rect(...from, to[0] - from[0], to[1] - from[1]);
      paper.fillStyle = "rgb(0 0 0 / .45)";
      paper.fill("evenodd");
    }
    if (this.shown.outline && pane.outline) {
      paper.beginPath();
      for (const corner of pane.outline) paper.lineTo(...pane.inWindow(corner, this.zoom));
      paper.closePath();
      for (const [colour, width] of [["rgb(0 0 0 / .55)", 4.5], ["#fff", 2]]) {
        paper.strokeStyle = colour;
        paper.lineWidth = width;
        paper.stroke();
      }
    }
    paper.restore();
  }

  drawMatch(paper, line, inside, offsets, at) {
    const isChosen = at === this.chosen;
    const isFaint = this.chosen !== null && !isChosen;
    const ends = line.map(([x, y], number) => [x + offsets[number][0], y + offsets[number][1]]);
    const colour = `hsl(${this.hues[at]} 95% 62%)`;
    const clear = clamp(CLEAR_LINES / this.lines.length, FAINTEST_LINE, 1);
    paper.globalAlpha = isChosen ? 1 : isFaint ? clear / 3 : clear;
    if ((this.shown.lines || isChosen) && inside[0] && inside[1]) {
      paper.beginPath();
      paper.moveTo(...ends[0]);
      paper.lineTo(...ends[1]);
      for (const [stroke, width] of isChosen ? [["#000", 5], [colour, 3]] : [[colour, 1]]) {
        paper.strokeStyle = stroke;
        paper.lineWidth = width;
        paper.stroke();
      }
    }
    paper.globalAlpha = isFaint ? 0.3 : 1;
    if (this.shown.points || isChosen) {
      ends.forEach(([x, y], number) => {
        if (!inside[number]) return;
        paper.beginPath();
        paper.arc(x, y, isChosen ? 2 * POINT_RADIUS : POINT_RADIUS, 0, 2 * Math.PI);
        paper.fillStyle = colour;
        paper.fill();
        paper.strokeStyle = "#000";
        paper.lineWidth = isChosen ? 2 : 1;
        paper.stroke();
      });
    }
    paper.globalAlpha = 1;
  }
}

/** Return a hue for each point, by its direction from their middle; all hues are used evenly. */
function huesOf(points) {
  const [x0, y0] = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const order = points.map(([x, y], at) => [Math.atan2(y - y0, x - x0), at]).sort(([one], [other]) => one - other);
  const hues = [];
  order.forEach(([, at], rank) => (hues[at] = Math.round((360 * rank) / points.length)));
  return hues;
}

const isInside = (window, x, y) => x >= 0 && y >= 0 && x <= window.clientWidth && y <= window.clientHeight;

/** Return the affine maps from the first photo to the second and back that fit best to the points. */
function mapsBetween(lines) {
  const maps = [fit(lines), fit(lines.map(([one, other]) => [other, one]))];
  return maps.every(Boolean) ? maps : null;
}

/** Return two rows of three numbers by least squares; null if the points lie on one line. */
function fit(pairs) {
  const mean = (side, axis) => pairs.reduce((sum, pair) => sum + pair[side][axis], 0) / pairs.length;
  const [x0, y0, u0, v0] = [mean(0, 0), mean(0, 1), mean(1, 0), mean(1, 1)];
  let [xx, xy, yy, xu, yu, xv, yv] = [0, 0, 0, 0, 0, 0, 0];
  for (const [[px, py], [pu, pv]] of pairs) {
    const [x, y, u, v] = [px - x0, py - y0, pu - u0, pv - v0];
    xx += x * x;
    xy += x * y;
    yy += y * y;
    xu += x * u;
    yu += y * u;
    xv += x * v;
    yv += y * v;
  }
  const determinant = xx * yy - xy * xy;
  if (determinant < 1e-6 * (xx + yy) ** 2) return null;
  const row = (xw, yw, w0) => {
    const a = (xw * yy - yw * xy) / determinant;
    const b = (yw * xx - xw * xy) / determinant;
    return [a, b, w0 - a * x0 - b * y0];
  };
  return [row(xu, yu, u0), row(xv, yv, v0)];
}

/** Return a map in its colours, one pixel for each position. */
function coloured(map, { low, high, colours }) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [map[0].length, map.length];
  const paper = canvas.getContext("2d");
  const pixels = paper.createImageData(canvas.width, canvas.height);
  const table = colours.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  map.flat().forEach((value, at) => {
    const share = high > low ? clamp((value - low) / (high - low), 0, 1) : 0;
    const place = share * (table.length - 1);
    const below = Math.min(Math.floor(place), table.length - 2);
    const rest = place - below;
    for (let channel = 0; channel < 3; channel++) {
      pixels.data[4 * at + channel] = Math.round(table[below][channel] * (1 - rest) + table[below + 1][channel] * rest);
    }
    const size = Math.min(Math.abs(value) / (high || 1), 1);
    pixels.data[4 * at + 3] = Math.round(255 * (FAINTEST_COLOUR + (1 - FAINTEST_COLOUR) * size));
  });
  paper.putImageData(pixels, 0, 0);
  return canvas;
}
