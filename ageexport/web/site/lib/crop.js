// @ts-check
// Cuts faces out of pictures for the age model, as docs/reference/face-crop.md says (ageinfer/crop/cut.py).

import { blank, partOf, paste, warpAffine } from "./image.js";
import { clamp, roundHalfEven } from "./numbers.js";
import { resizeArea, resizeLinear } from "./resize.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {[number, number, number, number]} Box x, y, width and height in pixels */
/** @typedef {[number, number]} Point */

const QUANTUM_PX = 0.25; // = crop.cut._QUANTUM_PX
const LARGEST_SIDE = 3; // = crop.cut._LARGEST_SIDE
const LARGEST_SCALE_RATIO = 1.5; // = crop.cut._LARGEST_SCALE_RATIO
const LARGEST_DISTANCE = 0.5; // = crop.cut._LARGEST_DISTANCE
const LARGEST_TURN = (60 * Math.PI) / 180; // = crop.cut._LARGEST_TURN
// Right eye, left eye, nose tip, right and left corner of the mouth, from the centre of the box, in its longer sides.
const MEAN_LANDMARKS = [[-0.186, -0.135], [0.186, -0.135], [0, 0.075], [-0.158, 0.232], [0.158, 0.232]]; // = crop.cut.MEAN_LANDMARKS
const FIT_CENTRE = meanOf(MEAN_LANDMARKS);
const FIT_OFFSETS = MEAN_LANDMARKS.map(([x, y]) => [x - FIT_CENTRE[0], y - FIT_CENTRE[1]]);
const FIT_SUM = FIT_OFFSETS.reduce((sum, [x, y]) => sum + x * x + y * y, 0);

/**
 * Cuts one face out of a picture.
 * @param {Image} image RGB
 * @param {Box} box as the detector gave it; it may reach beyond the picture
 * @param {Record<string, any>} spec the crop specification of a model, see docs/reference/model-file.md
 * @param {Point[] | null} landmarks five points, which only crops of kind `landmarks` use
 * @returns {Image} RGB, `spec.size` pixels wide and high
 * @throws {RangeError} the box is not finite, has no extent or is far larger than the picture
 */
export function cropFace(image, box, spec, landmarks = null) {
  const longer = Math.max(box[2], box[3]);
  if (!box.every(Number.isFinite) || box[2] <= 0 || box[3] <= 0) {
    throw new RangeError(`box ${box} has no extent or is not finite`);
  }
  if (longer * (1 + 2 * spec.margin) > Math.max(LARGEST_SIDE * Math.max(image.width, image.height), 4096)) {
    throw new RangeError(`box ${box} is far larger than the picture, ${image.width} x ${image.height} px`);
  }
  return spec.kind === "resize" ? resized(image, box, spec) : warped(image, box, spec, landmarks);
}

/**
 * Cuts the square around a face, upright or turned by its landmarks.
 * @param {Image} image
 * @param {Box} box
 * @param {Record<string, any>} spec
 * @param {Point[] | null} landmarks
 */
function warped(image, box, spec, landmarks) {
  const aligned = spec.kind === "landmarks" && landmarks !== null ? alignment(box, landmarks) : null;
  let { x, y, side, turn } = aligned ?? {
    x: box[0] + box[2] / 2, y: box[1] + box[3] / 2, side: Math.max(box[2], box[3]), turn: 0,
  };
  [x, y, side] = [quantised(x), quantised(y), Math.max(quantised(side * (1 + 2 * spec.margin)), QUANTUM_PX)];
  const scale = side / spec.size; // picture pixels for one pixel of the crop
  const reduction = Math.max(1, roundHalfEven(scale));

  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  const extent = side * (Math.abs(cos) + Math.abs(sin)); // the side of the upright square around the turned one
  let { source, x0, y0 } = region(image, x - extent / 2, y - extent / 2, extent, reduction, spec.fill);
  if (reduction > 1) source = resizeArea(source, source.width / reduction, source.height / reduction);
  // Pixel u of the crop has its centre at (u + 0.5) * scale from the left edge; in an array, centres are integers.
  const step = scale / reduction;
  const first = 0.5 * step - side / reduction / 2; // from the middle to the centre of the first pixel, before turning
  const map = [
    step * cos, -step * sin, (x - x0) / reduction + first * (cos - sin) - 0.5,
    step * sin, step * cos, (y - y0) / reduction + first * (sin + cos) - 0.5,
  ];
  return warpAffine(source, map, spec.size, spec.fill);
}

/**
 * The centre, the side without margin and the turn in radians; null if the landmarks contradict the box.
 * @param {Box} box
 * @param {Point[]} landmarks
 */
function alignment(box, landmarks) {
  if (landmarks.length !== MEAN_LANDMARKS.length || !landmarks.flat().every(Number.isFinite)) return null;
  // Least squares over the similarity z -> a z + b, with points as complex numbers.
  const points = landmarks.map(([x, y]) => [quantised(x), quantised(y)]);
  const mean = meanOf(points);
  let [real, imaginary] = [0, 0];
  points.forEach((point, i) => {
    const [px, py] = [point[0] - mean[0], point[1] - mean[1]];
    const [wx, wy] = [FIT_OFFSETS[i][0] / FIT_SUM, -FIT_OFFSETS[i][1] / FIT_SUM];
    real += wx * px - wy * py;
    imaginary += wx * py + wy * px;
  });
  const x = mean[0] - (real * FIT_CENTRE[0] - imaginary * FIT_CENTRE[1]);
  const y = mean[1] - (real * FIT_CENTRE[1] + imaginary * FIT_CENTRE[0]);
  const longer = Math.max(box[2], box[3]);
  const side = Math.hypot(real, imaginary);
  const turn = Math.atan2(imaginary, real);
  const distance = Math.hypot(x - (box[0] + box[2] / 2), y - (box[1] + box[3] / 2));
  const fits = side >= longer / LARGEST_SCALE_RATIO && side <= longer * LARGEST_SCALE_RATIO;
  if (!fits || distance > longer * LARGEST_DISTANCE || Math.abs(turn) > LARGEST_TURN) return null;
  return { x, y, side, turn };
}

/**
 * The part of a picture under a square, one reduced pixel larger, and where its corner lies. With a reduction above 1,
 * both sides are multiples of it and the area beyond the picture is filled.
 * @param {Image} image
 * @param {number} left
 * @param {number} top
 * @param {number} side
 * @param {number} reduction
 * @param {number[]} fill
 */
function region(image, left, top, side, reduction, fill) {
  const [x0, y0] = [Math.floor(left) - reduction, Math.floor(top) - reduction];
  const extent = Math.ceil((side + 3 * reduction) / reduction) * reduction;
  const inner = partOf(image, x0, y0, x0 + extent, y0 + extent);
  if (inner !== null && reduction === 1) return { source: inner, x0: Math.max(x0, 0), y0: Math.max(y0, 0) };
  const source = blank(extent, extent);
  for (let i = 0; i < source.data.length; i++) source.data[i] = fill[i % 3];
  if (inner !== null) paste(source, inner, Math.max(-x0, 0), Math.max(-y0, 0));
  return { source, x0, y0 };
}

/**
 * Resizes the part of the picture under the box and cuts out its centre.
 * @param {Image} image
 * @param {Box} box
 * @param {Record<string, any>} spec
 */
function resized(image, box, spec) {
  const { width, height } = image;
  const x0 = clamp(roundHalfEven(box[0]), 0, width - 1);
  const y0 = clamp(roundHalfEven(box[1]), 0, height - 1);
  const x1 = Math.min(Math.max(roundHalfEven(box[0] + box[2]), x0 + 1), width);
  const y1 = Math.min(Math.max(roundHalfEven(box[1] + box[3]), y0 + 1), height);
  let part = /** @type {Image} */ (partOf(image, x0, y0, x1, y1));
  let [across, down] = [spec.resize_to, spec.resize_to];
  if (spec.keep_aspect) {
    const shorter = Math.min(part.width, part.height);
    across = Math.floor((spec.resize_to * part.width) / shorter);
    down = Math.floor((spec.resize_to * part.height) / shorter);
  }
  if (across !== part.width || down !== part.height) {
    const shrinks = across < part.width || down < part.height;
    part = (shrinks ? resizeArea : resizeLinear)(part, across, down);
  }
  const [left, top] = [roundHalfEven((across - spec.size) / 2), roundHalfEven((down - spec.size) / 2)];
  return /** @type {Image} */ (partOf(part, left, top, left + spec.size, top + spec.size));
}

/** @param {number} value */
function quantised(value) {
  return roundHalfEven(value / QUANTUM_PX) * QUANTUM_PX;
}

/** @param {number[][]} points */
function meanOf(points) {
  const sums = points.reduce(([sumX, sumY], [x, y]) => [sumX + x, sumY + y], [0, 0]);
  return [sums[0] / points.length, sums[1] / points.length];
}
