// Chooses what runs the networks: WebAssembly with one thread or several, or WebGPU, whichever answers first here.
import { WEBGPU } from "./parts.js";

const MOST_THREADS = 4;
const LARGEST_PICTURE = 50e6; // pixels
const MODELS = { model: "models/age.onnx", detector: "models/face_detection_yunet_2023mar.onnx" };

function nameOf([engine, threads]) {
  return engine === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
}

// A worker that has opened the models.
class Engine {
  constructor(engine, threads) {
    this.name = nameOf([engine, threads]);
    this.asked = new Map();
    this.worker = new Worker(`worker.js?engine=${engine}&threads=${threads}`, { type: "module" });
    this.worker.addEventListener("message", ({ data }) => this.settle(data));
    this.worker.addEventListener("error", (event) => this.fail(event.message || "the worker does not start"));
  }

  // Asks the worker; what is transferred is gone here.
  ask(ask, values = {}, transfer = []) {
    const id = this.asked.size ? Math.max(...this.asked.keys()) + 1 : 1;
    return new Promise((resolve, reject) => {
      this.asked.set(id, { resolve, reject });
      this.worker.postMessage({ id, ask, ...values }, transfer);
    });
  }

  // Decodes a picture file; the answer is its record, and the bitmap to show it by.
  async picture(file, options = {}) {
    // Its values as they are stored, without a colour profile, as ageinfer takes them.
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
    if (bitmap.width * bitmap.height > LARGEST_PICTURE) throw new Error("too large; use up to 50 megapixels");
    return { bitmap, ...(await this.ask("picture", { bitmap: await createImageBitmap(bitmap), ...options })) };
  }

  settle({ id, answer, error }) {
    const { resolve, reject } = this.asked.get(id);
    this.asked.delete(id);
    if (error === undefined) resolve(answer);
    else reject(new Error(error));
  }

  fail(text) {
    for (const { reject } of this.asked.values()) reject(new Error(text));
    this.asked.clear();
  }

  async open() {
    const files = Object.entries(MODELS).map(([key, path]) => [key, new URL(path, location.href).href]);
    return Object.assign(this, await this.ask("open", Object.fromEntries(files)));
  }
}

// What may run the networks here: each engine with its number of threads. A GPU that the processor computes is too slow
// for the page, and is left out where it is not asked for.
export async function waysHere({ softwareGpu = false } = {}) {
  const threads = Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1);
  const ways = [["wasm", 1]];
  if (self.crossOriginIsolated && threads > 1) ways.push(["wasm", threads]);
  const gpu = WEBGPU ? await navigator.gpu?.requestAdapter() : null;
  if (gpu && (softwareGpu || !gpu.info.isFallbackAdapter)) ways.push(["webgpu", 1]);
  return ways;
}

// Opens an engine, whose worker ends where it cannot be opened.
export async function openEngine([engine, threads]) {
  const made = new Engine(engine, threads);
  try {
    return await made.open();
  } catch (error) {
    made.worker.terminate();
    throw error;
  }
}

// Opens each engine that this browser has, one after the other, and keeps the fastest. `tell` is told of each.
export async function fastestEngine(tell) {
  let best = null;
  const measured = [];
  for (const way of await waysHere()) {
    try {
      const engine = await openEngine(way);
      measured.push({ engine: engine.name, faceMs: engine.faceMs, fastestMs: engine.fastestMs });
      tell(engine);
      const [slower, faster] = best === null || engine.faceMs < best.faceMs ? [best, engine] : [engine, best];
      slower?.worker.terminate();
      best = faster;
    } catch (error) {
      measured.push({ engine: nameOf(way), error: error.message });
    }
  }
  if (best === null) throw new Error(measured[0].error);
  return Object.assign(best, { measured });
}
