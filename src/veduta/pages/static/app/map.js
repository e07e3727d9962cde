// The page that shows where photos were taken: the map, the markers on it, and the list beside it.

import { address, api, askJson } from "./api.js";
import { clustersOf } from "./clusters.js";
import { make } from "./elements.js";
import { MapView, project, unproject } from "./map_view.js";
import { photosText, thumbnail } from "./photo_list.js";
import { drawWorld, ringsOf } from "./world_outline.js";

const byId = (id) => document.getElementById(id);

const ADDRESS_MS = 300;
const MOST_LISTED = 100; // places
const MOST_SHOWN = 60; // photos of a place
const STEP_PIXELS = 80; // of an arrow key
const BORDER = 1e-6; // degrees around a box, so that its corners are in it
const ZOOM = 2;

const map = byId("map");
const view = new MapView(drawSoon);

let places = []; // of {id, lat, lon, x, y}
let rings = [];
let clusters = [];
let clusteredAt = 0; // the scale
let chosen = null; // points of a place
let frame = 0;
let ready = false;

// ---- drawing

function drawSoon() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    draw();
  });
}

function draw() {
  if (!ready || !view.width) return;
  const style = getComputedStyle(map);
  const colour = (name) => style.getPropertyValue(name);
  drawWorld(byId("land"), view, rings, { land: colour("--land"), water: colour("--water"), line: colour("--line") });
  // Half steps of zoom keep the clusters as they are.
  const scale = 2 ** (Math.round(2 * Math.log2(view.scale)) / 2);
  if (scale !== clusteredAt) {
    clusters = clustersOf(places, scale);
    clusteredAt = scale;
  }
  const seen = clusters.filter(({ x, y }) => {
    const [left, top] = view.place(x, y);
    return left > -20 && top > -20 && left < view.width + 20 && top < view.height + 20;
  });
  drawMarkers(seen);
  listSoon(seen);
  drawScale();
  rememberSoon();
}

const markers = new Map(); // number of the photo → its element

function drawMarkers(seen) {
  const drawn = new Set();
  for (const cluster of [...seen].reverse()) {
    const { id } = cluster.points[0];
    drawn.add(id);
    if (!markers.has(id)) markers.set(id, makeMarker(id));
    const marker = markers.get(id);
    marker.cluster = cluster;
    const count = cluster.points.length;
    marker.lastElementChild.textContent = count > 1 ? count.toLocaleString("en") : "";
    marker.classList.toggle("chosen", Boolean(chosen?.includes(cluster.points[0])));
    const [left, top] = view.place(cluster.x, cluster.y);
    marker.style.transform = `translate(-50%, -50%) translate(${left}px, ${top}px)`;
  }
  for (const [id, marker] of markers) {
    if (drawn.has(id)) continue;
    marker.remove();
    markers.delete(id);
  }
}

function makeMarker(id) {
  const marker = make("button", { type: "button", className: "marker", tabIndex: -1 },
    make("img", { src: thumbnail(id), alt: "", decoding: "async", draggable: false }), make("span"));
  marker.addEventListener("click", () => choose(marker.cluster));
  byId("markers").append(marker);
  return marker;
}

function drawScale() {
  const most = view.metresPerPixel * 120;
  const power = 10 ** Math.floor(Math.log10(most));
  const metres = [5, 2, 1].find((times) => times * power <= most) * power;
  const [text, bar] = byId("scale").children;
  text.textContent = metres >= 1000 ? `${(metres / 1000).toLocaleString("en")} km` : `${metres} m`;
  bar.style.width = `${metres / view.metresPerPixel}px`;
}

// ---- the list, and one place

let listTimer;

function listSoon(seen) {
  clearTimeout(listTimer);
  listTimer = setTimeout(() => list(seen), ADDRESS_MS);
}

function list(seen) {
  byId("places").replaceChildren(...seen.slice(0, MOST_LISTED).map((cluster) => {
    const button = make("button", { type: "button" },
      make("img", { src: thumbnail(cluster.points[0].id), alt: "", loading: "lazy", decoding: "async" }),
      make("span", {}, make("b", { textContent: photosText(cluster.points.length) }), ` ${nearText(cluster)}`));
    button.addEventListener("click", () => choose(cluster, { focus: true }));
    return make("li", {}, button);
  }));
  const more = seen.length - MOST_LISTED;
  byId("places-more").textContent = !seen.length
    ? "None here."
    : more > 0 ? `and ${more.toLocaleString("en")} more: zoom in to see them` : "";
}

/** Return a place in words. The more the map is zoomed in, the more exact. */
function nearText({ x, y }) {
  const [lat, lon] = unproject(x, y);
  const digits = Math.max(0, Math.min(4, Math.round(Math.log10(view.scale / 360))));
  const words = (value, plus, minus) => `${Math.abs(value).toFixed(digits)}° ${value < 0 ? minus : plus}`;
  return `near ${words(lat, "N", "S")}, ${words(lon, "E", "W")}`;
}

/** Return the box around points as the API takes it: south, west, north, east. */
function boxOf(points) {
  const [lats, lons] = [points.map(({ lat }) => lat), points.map(({ lon }) => lon)];
  const least = (all) => all.reduce((one, other) => Math.min(one, other)) - BORDER;
  const most = (all) => all.reduce((one, other) => Math.max(one, other)) + BORDER;
  return [least(lats), least(lons), most(lats), most(lons)].map((degrees) => degrees.toFixed(6)).join(",");
}

function choose(cluster, { focus = false } = {}) {
  chosen = cluster.points;
  const within = boxOf(chosen);
  byId("chosen").hidden = false;
  byId("chosen-title").textContent = `${photosText(chosen.length)} ${nearText(cluster)}`;
  byId("chosen-browse").href = address("/browse", { within });
  byId("chosen-photos").replaceChildren(...chosen.slice(0, MOST_SHOWN).map(({ id }) => {
    const image = make("img", { src: thumbnail(id), alt: `Photo ${id}`, loading: "lazy", decoding: "async" });
    return make("li", {}, make("a", { href: address("/browse", { within, photo: id }) }, image));
  }));
  const more = chosen.length - MOST_SHOWN;
  byId("chosen-more").textContent = more > 0 ? `and ${more.toLocaleString("en")} more` : "";
  nameChosen(chosen);
  if (focus) byId("chosen-title").focus();
  byId("chosen").scrollIntoView({ block: "nearest" });
  drawSoon();
}

/** Say the names of the photos that are shown. */
async function nameChosen(points) {
  const shown = points.slice(0, MOST_SHOWN);
  const { photos } = await askJson(api("/photos", { limit: MOST_SHOWN, id: shown.map(({ id }) => id) }));
  if (chosen !== points) return;
  const nameOf = new Map(photos.map(({ id, name, label }) => [id, label ? `${name}, ${label}` : name]));
  [...byId("chosen-photos").querySelectorAll("img")].forEach((image, at) => {
    const name = nameOf.get(shown[at].id);
    if (name) Object.assign(image, { alt: name, title: name });
  });
}

function closeChosen() {
  chosen = null;
  byId("chosen").hidden = true;
  map.focus({ preventScroll: true });
  drawSoon();
}

byId("chosen-close").addEventListener("click", closeChosen);
byId("chosen-zoom").addEventListener("click", () => {
  const [xs, ys] = [chosen.map(({ x }) => x), chosen.map(({ y }) => y)];
  const same = new Set(xs).size === 1 && new Set(ys).size === 1;
  if (same) view.show(xs[0], ys[0], view.scale * ZOOM ** 2);
  else view.fit(chosen.map(({ x, y }) => [x, y]));
});

// ---- moving and zooming

const fitAll = () => view.fit(places.map(({ x, y }) => [x, y]));

byId("zoom-in").addEventListener("click", () => view.zoom(ZOOM));
byId("zoom-out").addEventListener("click", () => view.zoom(1 / ZOOM));
byId("zoom-all").addEventListener("click", fitAll);

map.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key in moves) view.move(...moves[event.key].map((steps) => steps * STEP_PIXELS));
  else if (event.key === "+" || event.key === "=") view.zoom(ZOOM);
  else if (event.key === "-") view.zoom(1 / ZOOM);
  else if (event.key === "0") fitAll();
  else if (event.key === "Escape" && chosen) closeChosen();
  else return;
  event.preventDefault();
});

map.addEventListener("wheel", (event) => {
  event.preventDefault();
  const { left, top } = map.getBoundingClientRect();
  const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1);
  view.zoom(2 ** (-pixels / 200), event.clientX - left, event.clientY - top);
}, { passive: false });

const pointers = new Map(); // that are pressed: number → where

map.addEventListener("pointerdown", (event) => {
  if (event.target.closest(".marker") || event.button) return;
  map.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
});
map.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const others = [...pointers].filter(([number]) => number !== event.pointerId).map(([, where]) => where);
  const now = [event.clientX, event.clientY];
  pointers.set(event.pointerId, now);
  if (!others.length) return view.move(before[0] - now[0], before[1] - now[1]);
  // Two fingers: what is between them stays there.
  const distance = (where) => Math.max(1, Math.hypot(where[0] - others[0][0], where[1] - others[0][1]));
  const middle = (where) => [(where[0] + others[0][0]) / 2, (where[1] + others[0][1]) / 2];
  const { left, top } = map.getBoundingClientRect();
  const [from, to] = [middle(before), middle(now)];
  view.move(from[0] - to[0], from[1] - to[1]);
  view.zoom(distance(now) / distance(before), to[0] - left, to[1] - top);
});
for (const end of ["pointerup", "pointercancel"]) {
  map.addEventListener(end, (event) => pointers.delete(event.pointerId));
}
map.addEventListener("dblclick", (event) => {
  const { left, top } = map.getBoundingClientRect();
  view.zoom(event.shiftKey ? 1 / ZOOM : ZOOM, event.clientX - left, event.clientY - top);
});

// ---- the address, and the start

let rememberTimer;

function rememberSoon() {
  clearTimeout(rememberTimer);
  rememberTimer = setTimeout(() => {
    const query = new URLSearchParams(location.search);
    const [lat, lon] = unproject(view.x, view.y);
    query.set("at", `${lat.toFixed(5)},${lon.toFixed(5)},${Math.round(view.scale)}`);
    history.replaceState(null, "", `?${query}`);
  }, ADDRESS_MS);
}

/** Show the part of the world that the address names; else all places. */
function followAddress() {
  const [lat, lon, scale] = (new URLSearchParams(location.search).get("at") ?? "").split(",").map(Number);
  if (Number.isFinite(lat) && Number.isFinite(lon) && scale > 0) view.show(...project(lat, lon), scale);
  else fitAll();
}

async function start() {
  const measure = () => view.resize(map.clientWidth, map.clientHeight);
  measure();
  new ResizeObserver(measure).observe(map);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawSoon);
  try {
    const [world, found] = await Promise.all([
      askJson(document.querySelector(".map-page").dataset.world),
      askJson(api("/places")),
    ]);
    rings = ringsOf(world);
    places = found.points.map((place) => {
      const [x, y] = project(place.lat, place.lon);
      return { ...place, x, y };
    });
    const without = found.without ? `, ${found.without.toLocaleString("en")} without a place` : "";
    byId("count").textContent = `${photosText(places.length)}${without}`;
    if (!found.stored) byId("hint").textContent = "This index was made without places. Index the photos into another folder to see them here.";
    else if (!places.length) byId("hint").textContent = "A photo is on the map if its camera noted the place in Exif (GPS).";
  } catch (problem) {
    if (!("status" in problem)) throw problem;
    byId("count").textContent = problem.message;
    return;
  }
  ready = true;
  followAddress();
}

start();
