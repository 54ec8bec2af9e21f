// Zones and lines: set by clicking on the picture, and shown as the options that keep them.
import { addressOf } from "./address.js";
import { svgElement } from "./plot.js";

const byId = (id) => document.getElementById(id);
const [section, list, picture, draft] = [byId("places"), byId("place-list"), byId("picture"), byId("draft")];
const [name, done, cancel, said] = [byId("place-name"), byId("place-done"), byId("place-cancel"), byId("place-said")];
const LEAST = { zone: 3, line: 2 };
let kind = ""; // of the place that is being set: "zone", "line", or none
let points = []; // of it, in fractions of the picture

byId("add-zone").addEventListener("click", () => begin("zone"));
byId("add-line").addEventListener("click", () => begin("line"));
draft.addEventListener("click", add);
done.addEventListener("click", finish);
cancel.addEventListener("click", () => begin(""));
name.addEventListener("input", update);
byId("place-form").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && kind) begin("");
});
new ResizeObserver(update).observe(picture);

// Shows the places of the run: texts as the options take them.
export function showPlaces(zones, lines) {
  section.hidden = false;
  const rows = [...zones.map((text) => ["zone", text]), ...lines.map((text) => ["line", text])];
  list.replaceChildren(...rows.map(([option, text]) => row(option, text)));
}

function row(option, text) {
  const made = document.createElement("li");
  const code = document.createElement("code");
  code.textContent = `--${option} "${text}"`;
  const remove = document.createElement("button");
  remove.type = "button";
  remove.textContent = "Remove";
  remove.setAttribute("aria-label", `Remove ${text.split("=")[0]}`);
  remove.addEventListener("click", () => ask("remove", text.split("=")[0]));
  made.append(code, remove);
  return made;
}

function begin(what) {
  [kind, points] = [what, []];
  name.value = "";
  said.textContent = "";
  update();
}

function add(event) {
  const area = shownArea();
  const frame = draft.getBoundingClientRect();
  const at = [(event.clientX - frame.left - area.left) / area.width, (event.clientY - frame.top - area.top) / area.height];
  if (kind === "line" && points.length === 2) points = [];
  points.push(at.map((value) => Math.min(Math.max(value, 0), 1)));
  if (points.length === LEAST[kind]) name.focus();
  update();
}

async function finish() {
  const text = `${name.value.trim()}=${points.map((point) => point.map((value) => value.toFixed(3)).join(",")).join(";")}`;
  const problem = await ask(kind, text);
  if (problem) said.textContent = problem;
  else begin("");
}

// Asks the device for a change; returns what it says against it.
async function ask(what, text) {
  try {
    const answer = await fetch(addressOf("places", { [what]: text }), { method: "POST" });
    return answer.ok ? "" : (await answer.text()).trim();
  } catch {
    return "The device does not answer";
  }
}

function update() {
  draft.classList.toggle("setting", Boolean(kind));
  byId("place-form").hidden = !kind;
  byId("place-help").textContent = kind === "zone"
    ? "Click on the corners of the zone in the picture, then name it."
    : "Click on the two ends of the line in the picture, then name it.";
  done.disabled = !kind || points.length < LEAST[kind] || !name.value.trim();
  const area = shownArea();
  const dots = points.map(([x, y]) => [area.left + x * area.width, area.top + y * area.height]);
  const outline = svgElement(kind === "zone" ? "polygon" : "polyline", { points: dots.map((dot) => dot.join(",")).join(" ") });
  draft.replaceChildren(outline, ...dots.map(([cx, cy]) => svgElement("circle", { cx, cy, r: 4 })));
}

// Where the picture is within its element, in pixels: its sides may stay empty.
function shownArea() {
  const [width, height] = [picture.clientWidth, picture.clientHeight];
  const scale = Math.min(width / (picture.naturalWidth || width), height / (picture.naturalHeight || height)) || 1;
  const [shownWidth, shownHeight] = [(picture.naturalWidth || width) * scale, (picture.naturalHeight || height) * scale];
  const [left, top] = [picture.offsetLeft + (width - shownWidth) / 2, picture.offsetTop + (height - shownHeight) / 2];
  return { left, top, width: shownWidth || 1, height: shownHeight || 1 };
}
