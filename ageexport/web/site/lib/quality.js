// @ts-check
// How well a face is seen: what its size, sharpness, turn and light cost an estimate of its age
// (ageinfer/crop/quality.py).

import { asGrey, partOf } from "./image.js";
import { roundHalfEven } from "./numbers.js";
import { resizeArea } from "./resize.js";

/** @typedef {import("./image.js").Image} Image */

const SIDE = 96; // = crop.quality._SIDE
const WHITE = 250; // = crop.quality._WHITE
const LEAST = 1e-3; // = crop.quality._LEAST
const NOSE_PLACE = 0.57; // = crop.quality._NOSE_PLACE
// Name, knot, whether it costs below the knot, whether it grows by doublings, and the cost of a doubling or of a unit.
export const COSTS = [
  ["size_px", 48, true, true, 0.08], ["sharpness", 0.12, true, true, 0.34], ["sharpness", 0.3, true, true, 0.31],
  ["yaw", 0.2, false, false, 1.2], ["pitch", 0.04, false, false, 0.07], ["roll_degrees", 5, false, false, 0.034],
  ["brightness", 60, true, true, 0.08], ["brightness", 210, false, true, 0.62], ["contrast", 25, true, true, 0.31],
  ["glare", 0.1, false, false, 0.32], ["glare", 0.4, false, false, 1.3],
]; // = crop.quality.COSTS

/**
 * The quality of a view, above 0 and up to 1.
 * @param {Image} crop RGB, cut as `spec` says
 * @param {Record<string, any>} spec of kind `box` or `landmarks`
 * @param {import("./detect.js").Detection} detection the face in its frame
 */
export function qualityOf(crop, spec, detection) {
  const view = viewOf(crop, spec, detection);
  let cost = 0;
  for (const [name, knot, below, octaves, each] of /** @type {[keyof typeof view, number, boolean, boolean, number][]} */ (COSTS)) {
    const value = Math.max(view[name], LEAST);
    const far = octaves ? Math.log2(value) - Math.log2(knot) : value - knot;
    cost += each * Math.max(0, below ? -far : far);
  }
  return 1 / (1 + cost);
}

/**
 * How a face is seen, see `View` in ageinfer/crop/quality.py.
 * @param {Image} crop
 * @param {Record<string, any>} spec
 * @param {import("./detect.js").Detection} detection
 */
export function viewOf(crop, spec, detection) {
  const side = crop.height;
  const cut = Math.max(0, roundHalfEven((side * spec.margin) / (1 + 2 * spec.margin)));
  const face = /** @type {Image} */ (partOf(crop, cut, cut, side - cut, side - cut));
  const grey = resizeArea(asGrey(face), SIDE, SIDE);
  const contrast = deviation(grey.data);
  const [yaw, pitch, roll] = turnOf(detection.landmarks);
  return {
    size_px: Math.max(detection.box[2], detection.box[3]), sharpness: deviation(laplacian(grey)) / Math.max(contrast, 1),
    yaw, pitch, roll_degrees: roll, brightness: mean(grey.data), contrast,
    glare: mean(Float32Array.from(grey.data, (value) => (value >= WHITE ? 1 : 0))),
  };
}

/**
 * The Laplacian of a grey picture as `cv2.Laplacian`, which mirrors the picture at its border.
 * @param {Image} grey
 */
function laplacian({ width, height, data }) {
  const mirrored = (/** @type {number} */ i, /** @type {number} */ count) => (i < 0 ? 1 : i >= count ? count - 2 : i);
  const result = new Float32Array(data.length);
  for (let y = 0; y < height; y++) {
    const [above, below] = [mirrored(y - 1, height) * width, mirrored(y + 1, height) * width];
    for (let x = 0; x < width; x++) {
      const [left, right] = [mirrored(x - 1, width), mirrored(x + 1, width)];
      const beside = data[y * width + left] + data[y * width + right] + data[above + x] + data[below + x];
      result[y * width + x] = beside - 4 * data[y * width + x];
    }
  }
  return result;
}

/**
 * Yaw, pitch and roll; 0 without landmarks.
 * @param {import("./crop.js").Point[] | null} landmarks
 */
function turnOf(landmarks) {
  if (landmarks === null) return [0, 0, 0];
  const [rightEye, leftEye, nose, rightMouth, leftMouth] = landmarks;
  const eyes = [(rightEye[0] + leftEye[0]) / 2, (rightEye[1] + leftEye[1]) / 2];
  const mouth = [(rightMouth[0] + leftMouth[0]) / 2, (rightMouth[1] + leftMouth[1]) / 2];
  const across = [leftEye[0] - rightEye[0], leftEye[1] - rightEye[1]];
  if (Math.hypot(across[0], across[1]) < LEAST) return [1, 0, 0]; // both eyes in one place: seen from the side
  const square = across[0] ** 2 + across[1] ** 2;
  // In distances of the eyes, along the line of the eyes and across it.
  const from = (/** @type {number[]} */ [x, y]) => {
    const [dx, dy] = [x - eyes[0], y - eyes[1]];
    return [(dx * across[0] + dy * across[1]) / square, (dy * across[0] - dx * across[1]) / square];
  };
  const [toNose, toMouth] = [from(nose), from(mouth)];
  const yaw = Math.min(1, Math.abs(toNose[0] - toMouth[0] / 2));
  const pitch = Math.abs(toMouth[1]) > LEAST ? Math.min(1, Math.abs(toNose[1] / toMouth[1] - NOSE_PLACE)) : 1;
  return [yaw, pitch, Math.abs((Math.atan2(across[1], across[0]) * 180) / Math.PI)];
}

/** @param {Uint8Array | Uint8ClampedArray | Float32Array} values */
function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

/** @param {Uint8Array | Uint8ClampedArray | Float32Array} values */
function deviation(values) {
  const middle = mean(values);
  let sum = 0;
  for (const value of values) sum += (value - middle) ** 2;
  return Math.sqrt(sum / values.length);
}
