// Finds faces and ages away from the page, so that it stays answering.
//
// It is opened with `?threads=N&engine=wasm|webgpu`, because ONNX Runtime takes both once. The page sends
// { id, ask, ... } and gets { id, answer } or { id, error }.
import { Ageinfer } from "./lib/ageinfer.js";

const FIND = { largestSide: 960 }; // as ageinfer searches the frames of a camera
const [MOST_TRIALS, LONGEST_TRIALS_MS] = [12, 1000];
const settings = new URLSearchParams(location.search);
const threads = Number(settings.get("threads"));
const engine = settings.get("engine");

let opened = null;
let film = null;

const answers = {
  // Opens the models; the answer is what the age model says of itself, and how long a face takes in milliseconds.
  async open({ model, detector }) {
    const ort = await import(engine === "webgpu" ? "./ort/ort.webgpu.min.mjs" : "./ort/ort.wasm.min.mjs");
    ort.env.wasm.wasmPaths = new URL("./ort/", location.href).href;
    const executionProviders = [engine];
    opened = await Ageinfer.open({ model, detector, ort, executionProviders, threads });
    return { metadata: opened.metadata, ...(await timesOfFace()) };
  },

  async picture({ bitmap, name, crops = false }) {
    return opened.picture(pixelsOf(bitmap), { source: name, crops });
  },

  // Begins a video or a camera.
  async begin({ name }) {
    film = opened.video({ source: name, ...FIND });
  },

  async frame({ bitmap, timeS }) {
    return film.frame(pixelsOf(bitmap), timeS);
  },
};

addEventListener("message", async ({ data }) => {
  try {
    postMessage({ id: data.id, answer: await answers[data.ask](data) });
  } catch (error) {
    postMessage({ id: data.id, error: error.message || String(error) });
  }
});

function pixelsOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// The median in milliseconds, and the fastest one, which other work on the device disturbs least.
async function timesOfFace() {
  const { size } = opened.metadata.crop;
  const grey = { width: size, height: size, data: new Uint8Array(3 * size * size).fill(128) };
  const times = [];
  const began = performance.now();
  while (times.length < MOST_TRIALS && (times.length < 1 || performance.now() - began < LONGEST_TRIALS_MS)) {
    const start = performance.now();
    await opened.estimator.estimate([grey]);
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return { faceMs: times[Math.floor(times.length / 2)], fastestMs: times[0] };
}
