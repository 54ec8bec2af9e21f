// The page of several sources: one stream of their states, and pictures that are asked for one by one.
import { Link, say } from "./link.js";
import { setText } from "./text.js";

const STALLED_S = 5;
const PICTURE_MS = 150; // from one picture of a source to the next

const byId = (id) => document.getElementById(id);
let tiles = [];
let onlyCounts = false;

// The address with its token has done its work: a cookie holds it now.
history.replaceState(null, "", location.pathname);
const link = new Link(() => "overview", { hello: greet, state: show });
link.connect();
document.addEventListener("visibilitychange", () => (document.hidden ? link.disconnect() : link.connect()));

function greet(hello) {
  setText(byId("source"), `${hello.sources.length} sources`);
  setText(byId("version"), `ageinfer ${hello.version}`);
  onlyCounts = hello.only_counts;
  tiles = hello.sources.map(makeTile);
  byId("tiles").replaceChildren(...tiles.map((tile) => tile.link));
}

function makeTile(name, number) {
  const make = (kind, text = "") => Object.assign(document.createElement(kind), { textContent: text });
  const tile = { number, link: make("a"), image: make("img"), note: make("p", "Waiting for the first picture") };
  Object.assign(tile, { words: make("span"), shown: 0, asked_ms: 0, waits: false });
  tile.link.href = `?source=${number}`;
  tile.link.className = "tile";
  tile.image.alt = "";
  tile.image.addEventListener("load", () => {
    tile.waits = false;
    tile.link.classList.add("has-picture");
  });
  tile.image.addEventListener("error", () => (tile.waits = false));
  const caption = make("span");
  caption.className = "caption";
  caption.append(make("b", name), tile.words);
  if (!onlyCounts) {
    const frame = make("span");
    frame.className = "frame";
    frame.append(tile.image, tile.note);
    tile.link.append(frame);
  }
  tile.link.append(caption);
  return tile;
}

function show({ sources }) {
  let live = 0;
  for (const tile of tiles) {
    const state = sources[tile.number];
    const stalled = state.since_s === null || state.since_s > STALLED_S;
    if (!stalled) live += 1;
    tile.link.classList.toggle("stalled", stalled);
    setText(tile.words, describe(state, stalled));
    if (stalled && state.since_s !== null) setText(tile.note, `No picture for ${state.since_s.toFixed(0)} s`);
    askForPicture(tile, state.frames);
  }
  say(live ? "live" : "waiting", live === tiles.length ? "Live" : `${live} of ${tiles.length} are live`);
}

function describe(state, stalled) {
  if (stalled) return state.since_s === null ? "no picture yet" : `no picture for ${state.since_s.toFixed(0)} s`;
  const faces = `${state.faces || "no"} ${state.faces === 1 ? "face" : "faces"}`;
  const rate = `${state.fps.toFixed(state.fps < 9.95 ? 1 : 0)} frames a second`;
  return onlyCounts ? rate : `${faces} · ${rate}`;
}

function askForPicture(tile, frames) {
  const now = performance.now();
  if (tile.waits || frames <= tile.shown || now - tile.asked_ms < PICTURE_MS || !tile.image.isConnected) return;
  Object.assign(tile, { waits: true, asked_ms: now, shown: frames });
  tile.image.src = `picture.jpg?source=${tile.number}&frame=${frames}`;
}
