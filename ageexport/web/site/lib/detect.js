// @ts-check
// Runs the face detector YuNet on pictures of any size, or near places where faces were a moment ago
// (ageinfer/detect/yunet.py).

import { AgeError } from "./errors.js";
import { blank, partOf, paste } from "./image.js";
import { withFreeSize } from "./model.js";
import { roundHalfEven } from "./numbers.js";
import { reduced } from "./resize.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./crop.js").Box} Box */
/**
 * One detected face, in pixels of its picture. Landmarks: right eye, left eye, nose tip, right and left corner of the
 * mouth.
 * @typedef {{box: Box, score: number, landmarks: import("./crop.js").Point[] | null}} Detection
 */

const SCORE_THRESHOLD = 0.7; // = detect.yunet.YuNet(score_threshold)
const NMS_THRESHOLD = 0.3; // = detect.yunet.YuNet(nms_threshold)
const STRIDES = [8, 16, 32]; // = detect.yunet.YuNet._STRIDES
const TOP_K = 5000; // = detect.yunet.YuNet._TOP_K
const FINEST = 8; // = detect.yunet._FINEST
const FAR = 1e4; // = detect.yunet._FAR
const LOG_FAR = 15; // = detect.yunet._LOG_FAR
const TRIAL_SIDE = 64; // = detect.yunet._TRIAL_SIDE
const NEAR_FACE_PX = 80; // = detect.yunet.YuNet._NEAR_FACE_PX
const NEAR_EXTENT = 1.6; // = detect.yunet.YuNet._NEAR_EXTENT
const NEAR_EXTENT_SMALL = 2; // = detect.yunet.YuNet._NEAR_EXTENT_SMALL
const NEAR_SHIFT = 0.25; // = detect.yunet.YuNet._NEAR_SHIFT
const NEAR_AT_ONCE = 256; // = detect.yunet.YuNet._NEAR_AT_ONCE
const OUTPUTS = STRIDES.flatMap((stride) => ["cls", "obj", "bbox", "kps"].map((kind) => `${kind}_${stride}`));
const VALUES = [1, 1, 4, 10];
const REMEDY = "give a YuNet 2023mar ONNX file";
const { fround } = Math;

/** The face detector YuNet; made by `open`. */
export class YuNet {
  #ort;
  #session;

  /**
   * @param {any} ort
   * @param {any} session
   */
  constructor(ort, session) {
    this.#ort = ort;
    this.#session = session;
  }

  /**
   * Opens a YuNet file.
   * @param {any} ort the module onnxruntime-web
   * @param {Uint8Array} model the bytes of the file
   * @param {object} options of `InferenceSession.create`
   * @throws {AgeError} it is not a YuNet model
   */
  static async open(ort, model, options) {
    const session = await ort.InferenceSession.create(withFreeSize(model), options).catch((/** @type {Error} */ error) => {
      throw new AgeError(`onnxruntime-web cannot load the detector: ${error.message.split("\n")[0]}; ${REMEDY}`);
    });
    const missing = OUTPUTS.filter((name) => !session.outputNames.includes(name)).sort();
    if (missing.length) throw new AgeError(`this is not a YuNet model (no output ${missing[0]}); ${REMEDY}`);
    const detector = new YuNet(ort, session);
    await detector.detect(blank(TRIAL_SIDE, TRIAL_SIDE));
    return detector;
  }

  /**
   * Finds the faces of a picture.
   * @param {Image} image RGB
   * @returns {Promise<Detection[]>} best score first
   */
  async detect(image) {
    const [width, height] = [32 * Math.ceil(image.width / 32), 32 * Math.ceil(image.height / 32)];
    const outputs = await this.#run(planesOf(image, width, height), width, height);
    /** @type {Detection[]} */
    const found = [];
    STRIDES.forEach((stride, level) => {
      const [cls, obj, bbox, kps] = outputs.slice(4 * level, 4 * level + 4);
      const columns = width / stride;
      for (let cell = 0; cell < cls.length; cell++) {
        const square = fround(cls[cell] * obj[cell]);
        if (!(square >= fround(SCORE_THRESHOLD ** 2))) continue;
        const [line, column] = [Math.floor(cell / columns), cell % columns];
        const [dx, dy, logWidth, logHeight] = bbox.subarray(4 * cell, 4 * cell + 4);
        const points = kps.subarray(10 * cell, 10 * cell + 10);
        const isNear = [dx, dy, ...points].every((value) => Math.abs(value) < FAR);
        if (!isNear || !(Math.abs(logWidth) < LOG_FAR && Math.abs(logHeight) < LOG_FAR)) {
          throw new AgeError(`the detector answers with a face at ${[dx, dy, logWidth, logHeight, ...points]}; ${REMEDY}`);
        }
        const [w, h] = [Math.exp(logWidth) * stride, Math.exp(logHeight) * stride];
        /** @type {import("./crop.js").Point[]} */
        const landmarks = [];
        for (let i = 0; i < 10; i += 2) {
          landmarks.push([(column + points[i]) * stride, (line + points[i + 1]) * stride]);
        }
        found.push({
          box: [(column + dx) * stride - w / 2, (line + dy) * stride - h / 2, w, h],
          score: Math.sqrt(Math.min(square, 1)), landmarks,
        });
      }
    });
    return bestOf(found);
  }

  /**
   * Finds faces near places where they were a moment ago: their surroundings are put side by side into one picture.
   * @param {Image} image RGB
   * @param {Box[]} boxes the earlier boxes of the faces
   * @returns {Promise<Detection[]>} best score first, each face once
   */
  async detectNear(image, boxes) {
    /** @type {Detection[]} */
    const found = [];
    for (let start = 0; start < boxes.length; start += NEAR_AT_ONCE) {
      found.push(...(await this.#near(image, boxes.slice(start, start + NEAR_AT_ONCE))));
    }
    return bestOf(found);
  }

  /**
   * Finds faces near some boxes; one that lies near two of them may be found twice.
   * @param {Image} image
   * @param {Box[]} boxes
   */
  async #near(image, boxes) {
    const sides = boxes.map(([, , w, h]) => Math.max(w, h));
    const factors = sides.map((side) => Math.min(1, NEAR_FACE_PX / side));
    // Not side * factor, whose last digit would decide between tiles of 128 and of 160 pixels.
    const extents = sides.map((side, i) => (factors[i] === 1 ? NEAR_EXTENT_SMALL * side : NEAR_EXTENT * NEAR_FACE_PX));
    const tile = 32 * Math.ceil(Math.max(...extents) / 32);
    const columns = Math.ceil(Math.sqrt(boxes.length));
    const mosaic = blank(columns * tile, Math.ceil(boxes.length / columns) * tile);
    const corners = boxes.map(([x, y, w, h], i) => {
      const { part, left, top } = surroundings(image, x + w / 2, y + h / 2, factors[i], tile);
      paste(mosaic, part, (i % columns) * tile, Math.floor(i / columns) * tile);
      return [left, top];
    });
    const found = [];
    for (const detection of await this.detect(mosaic)) {
      const [x, y, w, h] = detection.box;
      const [column, line] = [Math.floor((x + w / 2) / tile), Math.floor((y + h / 2) / tile)];
      const [left, top] = [column * tile, line * tile];
      const away = Math.max(Math.abs(x + w / 2 - left - tile / 2), Math.abs(y + h / 2 - top - tile / 2));
      const of = line * columns + column;
      if (away <= NEAR_SHIFT * tile && of >= 0 && of < boxes.length) {
        const scale = 1 / factors[of];
        found.push(moved(detection, [scale, scale], [corners[of][0] - left * scale, corners[of][1] - top * scale]));
      }
    }
    return found;
  }

  /**
   * @param {Float32Array} planes
   * @param {number} width
   * @param {number} height
   * @returns {Promise<Float32Array[]>} the outputs, in the order of `OUTPUTS`
   */
  async #run(planes, width, height) {
    const input = new this.#ort.Tensor("float32", planes, [1, 3, height, width]);
    const results = await this.#session.run({ [this.#session.inputNames[0]]: input }, OUTPUTS);
    return OUTPUTS.map((name, i) => {
      const stride = STRIDES[Math.floor(i / 4)];
      const shape = [1, (width / stride) * (height / stride), VALUES[i % 4]];
      const { data, dims, type } = results[name];
      if (type !== "float32" || String(dims) !== String(shape)) {
        throw new AgeError(`the detector answers with ${name} ${type} [${dims}] instead of [${shape}]; ${REMEDY}`);
      }
      return data;
    });
  }
}

/**
 * The same face in the pixels of a picture of which its own picture is a scaled part.
 * @param {Detection} detection
 * @param {number[]} scale pixels of that picture for one of this, along x and y
 * @param {number[]} shift where this picture's top left corner lies in that one
 * @returns {Detection}
 */
export function moved({ box: [x, y, w, h], score, landmarks }, [sx, sy], [dx, dy]) {
  return {
    box: [x * sx + dx, y * sy + dy, w * sx, h * sy], score,
    landmarks: landmarks === null ? null : landmarks.map(([px, py]) => [px * sx + dx, py * sy + dy]),
  };
}

/**
 * The input of the network: blue, green and red planes, padded with 0.
 * @param {Image} image RGB
 * @param {number} width of the planes
 * @param {number} height
 */
function planesOf(image, width, height) {
  const area = width * height;
  const planes = new Float32Array(3 * area);
  for (let y = 0, from = 0; y < image.height; y++) {
    for (let to = y * width, end = to + image.width; to < end; to++, from += 3) {
      planes[to] = image.data[from + 2];
      planes[to + area] = image.data[from + 1];
      planes[to + 2 * area] = image.data[from];
    }
  }
  return planes;
}

/**
 * Those that overlap no better one, best score first: `cv2.dnn.NMSBoxes` on boxes that are cut to whole pixels.
 * @param {Detection[]} detections
 */
function bestOf(detections) {
  if (detections.length < 2) return detections;
  const candidates = detections
    .map((detection) => ({ detection, score: fround(detection.score), box: detection.box.map(Math.trunc) }))
    .filter(({ score }) => score > fround(SCORE_THRESHOLD))
    .sort((one, other) => other.score - one.score)
    .slice(0, TOP_K);
  /** @type {typeof candidates} */
  const kept = [];
  for (const candidate of candidates) {
    if (kept.every((better) => sharedOf(candidate.box, better.box) <= fround(NMS_THRESHOLD))) kept.push(candidate);
  }
  return kept.map(({ detection }) => detection);
}

/**
 * Intersection over union of two boxes of whole pixels, 1 where both are empty, as OpenCV counts it.
 * @param {number[]} a
 * @param {number[]} b
 */
function sharedOf(a, b) {
  const [areaA, areaB] = [a[2] * a[3], b[2] * b[3]];
  if (areaA + areaB <= 0) return 1;
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  const shared = width > 0 && height > 0 ? width * height : 0;
  return fround(1 - fround(1 - shared / (areaA + areaB - shared)));
}

/**
 * A square tile with the surroundings of a point of a picture, black beyond it.
 * @param {Image} image
 * @param {number} x the point
 * @param {number} y
 * @param {number} factor pixels of the tile for one pixel of the picture, at most 1
 * @param {number} side of the tile
 */
function surroundings(image, x, y, factor, side) {
  let [left, top] = [roundHalfEven(x - side / factor / 2), roundHalfEven(y - side / factor / 2)];
  if (factor === 1) { // a small face then lies in its cells as in the whole picture and looks the same
    left = FINEST * Math.floor(left / FINEST);
    top = FINEST * Math.floor(top / FINEST);
  }
  const part = blank(side, side);
  // In pixels of the tile: the part of it that the picture covers.
  const [u0, v0] = [Math.max(0, Math.ceil(-left * factor)), Math.max(0, Math.ceil(-top * factor))];
  const u1 = Math.min(side, Math.floor((image.width - left) * factor));
  const v1 = Math.min(side, Math.floor((image.height - top) * factor));
  if (u1 > u0 && v1 > v0) {
    const [x0, y0] = [left + roundHalfEven(u0 / factor), top + roundHalfEven(v0 / factor)];
    const [x1, y1] = [left + roundHalfEven(u1 / factor), top + roundHalfEven(v1 / factor)];
    const source = /** @type {Image} */ (partOf(image, x0, y0, Math.max(1, x1), Math.max(1, y1)));
    paste(part, factor === 1 ? source : reduced(source, u1 - u0, v1 - v0), u0, v0);
  }
  return { part, left, top };
}
