// The page that compares two photos. Its address names them:
//   query=ID or upload=KEY (of uploads.js), and hit=ID or other=KEY.
// Of several photos of a query, n says which one: 0 is the first. With box=X,Y,WIDTH,HEIGHT only this
// part of the query is compared.

import { readAddress } from "./address.js";
import { address, api, ask, askJson, index, Problem } from "./api.js";
import { make } from "./elements.js";
import { Stage } from "./evidence_stage.js";
import { say } from "./messages.js";
import { calm, complain } from "./trouble.js";
import { bytesOf, find, keep, photosAmong } from "./uploads.js";

const PREVIEW_SIDE = 1600;
const LARGE_SIDE = 3200;
const LARGE_ZOOM = 2;
const MOST_POINTS = 2000;
const SLOW_MS = 6000;

const OF_QUERY = { n: null, box: null }; // what in the address belongs to the query of before

const byId = (id) => document.getElementById(id);
const title = document.title;
const sides = [
  { id: "query", photo: "query", upload: "upload" },
  { id: "hit", photo: "hit", upload: "other" },
].map((side) => ({ ...side, section: byId(side.id), part: (selector) => byId(side.id).querySelector(selector) }));

let box = null; // the part of the query that is compared
let shown = [null, null]; // of {photoId, key, name, files, …}
let abort = null;

const stage = new Stage(byId("stage"), byId("drawing"), {
  onChoice: tellPoint,
  onZoom: (zoom) => {
    byId("zoom-out").disabled = byId("zoom-whole").disabled = zoom === 1;
    if (zoom >= LARGE_ZOOM) sides.forEach((side, number) => showLarge(side, number));
  },
});

/** Show the photos that the address names, and compare them. */
async function show() {
  abort?.abort();
  abort = new AbortController();
  const { signal } = abort;
  calm();
  for (const id of ["answer", "controls", "summary", "scale"]) byId(id).hidden = true;
  stage.clear();
  const values = new URLSearchParams(location.search);
  ({ box } = readAddress());
  stage.panes[0].part = box;
  try {
    for (const [number, side] of sides.entries()) {
      const [photoId, key] = [values.get(side.photo), values.get(side.upload)];
      const place = number === 0 ? Number(values.get("n")) || 0 : 0;
      const before = shown[number];
      const isSame = before && before.photoId === photoId && before.key === key && before.place === place;
      if (!isSame) shown[number] = await photoOf(photoId, key, place);
      if (signal.aborted) return;
      showPhoto(side, number);
    }
    const missing = shown.filter((photo) => !photo).length;
    byId("lead").hidden = !missing;
    document.title = missing ? title : `${shown[0].name} and ${shown[1].name} · ${title}`;
    if (!missing) await compare(signal);
  } catch (error) {
    if (!signal.aborted && error.name !== "AbortError") complain(error, { again: show });
  } finally {
    if (!signal.aborted) byId("status").textContent = "";
  }
}

/** Return a photo of the index or of this browser; null if none is named. */
async function photoOf(photoId, key, place) {
  if (photoId !== null) {
    const photo = await askJson(api(`/photos/${encodeURIComponent(photoId)}`));
    const facts = [photo.label, photo.taken?.slice(0, 10), `${photo.width} × ${photo.height} pixels`, photo.path];
    const preview = (side) => api(`/photos/${photo.id}/preview`, { side });
    return {
      photoId,
      key,
      place,
      name: photo.name,
      facts: facts.filter(Boolean).join(" · "),
      url: preview(PREVIEW_SIDE),
      large: preview(LARGE_SIDE),
      small: api(`/photos/${photo.id}/thumbnail`),
      size: [photo.width, photo.height],
      search: (part) => address("/", { photo_id: photo.id, box: part }),
    };
  }
  if (key === null) return null;
  const files = await find(key);
  if (!files) throw new Problem("The photo that was chosen is in this browser no more. Choose it again.");
  const file = files[place] ?? files[0];
  return {
    photoId,
    key,
    place,
    name: file.name,
    facts: "In this browser only.",
    url: URL.createObjectURL(file.data),
    file,
    names: files.map(({ name }) => name),
    search: (part) => address("/", { upload: key, box: part }),
  };
}

function showPhoto(side, number) {
  const photo = shown[number];
  const image = side.part("img");
  const frame = side.part(".window");
  frame.classList.toggle("empty", !photo);
  side.part(".chooser").hidden = Boolean(photo);
  side.part(".buttons").hidden = !photo;
  side.part(".blank").hidden = true;
  side.part(".name").textContent = photo?.name ?? "none yet";
  side.part(".facts").textContent = photo?.facts ?? "";
  image.hidden = !photo;
  side.part(".which").hidden = true;
  if (!photo) {
    image.removeAttribute("src");
    stage.panes[number].size = null;
    return;
  }
  side.part(".search").href = photo.search(number ? null : box?.join(",") ?? null);
  const names = photo.names ?? [];
  side.part(".which").hidden = names.length < 2;
  const options = names.map((name, at) => new Option(name, at, false, at === photo.place));
  side.part("select").replaceChildren(...options);
  image.alt = photo.name;
  image.onload = () => {
    if (stage.panes[number].size) return;
    stage.panes[number].place(image.naturalWidth, image.naturalHeight);
    stage.draw();
  };
  image.onerror = () => {
    if (photo.small && image.src !== new URL(photo.small, location).href) image.src = photo.small;
    else [image.hidden, side.part(".blank").hidden] = [true, false];
  };
  if (photo.size) stage.panes[number].place(...photo.size);
  else stage.panes[number].size = null;
  if (image.getAttribute("src") !== photo.url) image.src = photo.url;
}

/** Load more pixels of a photo that is looked at closely. */
function showLarge(side, number) {
  const photo = shown[number];
  const image = side.part("img");
  if (!photo?.large || image.getAttribute("src") !== photo.url || Math.max(...photo.size) <= PREVIEW_SIDE) return;
  const large = new Image();
  large.onload = () => {
    if (shown[number] === photo) image.src = photo.large;
  };
  large.src = photo.large;
}

async function compare(signal) {
  byId("status").textContent = "Comparing…";
  const slow = setTimeout(() => (byId("status").textContent = "Comparing… The server is busy, or it still loads its network."), SLOW_MS);
  let match = null;
  try {
    match = await (await ask(api("/match"), { signal, ...bodyOf("other_id", { max_lines: MOST_POINTS }) })).json();
  } finally {
    clearTimeout(slow);
  }
  if (signal.aborted) return;
  stage.take(match, box);
  tellMatch(match);
  byId("status").textContent = "The map of the similarity follows…";
  // A turn of the query is part of what is explained.
  const explanation = await (await ask(api("/explain"), { signal, ...bodyOf("hit_id", { orientation: match.orientation }) })).json();
  if (signal.aborted) return;
  stage.takeMap(0, explanation, explanation.scale, box);
  stage.takeMap(1, explanation.against, explanation.scale);
  tellMap(explanation);
}

/** Return the body of a request on both photos: a form if one of them is of this browser. */
function bodyOf(otherName, more = {}) {
  const options = { index, box, ...more };
  const files = shown.filter((photo) => photo.file).map((photo) => photo.file);
  if (shown[0].photoId !== null) options.photo_id = Number(shown[0].photoId);
  if (shown[1].photoId !== null) options[otherName] = Number(shown[1].photoId);
  if (!files.length) return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(options) };
  const form = new FormData();
  for (const { name, data } of files) form.append("photo", data, name);
  form.append("options", JSON.stringify(options));
  return { method: "POST", body: form };
}

function tellMatch(match) {
  const verdict = byId("verdict");
  verdict.textContent = match.verdict;
  verdict.className = match.verdict === "same place" ? "same" : "";
  byId("reason").textContent = match.reason;
  const facts = [];
  if (box) facts.push(["Compared", `only the part of the query at x ${box[0]}, y ${box[1]}, ${box[2]} × ${box[3]} pixels`]);
  if (match.is_copy) facts.push(["Copy", "Both are the same picture."]);
  if (match.probability !== null) {
    facts.push(["Probability", `${match.probability.toFixed(3)} that both show the same place or thing, by the similarity and the points`]);
  }
  facts.push(["Points", `${match.geometry}.`], ["Similarity", match.similarity.toFixed(3)]);
  match.regions?.forEach((region, number) => facts.push([`Both show, in the ${["query", "photo"][number]}`, boundsOf(region)]));
  if (match.orientation !== "upright") facts.push(["Turned", `The query was compared in the orientation ${match.orientation}.`]);
  for (const note of match.notes) facts.push(["Note", note]);
  byId("facts").replaceChildren();
  facts.forEach(tellFact);
  byId("point-rows").replaceChildren(...match.lines.map(rowOf));
  byId("points").hidden = !match.lines.length;
  for (const id of ["point-before", "point-next", "show-lines", "show-points"]) byId(id).disabled = !match.lines.length;
  byId("show-outline").disabled = !match.regions;
  byId("show-map").disabled = byId("strength").disabled = true;
  for (const id of ["answer", "controls", "summary"]) byId(id).hidden = false;
  tellPoint(null);
}

function tellMap({ strongest, against, scale, notes }) {
  tellFact(["Counts most, in the query", strongest]);
  tellFact(["Counts most, in the photo", against.strongest]);
  for (const note of notes) tellFact(["Note", note]);
  byId("show-map").disabled = byId("strength").disabled = false;
  const colours = byId("scale-colours");
  const paper = colours.getContext("2d");
  colours.width = scale.colours.length;
  scale.colours.forEach((colour, at) => {
    paper.fillStyle = colour;
    paper.fillRect(at, 0, 1, 1);
  });
  byId("scale-texts").replaceChildren(...scale.texts.map((text) => make("span", { textContent: text })));
  showMap();
}

function tellFact([name, text]) {
  byId("facts").append(make("dt", { textContent: name }), make("dd", { textContent: text }));
}

function tellPoint(number) {
  const line = number === null ? null : stage.lines[number];
  const round = (point) => point.map(Math.round).join(", ");
  byId("chosen").textContent = line
    ? `Point ${number + 1} of ${stage.lines.length}: at ${round(line[0])} in the query, at ${round(line[1])} in the photo.`
    : "";
  for (const [at, row] of [...byId("point-rows").children].entries()) row.classList.toggle("chosen", at === number);
}

function rowOf(line, at) {
  const row = document.createElement("tr");
  row.append(...[at + 1, ...line.map(Math.round)].map((value) => make("td", { textContent: value })));
  return row;
}

function boundsOf(region) {
  const [xs, ys] = [0, 1].map((axis) => region.map((corner) => corner[axis]));
  const [left, top, right, bottom] = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)].map(Math.round);
  return `${right - left} × ${bottom - top} pixels, from ${left}, ${top} at the top left`;
}

/** Go to the address with other photos. `changed`: of names in the address; null takes one away. */
function go(changed) {
  const values = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changed)) {
    if (value === null) values.delete(name);
    else values.set(name, value);
  }
  // The form sends the photos of the browser first.
  if (values.has("query") && values.has("other")) {
    const [photoId, key] = [values.get("query"), values.get("other")];
    for (const name of ["query", "other", "box"]) values.delete(name);
    values.set("upload", key);
    values.set("hit", photoId);
  }
  history.pushState(null, "", `${location.pathname}?${values}`);
  show();
}

/** Compare with files that the user chose; the first one goes to a side, the next to the other. */
async function choose(files, number) {
  const photos = photosAmong(files);
  if (!photos.length) {
    if (files.length) say(`${files[0].name} is no photo.`);
    return;
  }
  const changed = {};
  for (const [at, file] of photos.slice(0, 2).entries()) {
    const side = sides[(number + at) % 2];
    try {
      const photo = await bytesOf(file);
      if (side === sides[0]) Object.assign(changed, OF_QUERY);
      Object.assign(changed, { [side.photo]: null, [side.upload]: await keep([photo]) });
    } catch {
      say(`${file.name} cannot be read. Choose it again.`);
      return;
    }
  }
  go(changed);
}

const firstEmpty = () => Math.max(0, shown.findIndex((photo) => !photo));

for (const [number, side] of sides.entries()) {
  const input = side.part("input[type=file]");
  const frame = side.part(".window");
  input.addEventListener("change", () => {
    choose(input.files, number);
    input.value = "";
  });
  side.part("select").addEventListener("change", (event) => go({ n: event.target.value }));
  side.part(".other").addEventListener("click", () => {
    go({ [side.photo]: null, [side.upload]: null, ...(number ? {} : OF_QUERY) });
    input.focus();
  });
  side.section.addEventListener("dragover", () => frame.classList.add("over"));
  for (const kind of ["dragleave", "drop"]) side.section.addEventListener(kind, () => frame.classList.remove("over"));
}
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const number = sides.findIndex((side) => side.section.contains(event.target));
  choose(event.dataTransfer.files, number < 0 ? firstEmpty() : number);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) choose(event.clipboardData.files, firstEmpty());
});

function showMap() {
  const wanted = byId("show-map").checked && !byId("show-map").disabled;
  stage.shown.map = wanted;
  byId("scale").hidden = !wanted;
  byId("stage").classList.toggle("mapped", wanted);
  stage.draw();
}

for (const name of ["lines", "points", "outline"]) {
  byId(`show-${name}`).addEventListener("change", (event) => {
    stage.shown[name] = event.target.checked;
    stage.draw();
  });
}
byId("show-map").addEventListener("change", showMap);
byId("strength").addEventListener("input", (event) => {
  stage.strength = event.target.value / 100;
  stage.draw();
});
byId("zoom-in").addEventListener("click", () => stage.zoomIn());
byId("zoom-out").addEventListener("click", () => stage.zoomOut());
byId("zoom-whole").addEventListener("click", () => stage.zoomTo(1));
byId("point-before").addEventListener("click", () => stage.step(-1));
byId("point-next").addEventListener("click", () => stage.step(1));
addEventListener("popstate", show);

show();
