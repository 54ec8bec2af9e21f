// How many people of each age there were: one window of time, of the whole picture or of a zone.
import { setText } from "./text.js";

const byId = (id) => document.getElementById(id);
const [section, when, where] = [byId("audience"), byId("window"), byId("place")];
const [total, body, crossings] = [byId("total"), byId("bands"), byId("crossings")];
let windows = []; // the newest first

when.addEventListener("change", draw);
where.addEventListener("change", draw);

// Shows the windows that have ended, the oldest first, and the one that goes on, or null.
export function showAudience(ended, current) {
  const before = chosen();
  windows = [...ended, ...(current ? [current] : [])].reverse();
  section.hidden = !windows.length;
  if (section.hidden) return;
  const follows = when.selectedIndex <= 0;
  offer(when, windows.map((one) => one === current ? `${span(one)}, so far` : span(one)));
  const same = follows ? -1 : windows.findIndex((one) => one.from_s === before.from_s && one.source === before.source);
  when.selectedIndex = Math.max(0, same);
  draw();
}

function chosen() {
  return windows[Math.max(0, when.selectedIndex)];
}

function draw() {
  const one = chosen();
  offer(where, ["Everywhere", ...one.zones.map((zone) => zone.zone)]);
  const tally = one.zones[where.selectedIndex - 1] ?? one;
  setText(total, describe(tally));
  const most = Math.max(1, ...tally.bands.map((band) => band.high ?? 0));
  tally.bands.forEach((band, index) => drawBand(body.rows[index] ?? newRow(), band, most));
  while (body.rows.length > tally.bands.length) body.deleteRow(-1);
  crossings.replaceChildren(...one.lines.map((line) => item(
    `${line.line}: ${number(line.left)} to the left, ${number(line.right)} to the right`)));
}

function describe(tally) {
  if (tally.people === null) return "Too few people to be shown";
  const people = `${tally.people} ${tally.people === 1 ? "person" : "people"}`;
  return `${people}, ${tally.mean_in_view.toFixed(1)} at a time, at most ${tally.most_in_view}`;
}

function newRow() {
  const row = body.insertRow();
  const name = document.createElement("th");
  name.scope = "row";
  const bar = document.createElement("div");
  bar.className = "band";
  bar.setAttribute("aria-hidden", "true");
  bar.append(document.createElement("i"), document.createElement("s"));
  row.append(name);
  row.insertCell().append(bar);
  row.insertCell();
  return row;
}

function drawBand(row, band, most) {
  const [name, shape, count] = row.cells;
  const [bar, interval] = shape.firstChild.children;
  const percent = (value) => `${((100 * (value ?? 0)) / most).toFixed(1)}%`;
  setText(name, band.ages);
  bar.style.width = percent(band.count);
  interval.style.left = percent(band.low);
  interval.style.width = percent((band.high ?? 0) - (band.low ?? 0));
  setText(count, band.count === null ? "hidden" : `${band.count.toFixed(1)} (${band.low.toFixed(0)} to ${band.high.toFixed(0)})`);
}

// Gives a list of choices these texts, and keeps the place of what is chosen.
function offer(select, texts) {
  const place = select.selectedIndex;
  if ([...select.options].map((option) => option.text).join("\n") !== texts.join("\n")) {
    select.replaceChildren(...texts.map((text) => new Option(text)));
  }
  select.selectedIndex = place > 0 && place < texts.length ? place : 0;
}

function span(one) {
  if (!one.from_at) return `${clock(one.from_s)} to ${clock(one.to_s)}`;
  const time = (text) => new Date(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return `${time(one.from_at)} to ${time(one.to_at)}`;
}

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

function number(count) {
  return count === null ? "few" : count;
}

function item(text) {
  const made = document.createElement("li");
  made.textContent = text;
  return made;
}
