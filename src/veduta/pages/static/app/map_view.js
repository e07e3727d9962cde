// Which part of the world a map shows. The world is a square of side 1 in Mercator's projection.

const MAX_LATITUDE = 85;
const METRES_AROUND = 40_075_017; // the equator
const MIN_METRES_A_PIXEL = 1;
const ROOM = 60; // CSS pixels around all places, so that their markers are on the map

const radians = (degrees) => (degrees * Math.PI) / 180;

/** Return where a place is: x from west to east, y from north to south, both 0 to 1. */
export function project(lat, lon) {
  const angle = radians(Math.max(-MAX_LATITUDE, Math.min(MAX_LATITUDE, lat)));
  return [(lon + 180) / 360, 0.5 - Math.log(Math.tan(Math.PI / 4 + angle / 2)) / (2 * Math.PI)];
}

/** Return [lat, lon] of a point of the square. */
export function unproject(x, y) {
  const angle = 2 * Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) - Math.PI / 2;
  return [(angle * 180) / Math.PI, x * 360 - 180];
}

export class MapView {
  /** `onChange()`: another part is shown. */
  constructor(onChange) {
    // The point in the middle, and how many CSS pixels wide the world would be.
    Object.assign(this, { onChange, x: 0.5, y: 0.4, scale: 1000, width: 0, height: 0 });
  }

  /** Return where a point of the square is on the map, in CSS pixels. */
  place(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2];
  }

  /** Return the point of the square that is somewhere on the map. */
  point(left, top) {
    return [this.x + (left - this.width / 2) / this.scale, this.y + (top - this.height / 2) / this.scale];
  }

  get metresPerPixel() {
    return (METRES_AROUND / this.scale) * Math.cos(radians(unproject(this.x, this.y)[0]));
  }

  resize(width, height) {
    Object.assign(this, { width, height });
    this.show(this.x, this.y, this.scale);
  }

  /** Show a point in the middle. */
  show(x, y, scale) {
    const smallest = Math.max(this.width, 256);
    this.scale = Math.max(smallest, Math.min(METRES_AROUND / MIN_METRES_A_PIXEL, scale));
    const [halfWidth, halfHeight] = [this.width / 2 / this.scale, this.height / 2 / this.scale];
    this.x = Math.max(halfWidth, Math.min(1 - halfWidth, x));
    this.y = halfHeight >= 0.5 ? 0.5 : Math.max(halfHeight, Math.min(1 - halfHeight, y));
    this.onChange();
  }

  /** Show all of some points, [x, y], as large as possible. */
  fit(points) {
    if (!points.length) return this.show(0.5, 0.4, 0);
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
    const [left, top] = [xs, ys].map((all) => all.reduce((one, other) => Math.min(one, other)));
    const [right, bottom] = [xs, ys].map((all) => all.reduce((one, other) => Math.max(one, other)));
    const scale = Math.min(
      (this.width - 2 * ROOM) / Math.max(right - left, 1e-4),
      (this.height - 2 * ROOM) / Math.max(bottom - top, 1e-4),
    );
    this.show((left + right) / 2, (top + bottom) / 2, scale);
  }

  move(right, down) {
    this.show(this.x + right / this.scale, this.y + down / this.scale, this.scale);
  }

  /** Zoom by a factor. What is at `left`, `top` stays there. */
  zoom(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.point(left, top);
    const scale = Math.max(Math.max(this.width, 256), Math.min(METRES_AROUND / MIN_METRES_A_PIXEL, this.scale * factor));
    this.show(x - (left - this.width / 2) / scale, y - (top - this.height / 2) / scale, scale);
  }
}
