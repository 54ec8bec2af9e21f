// The people of the table and of the plot: who is in the picture, and who has just left it.
import { svgElement } from "./plot.js";
import { setText } from "./text.js";

const COLOURS = 7; // as draw.py gives them to the boxes
const AWAY_S = 1; // the tracker waits so long for a face that is hidden
const STAY_S = [1.5, 4]; // who has left is shown for as long as they were in view, within these limits
export const HISTORY_S = 60;
const SAMPLE_S = 0.2; // a line needs no more points
const OLDEST = 100; // years at the right end of the scale

const rows = document.getElementById("rows");
const body = document.getElementById("faces").tBodies[0];
const people = new Map(); // track, or a name for a face without one -> person, in the order of the rows
const past = new Map(); // track -> [[clock_s, years], ...] of the time before this page was opened

// Begins anew with what the device remembers: [[clock_s, [[track, years], ...]], ...], oldest first.
export function remember(history) {
  for (const [key, person] of people) remove(key, person);
  past.clear();
  for (const [at_s, ages] of history) {
    for (const [track, years] of ages) {
      if (!past.has(track)) past.set(track, []);
      past.get(track).push([at_s, years]);
    }
  }
}

// Shows the faces of the newest frame, which was put at `at_s`.
export function showPeople(faces, at_s) {
  const sorted = faces.slice().sort((a, b) => (a.track ?? Infinity) - (b.track ?? Infinity) || 0);
  sorted.forEach((face, index) => {
    const key = face.track ?? `face ${index}`;
    if (!people.has(key)) people.set(key, arrive(face));
    see(people.get(key), face, at_s);
  });
  for (const [key, person] of people) {
    const away_s = at_s - person.seen_s;
    const stay_s = Math.min(Math.max(person.in_view_s, STAY_S[0]), STAY_S[1]);
    if (away_s > (person.track === null ? 0 : stay_s)) remove(key, person);
    else mark(person, away_s > AWAY_S);
    while (person.points.length && person.points[0][0] < at_s - HISTORY_S) person.points.shift();
  }
  rows.hidden = !people.size;
  if (faces[0]?.over) setText(document.getElementById("asked"), `Over ${faces[0].over.years}?`);
  if (faces.length) rows.classList.toggle("asked", Boolean(faces[0].over));
}

// Everybody who has a line in the plot, in the order of the rows; `lit` is the one whose row is pointed at.
export function lines() {
  const lit = body.querySelector("tr:hover") ?? body.querySelector("tr:focus");
  const tracked = [...people.values()].filter((person) => person.points.length);
  return tracked.map((person) => ({ ...person, lit: person.row === lit }));
}

// Calls a function whenever another row is pointed at.
export function onPointed(callback) {
  for (const name of ["pointerover", "pointerout", "focusin", "focusout"]) body.addEventListener(name, callback);
}

function arrive(face) {
  const points = past.get(face.track) ?? [];
  past.delete(face.track);
  const colour = face.track === null ? null : face.track % COLOURS;
  return { track: face.track, colour, points, seen_s: 0, in_view_s: 0, left: false, row: newRow(face.track, colour) };
}

function see(person, face, at_s) {
  const years = face.age_smoothed ?? face.age;
  person.seen_s = at_s;
  person.in_view_s = face.in_view_s ?? 0;
  if (person.track !== null && years !== null) addPoint(person.points, at_s, years);
  const [, age, answer, time] = person.row.cells;
  const [number, deviation, range] = age.firstChild.children;
  setText(number, whole(years));
  setText(deviation, `± ${whole(face.age_std)}`);
  drawRange(range, years, face.age_std);
  setText(answer, face.over ? face.over.answer : "");
  setText(time.lastChild, face.in_view_s === null ? "–" : duration(face.in_view_s));
}

function mark(person, left) {
  if (person.left === left) return;
  person.left = left;
  person.row.classList.toggle("left", left);
  setText(person.row.cells[3].firstChild, left ? "left after " : "");
}

function remove(key, person) {
  person.row.remove();
  people.delete(key);
}

function addPoint(points, at_s, years) {
  if (points.length && at_s <= points.at(-1)[0]) return;
  if (points.length > 1 && points.at(-1)[0] - points.at(-2)[0] < SAMPLE_S) points.pop();
  points.push([at_s, years]);
}

function newRow(track, colour) {
  const row = body.insertRow();
  if (track !== null) row.tabIndex = 0; // its line can be pointed at by keyboard, too
  const [name, age, answer, time] = Array.from({ length: 4 }, () => row.insertCell());
  answer.className = "answer";
  const swatch = document.createElement("span");
  swatch.className = `swatch c${colour}`;
  swatch.hidden = track === null;
  name.append(swatch, track === null ? "–" : String(track));
  const estimate = document.createElement("div");
  estimate.className = "age";
  estimate.append(document.createElement("b"), document.createElement("small"), newRange(colour));
  age.append(estimate);
  const spoken = document.createElement("span"); // eyes see that the row is grey
  spoken.className = "spoken";
  time.append(spoken, document.createElement("span"));
  return row;
}

// A scale with the age as a dot and a band of one standard deviation to each side.
function newRange(colour) {
  const range = svgElement("svg", { class: `range c${colour}`, "aria-hidden": "true" });
  range.append(svgElement("rect", { y: "50%", height: 6, rx: 3 }), svgElement("circle", { cy: "50%", r: 3.5 }));
  return range;
}

function drawRange(range, years, std) {
  const [band, dot] = range.children;
  const percent = (age) => (100 * Math.min(Math.max(age, 0), OLDEST)) / OLDEST;
  const [low, high] = [percent(years - std), percent(years + std)];
  range.classList.toggle("empty", years === null || std === null);
  band.setAttribute("x", `${low.toFixed(1)}%`);
  band.setAttribute("width", `${(high - low).toFixed(1)}%`);
  dot.setAttribute("cx", `${percent(years).toFixed(1)}%`);
}

function whole(years) {
  return years === null ? "–" : years.toFixed(0);
}

// Minutes and seconds, and hours if there are any.
function duration(seconds) {
  const [hours, minutes, rest] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  const parts = hours ? [hours, minutes, rest] : [minutes, rest];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}
