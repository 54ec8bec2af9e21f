// Runs cases for the JavaScript library, many in one process: node web_library.mjs CASES.json, see web_library.py.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { library, web, cases } = JSON.parse(readFileSync(process.argv[2], "utf-8"));
const load = (name) => import(pathToFileURL(`${library}/${name}.js`).href);
const names = [
  "ageinfer", "image", "resize", "crop", "quality", "model", "numbers", "age", "appearance", "metadata", "follower",
];
const [{ Ageinfer, AgeError }, image, resize, crop, quality, model, numbers, age, look, metadata, { FaceFollower }] =
  await Promise.all(names.map(load));

const opened = new Map();
function ageinfer({ files }) {
  const key = files.join();
  if (!opened.has(key)) {
    const ort = createRequire(`${web}/`)("onnxruntime-web");
    const [ages, detector] = files.map((file) => readFileSync(file));
    opened.set(key, Ageinfer.open({ model: ages, detector, ort }));
  }
  return opened.get(key);
}

const picture = ({ width, height, file }) => ({ width, height, data: new Uint8Array(readFileSync(file)) });
const pixels = ({ width, height, data }) => ({ width, height, pixels: Buffer.from(data).toString("base64") });

// A detector that knows the faces of each frame: as `KnownFaces` in test_web_library_following.py.
class KnownFaces {
  constructor(width) {
    this.width = width;
  }

  async detect({ width }) {
    const scale = width / this.width;
    const large = this.faces.filter(({ box }) => scale === 1 || Math.max(box[2], box[3]) * scale >= 64);
    return large.map(({ box, score }) => ({ box: box.map((value) => value * scale), score, landmarks: null }));
  }

  async detectNear(_, places) {
    const isNear = ([x, y, w, h], place) =>
      Math.max(Math.abs(x + w / 2 - place[0] - place[2] / 2), Math.abs(y + h / 2 - place[1] - place[3] / 2)) <=
      0.4 * Math.max(place[2], place[3]);
    const near = this.faces.filter(({ box }) => places.some((place) => isNear(box, place)));
    return near.map(({ box, score }) => ({ box, score, landmarks: null }));
  }
}

const operations = {
  rounded: ({ values, digits }) => values.map((value) => numbers.rounded(value, digits)),
  evaluated: ({ expressions }) => expressions.map((expression) => (0, eval)(`(${expression})`)),
  reduced: (c) => pixels(resize.reduced(picture(c.picture), ...c.size)),
  area: (c) => pixels(resize.resizeArea(picture(c.picture), ...c.size)),
  linear: (c) => pixels(resize.resizeLinear(picture(c.picture), ...c.size)),
  exact: (c) => pixels(resize.resizeLinearExact(picture(c.picture), ...c.size)),
  warp: (c) => pixels(image.warpAffine(picture(c.picture), c.map, c.size, c.fill)),
  grey: (c) => pixels(image.asGrey(picture(c.picture))),
  rgb: (c) => pixels(image.asRgb(picture(c.picture))),
  crop: (c) => pixels(crop.cropFace(picture(c.picture), c.box, c.spec, c.landmarks)),
  view: (c) => {
    const face = crop.cropFace(picture(c.picture), c.box, c.spec, c.landmarks);
    return { view: quality.viewOf(face, c.spec, c), quality: quality.qualityOf(face, c.spec, c) };
  },
  check: async (c) => model.checkAgeModel(new Uint8Array(readFileSync(c.file))),
  insecure: async (c) => {
    const { crypto } = globalThis;
    Object.defineProperty(globalThis, "crypto", { value: {}, configurable: true });
    return operations.check(c).finally(() => Object.defineProperty(globalThis, "crypto", { value: crypto }));
  },
  metadata: async (c) => metadata.readMetadata(c.text),
  open: async (c) => (await ageinfer(c)).metadata.name,
  correlation: (c) => look.correlation(look.smallGrey(picture(c.before), c.box), look.smallGrey(picture(c.now), c.box)),
  fusion: ({ estimates }) => {
    const fusion = new age.AgeFusion();
    return estimates.map(([ageYears, stdYears, timeS]) => fusion.add({ ageYears, stdYears }, timeS));
  },
  near: async (c) => (await ageinfer(c)).detector.detectNear(picture(c.picture), c.boxes),
  picture: async (c) => (await ageinfer(c)).picture(picture(c.picture), { source: c.source }),
  estimate: async (c) => (await ageinfer(c)).estimator.estimate(c.crops.map(picture)),
  follow: async ({ width, height, tiles, frames }) => {
    const detector = new KnownFaces(width);
    const follower = new FaceFollower(detector);
    const pictures = tiles.map(picture);
    const found = [];
    for (const { timeS, faces } of frames) {
      const frame = image.blank(width, height);
      for (const { tile, at } of faces) image.paste(frame, pictures[tile], ...at);
      detector.faces = faces.filter(({ box }) => box !== null);
      const followed = await follower.next(frame, timeS);
      found.push(followed.map(({ detection, track }) => [track.number, ...detection.box, ...track.velocity]));
    }
    return found;
  },
  video: async (c) => {
    const video = (await ageinfer(c)).video({ source: c.source });
    const records = [];
    for (const [frame, timeS] of c.frames) records.push(await video.frame(picture(frame), timeS));
    return records;
  },
};

const results = [];
for (const each of cases) {
  try {
    results.push({ value: await operations[each.op](each) });
  } catch (error) {
    results.push({ error: error.message, kind: error instanceof AgeError ? "AgeError" : error.name, stack: error.stack });
  }
}
console.log(JSON.stringify(results));
