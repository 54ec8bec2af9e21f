// @ts-check
// Searches pictures for faces: at several scales and in tiles (ageinfer/detect/search.py).

import { moved } from "./detect.js";
import { partOf } from "./image.js";
import { roundHalfEven } from "./numbers.js";
import { reduced } from "./resize.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./crop.js").Box} Box */
/** @typedef {import("./detect.js").Detection} Detection */
/** @typedef {{detect: (image: Image) => Promise<Detection[]>}} Detector */

const SMALL_FACE_PX = 40; // = detect.search._SMALL_FACE_PX
const FIRST_SIDE_PX = 640; // = detect.search._FIRST_SIDE_PX
const LARGEST_AT_ONCE_PX = 2560; // = detect.search._LARGEST_AT_ONCE_PX
const TILE_PX = 1280; // = detect.search._TILE_PX
const TILES_SHARE_PX = 256; // = detect.search._TILES_SHARE_PX
const CELL_PX = 32; // = detect.search._CELL_PX
export const SAME_FACE_IOU = 0.3; // = detect.search.SAME_FACE_IOU

/**
 * Takes every picture as one face, for models that were trained on whole pictures.
 * @type {Detector}
 */
export const wholePicture = {
  detect: async (image) => [{ box: [0, 0, image.width, image.height], score: 1, landmarks: null }],
};

/**
 * Intersection over union of two boxes.
 * @param {Box} a
 * @param {Box} b
 */
export function overlap(a, b) {
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const shared = width * height;
  const together = a[2] * a[3] + b[2] * b[3] - shared;
  return together > 0 ? shared / together : 0;
}

/**
 * The longer side of a face in pixels.
 * @param {{box: Box}} face
 */
export function sideOf({ box }) {
  return Math.max(box[2], box[3]);
}

/**
 * Finds faces in a reduced copy of a picture.
 * @param {Detector} detector
 * @param {Image} image RGB
 * @param {number} mostSide the longer side of the copy; more than the picture has: no reduction
 * @returns {Promise<Detection[]>} best score first, in pixels of the picture
 */
export async function detectReduced(detector, image, mostSide) {
  if (Math.max(image.width, image.height) <= mostSide) return detector.detect(image);
  const small = copyOf(image, mostSide);
  return scaledBack(await detector.detect(small), image, small);
}

/**
 * Searches a picture reduced to 640 pixels, and at larger sizes as long as there may be smaller faces.
 * @param {Detector} detector
 * @param {Image} image RGB
 * @returns {Promise<Detection[]>} best score first, in pixels of the picture
 */
export async function detectClosely(detector, image) {
  if (detector === wholePicture) return detector.detect(image);
  const whole = Math.max(image.width, image.height);
  let side = FIRST_SIDE_PX;
  let found = await detectReduced(detector, image, side);
  while (side < whole) {
    const smallest = found.length ? (Math.min(...found.map(sideOf)) * side) / whole : 0;
    if (smallest >= SMALL_FACE_PX) break;
    side *= 2;
    const tiled = whole > LARGEST_AT_ONCE_PX && Math.min(side, whole) > TILE_PX;
    found = withoutRepeats([...(await (tiled ? detectInTiles : detectReduced)(detector, image, side)), ...found]);
  }
  return found;
}

/**
 * Does what `detectReduced` does in tiles, for faces that fit into the strip that two tiles share.
 * @param {Detector} detector
 * @param {Image} image
 * @param {number} mostSide
 */
async function detectInTiles(detector, image, mostSide) {
  const small = copyOf(image, mostSide);
  const found = [];
  for (const { begin: y0, end: y1, first: top, last: bottom } of tilesOf(small.height)) {
    for (const { begin: x0, end: x1, first: left, last: right } of tilesOf(small.width)) {
      for (const detection of await detector.detect(/** @type {Image} */ (partOf(small, x0, y0, x1, y1)))) {
        const [x, y, w, h] = detection.box;
        const [centreX, centreY] = [x0 + x + w / 2, y0 + y + h / 2];
        // Every place belongs to one tile. A larger face, which a tile may cut, was found at a smaller size.
        const belongs = left <= centreX && centreX < right && top <= centreY && centreY < bottom;
        if (belongs && Math.max(w, h) <= TILES_SHARE_PX) found.push(moved(detection, [1, 1], [x0, y0]));
      }
    }
  }
  return scaledBack(withoutRepeats(found), image, small);
}

/**
 * The begin and end of each tile along one side, and the range of face centres that belong to it.
 * @param {number} side
 */
function tilesOf(side) {
  const count = Math.max(1, Math.ceil((side - TILES_SHARE_PX) / (TILE_PX - TILES_SHARE_PX)));
  // Tiles of about equal size begin at whole cells, so that a face looks as in the whole picture.
  const step = CELL_PX * Math.ceil((side - TILES_SHARE_PX) / count / CELL_PX);
  return Array.from({ length: count }, (_, i) => ({
    begin: i * step,
    end: Math.min(side, i * step + step + TILES_SHARE_PX),
    first: i ? i * step + TILES_SHARE_PX / 2 : -Infinity,
    last: i < count - 1 ? i * step + step + TILES_SHARE_PX / 2 : Infinity,
  }));
}

/**
 * Keeps only the best of detections that overlap by more than an IoU of 0.3; returns them best score first.
 * @param {Detection[]} detections
 */
export function withoutRepeats(detections) {
  /** @type {Detection[]} */
  const kept = [];
  for (const detection of [...detections].sort((one, other) => other.score - one.score)) {
    if (kept.every((better) => overlap(detection.box, better.box) <= SAME_FACE_IOU)) kept.push(detection);
  }
  return kept;
}

/**
 * A copy of a picture with a longer side of at most so many pixels.
 * @param {Image} image
 * @param {number} mostSide
 */
function copyOf(image, mostSide) {
  const { width, height } = image;
  const factor = Math.min(1, mostSide / Math.max(width, height));
  return reduced(image, Math.max(1, roundHalfEven(width * factor)), Math.max(1, roundHalfEven(height * factor)));
}

/**
 * @param {Detection[]} detections of a copy
 * @param {Image} image
 * @param {Image} copy
 */
function scaledBack(detections, image, copy) {
  const scale = [image.width / copy.width, image.height / copy.height];
  return detections.map((detection) => moved(detection, scale, [0, 0]));
}
