// The page: camera, pictures and videos of this device, and the ages of the faces in them.
import { colourOf, draw, labelOf, yearsOf } from "./draw.js";
import { fastestEngine } from "./engine.js";
import { install } from "./install.js";

const byId = (id) => document.getElementById(id);
const [video, view, caption] = [byId("video"), byId("view"), byId("caption")];
const LONGEST_SIDE = 1280; // of a frame of a camera or a video, in pixels
const GONE_MS = 2000; // a face that was not seen for so long leaves the list
const SPOKEN_MS = 2000; // between two sentences of a screen reader

let engine = null;
let shown = null; // the frame that is on view, with its faces: drawn again when blurring changes
let running = 0; // number of the present camera or video; loops of earlier ones end
let facing = "user";
let blur = false;
let frames = [];
let inView = new Map(); // by track: since when, until when, and the face
let spoken_ms = 0;

byId("camera").addEventListener("click", () => startCamera().catch(failed));
byId("turn").addEventListener("click", () => {
  facing = facing === "user" ? "environment" : "user";
  startCamera().catch(failed);
});
byId("files").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = ""; // so that the same file can be chosen again
  open(files).catch(failed);
});
byId("pause").addEventListener("click", () => (video.paused ? video.play() : video.pause()));
byId("blur").addEventListener("click", () => {
  blur = !blur;
  byId("blur").setAttribute("aria-pressed", blur);
  if (shown) draw(view, shown.bitmap, shown.faces, { blur });
  for (const redraw of pictureDrawers) redraw();
});
for (const kind of ["play", "pause"]) {
  video.addEventListener(kind, () => {
    byId("pause").textContent = video.paused ? "Go on" : "Pause";
    byId("pause").setAttribute("aria-pressed", video.paused);
  });
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
for (const kind of ["dragleave", "drop"]) addEventListener(kind, () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  if (engine) open([...event.dataTransfer.files]).catch(failed);
});

const pictureDrawers = [];
begin();

async function begin() {
  await install();
  try {
    engine = await fastestEngine((found) => say(`Trying ${found.name}`));
  } catch (error) {
    document.body.classList.add("failed");
    say(`The models do not open: ${error.message}`);
    return;
  }
  byId("model").textContent = `${engine.metadata.name} (${engine.metadata.precision})`;
  byId("engine").textContent = engine.name;
  byId("face-ms").textContent = `${engine.faceMs.toFixed(1)} ms`;
  byId("camera").disabled = !navigator.mediaDevices?.getUserMedia;
  byId("files").disabled = false;
  document.body.dataset.measured = JSON.stringify(engine.measured);
  say("Ready");
}

function say(text) {
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

function failed(error) {
  say(error.name === "NotAllowedError" ? "This page may not use the camera: allow it in the browser" : error.message);
}

async function startCamera() {
  stop();
  const size = { width: { ideal: 640 }, height: { ideal: 480 } };
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing, ...size }, audio: false });
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  byId("turn").hidden = cameras.length < 2;
  video.srcObject = stream;
  await play("camera");
}

async function open(files) {
  const film = files.find((file) => file.type.startsWith("video/"));
  if (film) {
    stop();
    video.src = URL.createObjectURL(film);
    await play(film.name);
    return;
  }
  stop();
  byId("pictures").replaceChildren();
  pictureDrawers.length = 0;
  for (const file of files) await showPicture(file);
  say(files.length ? "Done" : "Ready");
}

async function showPicture(file) {
  say(`Looking at ${file.name}`);
  const figure = document.createElement("figure");
  const [canvas, text] = [document.createElement("canvas"), document.createElement("figcaption")];
  figure.className = "picture";
  figure.append(canvas, text);
  byId("pictures").append(figure);
  byId("hint").hidden = true;
  try {
    const { bitmap, faces } = await engine.picture(file, { name: file.name });
    const redraw = () => draw(canvas, bitmap, faces, { blur });
    pictureDrawers.push(redraw);
    redraw();
    text.textContent = `${file.name}: ${describe(faces)}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", text.textContent);
  } catch (error) {
    canvas.remove();
    const reason = error.name === "InvalidStateError" ? "not a picture that this browser reads" : error.message;
    text.textContent = `${file.name}: ${reason}`;
  }
}

function stop() {
  running += 1;
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
  byId("pause").hidden = byId("turn").hidden = byId("live").hidden = byId("faces").hidden = true;
}

async function play(name) {
  const number = running;
  await video.play();
  byId("pause").hidden = byId("live").hidden = byId("faces").hidden = false;
  byId("hint").hidden = true;
  byId("pictures").replaceChildren();
  await engine.ask("begin", { name });
  [frames, inView] = [[], new Map()];
  say(name === "camera" ? "Live" : `Playing ${name}`);
  let last_s = -1;
  while (number === running) {
    await new Promise((resolve) => nextFrame(resolve));
    if (number !== running || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) continue;
    const timeS = video.currentTime;
    if (timeS === last_s) continue; // paused
    if (timeS < last_s) await engine.ask("begin", { name }); // shown again, or turned back
    last_s = timeS;
    await step(timeS);
  }
}

// Waits for the next frame of the video; a browser that does not tell has one at each repaint.
function nextFrame(then) {
  if (video.requestVideoFrameCallback && !video.paused) {
    const number = video.requestVideoFrameCallback(() => then());
    setTimeout(() => {
      video.cancelVideoFrameCallback(number);
      then();
    }, 500);
  } else {
    requestAnimationFrame(() => then());
  }
}

async function step(timeS) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const options = scale < 1 ? { resizeWidth: Math.round(video.videoWidth * scale), resizeQuality: "medium" } : {};
  const bitmap = await createImageBitmap(video, options);
  const { faces } = await engine.ask("frame", { bitmap: await createImageBitmap(bitmap), timeS });
  shown?.bitmap.close();
  shown = { bitmap, faces };
  draw(view, bitmap, faces, { blur });
  showFaces(faces);
}

function showFaces(faces) {
  const now = performance.now();
  frames = [...frames.filter((at) => now - at < 2000), now];
  byId("fps").textContent = frames.length > 1 ? ((frames.length - 1) / ((now - frames[0]) / 1000)).toFixed(1) : "–";
  for (const face of faces) {
    const before = inView.get(face.track);
    inView.set(face.track, { since: before?.since ?? now, until: now, face });
  }
  for (const [track, { until }] of inView) if (now - until > GONE_MS) inView.delete(track);
  const rows = [...inView].sort(([a], [b]) => a - b).map(([track, { since, until, face }]) => row(track, face, until - since));
  byId("faces").querySelector("tbody").replaceChildren(...rows);
  if (now - spoken_ms > SPOKEN_MS) {
    spoken_ms = now;
    caption.textContent = describe(faces);
  }
}

function row(track, face, ms) {
  const made = document.createElement("tr");
  const [who, age, time] = [1, 2, 3].map(() => document.createElement("td"));
  const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
  swatch.style.background = colourOf(face);
  who.append(swatch, String(track));
  age.append(Object.assign(document.createElement("b"), { textContent: yearsOf(face) }), ` ± ${Math.round(face.age_std)}`);
  time.textContent = `${Math.floor(ms / 1000)} s`;
  made.append(who, age, time);
  return made;
}

function describe(faces) {
  if (!faces.length) return "No face in the picture";
  const ages = faces.map((face) => `${labelOf(face)} years`).join(", ");
  return faces.length === 1 ? `One face: ${ages}` : `${faces.length} faces: ${ages}`;
}
