// The page of a run: one stream of pictures, one of state. Texts from the device are only ever shown as text.
import { addressOf } from "./address.js";
import { showAudience } from "./audience.js";
import { Link, RETRY_MS, say } from "./link.js";
import { HISTORY_S, lines, onPointed, remember, showPeople } from "./people.js";
import { showPlaces } from "./places.js";
import { showPlayback } from "./playback.js";
import { drawPlot } from "./plot.js";
import { setText } from "./text.js";

const STALLED_S = 5;
const LABELS = { real: "real age", apparent: "apparent age (how old a face looks)" };

const byId = (id) => document.getElementById(id);
const picture = byId("picture");
let opened = 0;
let opened_ms = 0;
let view = "";
let clock_s = 0;
let part = 0;
let untracked = false;
let onlyCounts = false;

// The address with its token has done its work: a cookie holds it now.
history.replaceState(null, "", addressOf(location.pathname));
const link = new Link(
  () => {
    view = crypto.getRandomValues(new Uint32Array(2)).join("-");
    return addressOf("events", { view });
  },
  { hello: greet, state: show, board: showBoard },
);
link.connect();
document.addEventListener("visibilitychange", () => {
  // A page that nobody sees takes no place on the device, and costs it no work.
  if (document.hidden) {
    link.disconnect();
    picture.removeAttribute("src");
  } else {
    link.connect();
  }
});
picture.addEventListener("load", () => document.body.classList.add("has-picture"));
picture.addEventListener("error", () => {
  document.body.classList.remove("has-picture");
  setText(byId("no-picture"), "No picture at the moment: perhaps too many are watching");
});
new ResizeObserver(plot).observe(byId("plot"));
onPointed(plot);

function greet(hello) {
  document.title = `ageinfer: ${hello.source}`;
  for (const name of ["source", "provider", "detector", "model"]) setText(byId(name), hello[name]);
  byId("source").title = hello.source;
  setText(byId("label"), LABELS[hello.label] || hello.label);
  setText(byId("version"), `ageinfer ${hello.version}`);
  picture.alt = `Live picture of ${hello.source}, with a box and an age on every face`;
  part = 0;
  onlyCounts = hello.only_counts;
  byId("all").hidden = !hello.several;
  document.body.classList.toggle("only-counts", onlyCounts);
  remember(hello.history);
  showPicture();
}

function showBoard(board) {
  showAudience(board.windows, board.current);
  if (!onlyCounts) showPlaces(board.zones, board.lines);
}

function showPicture() {
  if (onlyCounts) return;
  opened += 1;
  opened_ms = performance.now();
  picture.src = addressOf("stream.mjpg", { view, opened });
}

function show(state) {
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

  if (part && state.part !== part) remember([]);
  part = state.part;
  const count = state.faces.length;
  if (count) untracked = state.faces.every((face) => face.track === null);
  setText(byId("count"), `${count || "No"} ${count > 1 ? "faces" : "face"} in the picture`);
  showPeople(state.faces, clock_s - state.since_s);
  plot();
}

function plot() {
  const empty = untracked ? "Faces of this source are not tracked" : "No face in the picture";
  drawPlot(byId("plot"), lines(), clock_s, HISTORY_S, empty);
}

function describe(state) {
  if (state.frame === null) return "\u00a0";
  const parts = [`frame ${state.frame}`];
  if (state.time_s !== null) parts.push(`${state.time_s.toFixed(1)} s`);
  parts.push(`${state.size[0]} × ${state.size[1]}`);
  if (state.source !== byId("source").textContent) parts.unshift(state.source);
  return parts.join(" · ");
}
