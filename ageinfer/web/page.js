// The page of a run: one stream of pictures, one of state. Texts from the device are only ever shown as text.
import { showPlayback } from "./playback.js";
import { drawPlot } from "./plot.js";

const RETRY_MS = 2000;
const SILENCE_MS = 4000; // the device says something every second
const STALLED_S = 5;
const HISTORY_S = 60;
const COLOURS = 7; // as draw.py gives them to the boxes
const LABELS = { real: "real age", apparent: "apparent age (how old a face looks)" };

const byId = (id) => document.getElementById(id);
const picture = byId("picture");
const lines = new Map(); // track -> { colour, points: [[clock_s, years], ...] }
let events = null;
let silence = 0;
let retry = 0;
let opened = 0;
let opened_ms = 0;
let view = "";
let clock_s = 0;
let untracked = false;

// The address with its token has done its work: a cookie holds it now.
history.replaceState(null, "", location.pathname);
connect();
document.addEventListener("visibilitychange", () => {
  // A page that nobody sees takes no place on the device, and costs it no work.
  if (document.hidden) {
    disconnect();
    picture.removeAttribute("src");
  } else {
    connect();
  }
});
picture.addEventListener("load", () => document.body.classList.add("has-picture"));
picture.addEventListener("error", () => {
  document.body.classList.remove("has-picture");
  setText(byId("no-picture"), "No picture at the moment: perhaps too many are watching");
});
new ResizeObserver(plot).observe(byId("plot"));

function connect() {
  disconnect();
  view = crypto.getRandomValues(new Uint32Array(2)).join("-");
  events = new EventSource(`events?view=${view}`);
  events.addEventListener("hello", (event) => greet(JSON.parse(event.data)));
  events.addEventListener("state", (event) => show(JSON.parse(event.data)));
  events.addEventListener("end", () => lost("The run on the device has ended"));
  events.addEventListener("error", () => lost("Connection to the device lost, trying again"));
  listen();
}

function disconnect() {
  clearTimeout(silence);
  clearTimeout(retry);
  if (events) events.close();
  events = null;
}

function listen() {
  clearTimeout(silence);
  silence = setTimeout(() => lost("Connection to the device lost, trying again"), SILENCE_MS);
}

function lost(text) {
  disconnect();
  say("lost", text);
  retry = setTimeout(tryAgain, RETRY_MS);
}

async function tryAgain() {
  let status = 0;
  try {
    const signal = AbortSignal.timeout(SILENCE_MS);
    status = (await fetch("events", { method: "HEAD", cache: "no-store", signal })).status;
  } catch {
    // still away
  }
  if (document.hidden || events) return; // things have changed meanwhile
  if (status === 200) return connect();
  if (status === 401) say("lost", "The device asks for a token: open the address that it printed");
  if (status === 503) say("lost", "Too many are watching, trying again");
  retry = setTimeout(tryAgain, RETRY_MS);
}

function say(state, text) {
  for (const name of ["waiting", "live", "lost"]) document.body.classList.toggle(name, name === state);
  setText(byId("status"), text);
}

function greet(hello) {
  listen();
  document.title = `ageinfer: ${hello.source}`;
  for (const name of ["source", "provider", "detector", "model"]) setText(byId(name), hello[name]);
  byId("source").title = hello.source;
  setText(byId("label"), LABELS[hello.label] || hello.label);
  setText(byId("version"), `ageinfer ${hello.version}`);
  picture.alt = `Live picture of ${hello.source}, with a box and an age on every face`;
  lines.clear();
  for (const [at_s, ages] of hello.history) for (const [track, years] of ages) remember(track, at_s, years);
  showPicture();
}

function showPicture() {
  opened += 1;
  opened_ms = performance.now();
  picture.src = `stream.mjpg?view=${view}&opened=${opened}`;
}

function show(state) {
  listen();
  clock_s = state.clock_s;
  // Browsers do not say when a stream of pictures breaks off; the device does.
  if (state.picture_s === null && performance.now() - opened_ms > RETRY_MS) showPicture();
  showPlayback(state.playback);
  if (state.playback?.ended && state.since_s !== null) say("live", "At its end");
  else if (state.playback?.paused) say("waiting", "Paused");
  else if (state.since_s === null) say("waiting", "Connected, waiting for the first picture");
  else if (state.since_s > STALLED_S) say("waiting", "Connected, but no new picture comes");
  else if ((state.picture_s ?? 0) > STALLED_S) say("waiting", "Connected, but the picture is late");
  else say("live", state.playback ? "Playing" : "Live");
  setText(byId("fps"), state.fps.toFixed(state.fps < 9.95 ? 1 : 0));
  setText(byId("latency"), state.latency_ms === null ? "–" : `${state.latency_ms.toFixed(0)} ms`);
  setText(byId("caption"), describe(state));

  const faces = state.faces.slice().sort((a, b) => (a.track ?? Infinity) - (b.track ?? Infinity) || 0);
  if (faces.length) untracked = faces.every((face) => face.track === null);
  for (const face of faces) {
    const years = face.age_smoothed ?? face.age;
    if (face.track !== null && years !== null) remember(face.track, clock_s - state.since_s, years);
  }
  forget();
  showFaces(faces);
  plot();
}

function plot() {
  const empty = untracked ? "Faces of this source are not tracked" : "No tracked face in the last minute";
  drawPlot(byId("plot"), lines, clock_s, HISTORY_S, empty);
}

function describe(state) {
  if (state.frame === null) return "\u00a0";
  const parts = [`frame ${state.frame}`];
  if (state.time_s !== null) parts.push(`${state.time_s.toFixed(1)} s`);
  parts.push(`${state.size[0]} × ${state.size[1]}`);
  if (state.source !== byId("source").textContent) parts.unshift(state.source);
  return parts.join(" · ");
}

function showFaces(faces) {
  const count = faces.length;
  const counted = count ? `${count} ${count === 1 ? "face" : "faces"}` : "No face";
  setText(byId("count"), `${counted} in the picture`);
  byId("faces").hidden = !count;
  const body = byId("faces").tBodies[0];
  while (body.rows.length > count) body.deleteRow(-1);
  while (body.rows.length < count) body.append(newRow());
  faces.forEach((face, index) => {
    const [track, age, raw] = body.rows[index].cells;
    track.firstChild.className = `swatch c${face.track % COLOURS}`;
    track.firstChild.hidden = face.track === null;
    setText(track.lastChild, face.track === null ? "–" : String(face.track));
    setText(age.firstChild, whole(face.age_smoothed ?? face.age));
    setText(age.lastChild, ` ± ${whole(face.age_std)}`);
    setText(raw, face.age === null ? "–" : face.age.toFixed(1));
  });
}

function newRow() {
  const row = document.createElement("tr");
  const [track, age] = [row.insertCell(), row.insertCell()];
  row.insertCell();
  track.append(document.createElement("span"), document.createElement("span"));
  age.append(document.createElement("span"), document.createElement("small"));
  return row;
}

function remember(track, at_s, years) {
  if (!lines.has(track)) lines.set(track, { colour: track % COLOURS, points: [] });
  const points = lines.get(track).points;
  if (!points.length || at_s > points[points.length - 1][0]) points.push([at_s, years]);
}

function forget() {
  for (const [track, line] of lines) {
    while (line.points.length && line.points[0][0] < clock_s - HISTORY_S) line.points.shift();
    if (!line.points.length) lines.delete(track);
  }
}

function whole(years) {
  return years === null ? "–" : years.toFixed(0);
}

function setText(element, content) {
  if (element.textContent !== content) element.textContent = content;
}
