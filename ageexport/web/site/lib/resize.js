// @ts-check
// Pictures in other sizes, with the pixels of `cv2.resize`: the same arithmetic in whole numbers and 32-bit floats.

import { blank, channelsOf, partOf } from "./image.js";
import { roundHalfEven } from "./numbers.js";

/** @typedef {import("./image.js").Image} Image */

const { fround } = Math;

/**
 * Resizes a picture for a detector: area averaging by a whole factor first, then bilinear interpolation to the exact
 * size (ageinfer.images.reduced).
 * @param {Image} image
 * @param {number} width
 * @param {number} height
 */
export function reduced(image, width, height) {
  const factor = Math.min(Math.floor(image.width / width), Math.floor(image.height / height));
  if (factor > 1) {
    const whole = [Math.floor(image.width / factor), Math.floor(image.height / factor)];
    const cut = /** @type {Image} */ (partOf(image, 0, 0, whole[0] * factor, whole[1] * factor));
    image = resizeArea(cut, whole[0], whole[1]);
  }
  return image.width === width && image.height === height ? image : resizeLinearExact(image, width, height);
}

/**
 * Resizes a picture as `cv2.resize` with INTER_AREA does.
 * @param {Image} image
 * @param {number} width
 * @param {number} height
 */
export function resizeArea(image, width, height) {
  if (width > image.width || height > image.height) {
    return interpolated(image, areaPlaces(image.width, width), areaPlaces(image.height, height));
  }
  if (image.width % width === 0 && image.height % height === 0) {
    return areaMeans(image, image.width / width, image.height / height);
  }
  return areaShares(image, width, height);
}

/**
 * Resizes a picture as `cv2.resize` with INTER_LINEAR does.
 * @param {Image} image
 * @param {number} width
 * @param {number} height
 */
export function resizeLinear(image, width, height) {
  if (image.width === 2 * width && image.height === 2 * height) return areaMeans(image, 2, 2);
  return interpolated(image, linearPlaces(image.width, width), linearPlaces(image.height, height));
}

/**
 * Resizes a picture as `cv2.resize` with INTER_LINEAR_EXACT does: in whole numbers, with weights of 8 bits.
 * @param {Image} image
 * @param {number} width
 * @param {number} height
 */
export function resizeLinearExact(image, width, height) {
  const channels = channelsOf(image);
  const { data } = image;
  const resized = blank(width, height, channels);
  const [columns, lines] = [exactPlaces(image.width, width), exactPlaces(image.height, height)];
  /** @type {Map<number, Uint16Array>} */
  const rows = new Map();
  const rowAt = (/** @type {number} */ y) => {
    let row = rows.get(y);
    if (row === undefined) {
      row = new Uint16Array(width * channels);
      let to = 0;
      for (const { first, next, share } of columns) {
        let [at, other] = [(y * image.width + first) * channels, (y * image.width + next) * channels];
        for (let channel = 0; channel < channels; channel++) row[to++] = data[at++] * (256 - share) + data[other++] * share;
      }
      if (rows.size > 2) rows.clear();
      rows.set(y, row);
    }
    return row;
  };
  lines.forEach(({ first, next, share }, y) => {
    const [upper, lower] = [rowAt(first), rowAt(next)];
    for (let i = 0, to = y * upper.length; i < upper.length; i++, to++) {
      resized.data[to] = (upper[i] * (256 - share) + lower[i] * share + 32768) >> 16;
    }
  });
  return resized;
}

/**
 * Where the pixels of a longer or shorter line lie: between which two, and how many 256ths the second counts.
 * @param {number} before
 * @param {number} after
 */
function exactPlaces(before, after) {
  const scale = 1 / (after / before);
  return Array.from({ length: after }, (_, i) => {
    const place = scale * (i + 0.5) - 0.5;
    const first = Math.min(Math.max(Math.floor(place), 0), before - 1);
    const next = Math.min(first + 1, before - 1);
    return { first, next, share: place < 0 || first === next ? 0 : roundHalfEven((place - first) * 256) };
  });
}

/**
 * Means over whole pixels.
 * @param {Image} image
 * @param {number} across
 * @param {number} down
 */
function areaMeans(image, across, down) {
  const channels = channelsOf(image);
  const smaller = blank(image.width / across, image.height / down, channels);
  const share = fround(1 / (across * down));
  const stride = image.width * channels;
  for (let y = 0, to = 0; y < smaller.height; y++) {
    for (let x = 0; x < smaller.width; x++) {
      for (let channel = 0; channel < channels; channel++, to++) {
        let sum = 0;
        for (let line = 0; line < down; line++) {
          let from = (y * down + line) * stride + x * across * channels + channel;
          for (let column = 0; column < across; column++, from += channels) sum += image.data[from];
        }
        // OpenCV rounds halves up for means of four pixels, and to the even number for others.
        smaller.data[to] = across === 2 && down === 2 ? (sum + 2) >> 2 : roundHalfEven(fround(sum * share));
      }
    }
  }
  return smaller;
}

/**
 * Means over pixels of which some count in part.
 * @param {Image} image
 * @param {number} width
 * @param {number} height
 */
function areaShares(image, width, height) {
  const channels = channelsOf(image);
  const smaller = blank(width, height, channels);
  const [columns, lines] = [sharesOf(image.width, width), sharesOf(image.height, height)];
  const line = new Float32Array(width * channels);
  const sums = new Float32Array(width * channels);
  lines.forEach((parts, y) => {
    sums.fill(0);
    for (const [from, share] of parts) {
      line.fill(0);
      columns.forEach((pixels, x) => {
        for (const [column, weight] of pixels) {
          const at = (from * image.width + column) * channels;
          for (let channel = 0; channel < channels; channel++) {
            line[x * channels + channel] += fround(image.data[at + channel] * weight);
          }
        }
      });
      for (let i = 0; i < line.length; i++) sums[i] += fround(share * line[i]);
    }
    for (let i = 0; i < sums.length; i++) smaller.data[y * sums.length + i] = roundHalfEven(sums[i]);
  });
  return smaller;
}

/**
 * Which pixels of a line belong to each pixel of a shorter one, and how much each counts.
 * @param {number} before
 * @param {number} after
 */
function sharesOf(before, after) {
  const scale = 1 / (after / before);
  return Array.from({ length: after }, (_, i) => {
    const [begin, end] = [i * scale, i * scale + scale];
    const extent = Math.min(scale, before - begin);
    const last = Math.min(Math.floor(end), before - 1);
    const first = Math.min(Math.ceil(begin), last);
    /** @type {[number, number][]} */
    const shares = [];
    if (first - begin > 1e-3) shares.push([first - 1, fround((first - begin) / extent)]);
    for (let pixel = first; pixel < last; pixel++) shares.push([pixel, fround(1 / extent)]);
    if (end - last > 1e-3) shares.push([last, fround(Math.min(end - last, 1, extent) / extent)]);
    return shares;
  });
}

/** @typedef {{first: number, share: number}} Place between a pixel and the next one, and how much the next one counts */

/**
 * Where the pixels of a longer or shorter line lie in a line.
 * @param {number} before
 * @param {number} after
 * @returns {Place[]}
 */
function linearPlaces(before, after) {
  const scale = 1 / (after / before);
  return Array.from({ length: after }, (_, i) => {
    const place = fround((i + 0.5) * scale - 0.5);
    const first = Math.floor(place);
    return { first, share: fround(place - first) };
  });
}

/**
 * The same where OpenCV makes a picture larger by area: a pixel is mixed only where it reaches over two.
 * @param {number} before
 * @param {number} after
 * @returns {Place[]}
 */
function areaPlaces(before, after) {
  const inverse = after / before;
  const scale = 1 / inverse;
  return Array.from({ length: after }, (_, i) => {
    const first = Math.floor(i * scale);
    const share = fround(i + 1 - (first + 1) * inverse);
    return { first, share: share <= 0 ? 0 : fround(share - Math.floor(share)) };
  });
}

/**
 * Interpolates with weights of 11 bits, as OpenCV does for 8-bit pictures.
 * @param {Image} image
 * @param {Place[]} columns
 * @param {Place[]} lines
 */
function interpolated(image, columns, lines) {
  const channels = channelsOf(image);
  const { width, height, data } = image;
  const resized = blank(columns.length, lines.length, channels);
  const weights = (/** @type {number} */ share) => [roundHalfEven(fround(1 - share) * 2048), roundHalfEven(share * 2048)];
  // Beyond the first and the last column only that one counts. Lines are only held within the picture.
  const across = columns.map(({ first, share }) => {
    const inside = first >= 0 && first < width - 1;
    const [before, after] = weights(inside ? share : 0);
    const from = Math.min(Math.max(first, 0), width - 1) * channels;
    return { from, step: inside ? channels : 0, before, after };
  });
  const rows = new Map();
  const rowAt = (/** @type {number} */ line) => {
    const y = Math.min(Math.max(line, 0), height - 1);
    let row = rows.get(y);
    if (row === undefined) {
      row = new Int32Array(columns.length * channels);
      let to = 0;
      for (const { from, step, before, after } of across) {
        for (let at = y * width * channels + from, end = at + channels; at < end; at++) {
          row[to++] = (data[at] * before + data[at + step] * after) >> 4;
        }
      }
      if (rows.size > 2) rows.clear();
      rows.set(y, row);
    }
    return row;
  };
  lines.forEach(({ first, share }, y) => {
    const [upper, lower] = [rowAt(first), rowAt(first + 1)];
    const [above, below] = weights(share);
    for (let i = 0, to = y * upper.length; i < upper.length; i++, to++) {
      resized.data[to] = (((above * upper[i]) >> 16) + ((below * lower[i]) >> 16) + 2) >> 2;
    }
  });
  return resized;
}
