// The land of the world on a canvas, with lines of latitude and longitude.

import { project, unproject } from "./map_view.js";

const DEGREES = [30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
const LINE_PIXELS = 90; // lines are at least so far apart

/** Return the rings of the land, as lists of points x, y, x, y, … of the square of `project`. */
export function ringsOf({ rings, stepsPerDegree }) {
  return rings.map((steps) => {
    const ring = [];
    let [lon, lat] = [0, 0];
    for (let at = 0; at < steps.length; at += 2) {
      lon += steps[at];
      lat += steps[at + 1];
      ring.push(...project(lat / stepsPerDegree, lon / stepsPerDegree));
    }
    return ring;
  });
}

/** Draw what a view shows of the land. `colours`: of land, water and lines. */
export function drawWorld(canvas, view, rings, colours) {
  const ratio = devicePixelRatio;
  const [width, height] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = colours.water;
  pen.fillRect(0, 0, view.width, view.height);
  pen.beginPath();
  for (const ring of rings) {
    pen.moveTo(...view.place(ring[0], ring[1]));
    for (let at = 2; at < ring.length; at += 2) pen.lineTo(...view.place(ring[at], ring[at + 1]));
    pen.closePath();
  }
  pen.fillStyle = colours.land;
  pen.fill("evenodd");
  drawLines(pen, view, colours.line);
}

function drawLines(pen, view, colour) {
  const step = DEGREES.findLast((degrees) => (degrees / 360) * view.scale >= LINE_PIXELS) ?? DEGREES[0];
  const [[north, west], [south, east]] = [[0, 0], [view.width, view.height]].map((corner) => unproject(...view.point(...corner)));
  pen.beginPath();
  for (let lon = Math.ceil(west / step) * step; lon <= east; lon += step) {
    const [left] = view.place(...project(0, lon));
    pen.moveTo(Math.round(left) + 0.5, 0);
    pen.lineTo(Math.round(left) + 0.5, view.height);
  }
  for (let lat = Math.ceil(south / step) * step; lat <= north; lat += step) {
    const [, top] = view.place(...project(lat, 0));
    pen.moveTo(0, Math.round(top) + 0.5);
    pen.lineTo(view.width, Math.round(top) + 0.5);
  }
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.stroke();
}
