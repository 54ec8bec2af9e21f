// @ts-check
// Pictures, their parts, and affine maps of them. Functions that name one of OpenCV give its pixels, by the same
// arithmetic in whole numbers and 32-bit floats.

import { roundHalfEven } from "./numbers.js";

/**
 * A picture: one (grey), three (RGB) or four (RGBA) values of 0 to 255 for each pixel, line by line.
 * @typedef {{width: number, height: number, data: Uint8Array | Uint8ClampedArray}} Image
 */

const { fround } = Math;

/**
 * A picture of zeros.
 * @param {number} width
 * @param {number} height
 * @param {number} channels
 * @returns {Image}
 */
export function blank(width, height, channels = 3) {
  return { width, height, data: new Uint8Array(width * height * channels) };
}

/**
 * How many values each pixel has.
 * @param {Image} image
 */
export function channelsOf(image) {
  return image.data.length / (image.width * image.height);
}

/**
 * A picture as RGB, whose alpha is left out; the picture itself if it is RGB already.
 * @param {Image} image RGB or RGBA
 * @throws {TypeError} it is neither
 */
export function asRgb(image) {
  const { width, height, data } = image;
  const channels = channelsOf(image);
  if (!(Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0) || ![3, 4].includes(channels)) {
    throw new TypeError(`a picture must be RGB or RGBA, not ${data?.length} values for ${width} x ${height} pixels`);
  }
  if (channels === 3) return image;
  const rgb = blank(width, height);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb.data[to] = data[from];
    rgb.data[to + 1] = data[from + 1];
    rgb.data[to + 2] = data[from + 2];
  }
  return rgb;
}

/**
 * The part of a picture between two columns and two lines, as far as the picture reaches; null if that is nothing.
 * @param {Image} image
 * @param {number} x0
 * @param {number} y0
 * @param {number} x1
 * @param {number} y1
 */
export function partOf(image, x0, y0, x1, y1) {
  const channels = channelsOf(image);
  const [left, top] = [Math.max(x0, 0), Math.max(y0, 0)];
  const [width, height] = [Math.min(x1, image.width) - left, Math.min(y1, image.height) - top];
  if (width <= 0 || height <= 0) return null;
  if (width === image.width && height === image.height) return image;
  const part = blank(width, height, channels);
  paste(part, image, -left, -top);
  return part;
}

/**
 * Puts a picture into another one, as far as that one reaches.
 * @param {Image} onto
 * @param {Image} image
 * @param {number} x where its top left corner comes
 * @param {number} y
 */
export function paste(onto, image, x, y) {
  const channels = channelsOf(onto);
  const [first, last] = [Math.max(x, 0), Math.min(x + image.width, onto.width)];
  if (first >= last) return;
  for (let line = Math.max(y, 0); line < Math.min(y + image.height, onto.height); line++) {
    const from = ((line - y) * image.width + first - x) * channels;
    onto.data.set(image.data.subarray(from, from + (last - first) * channels), (line * onto.width + first) * channels);
  }
}

/**
 * Samples a picture at the places of an affine map, as `cv2.warpAffine` of OpenCV 5 does with INTER_LINEAR,
 * WARP_INVERSE_MAP and BORDER_CONSTANT.
 * @param {Image} image RGB
 * @param {number[]} map row by row, from pixels of the result to those of the picture
 * @param {number} size side of the result
 * @param {number[]} fill RGB, beyond the picture
 */
export function warpAffine(image, map, size, fill) {
  const { width, height, data } = image;
  const [a, b, c, d, e, f] = map.map(fround);
  const result = blank(size, size);
  const outside = Uint8Array.from(fill);
  for (let v = 0, to = 0; v < size; v++) {
    const [lineX, lineY] = [fround(fround(b * v) + c), fround(fround(e * v) + f)];
    for (let u = 0; u < size; u++, to += 3) {
      // As one operation, which is rounded once: the product of two 32-bit floats is exact in JavaScript's numbers.
      const [x, y] = [fround(a * u + lineX), fround(d * u + lineY)];
      const [left, top] = [Math.floor(x), Math.floor(y)];
      const [alpha, beta] = [fround(x - left), fround(y - top)];
      const [inLeft, inRight] = [left >= 0 && left < width, left >= -1 && left < width - 1];
      const [inTop, inBottom] = [top >= 0 && top < height, top >= -1 && top < height - 1];
      const at = (top * width + left) * 3;
      const below = at + width * 3;
      for (let channel = 0; channel < 3; channel++) {
        const p00 = inLeft && inTop ? data[at + channel] : outside[channel];
        const p01 = inRight && inTop ? data[at + 3 + channel] : outside[channel];
        const p10 = inLeft && inBottom ? data[below + channel] : outside[channel];
        const p11 = inRight && inBottom ? data[below + 3 + channel] : outside[channel];
        const upper = fround(alpha * (p01 - p00) + p00);
        const lower = fround(alpha * (p11 - p10) + p10);
        result.data[to + channel] = roundHalfEven(fround(beta * fround(lower - upper) + upper));
      }
    }
  }
  return result;
}

/**
 * A picture in grey, as `cv2.cvtColor` makes it.
 * @param {Image} image RGB
 */
export function asGrey(image) {
  const grey = blank(image.width, image.height, 1);
  for (let i = 0, from = 0; i < grey.data.length; i++, from += 3) {
    grey.data[i] = (9798 * image.data[from] + 19235 * image.data[from + 1] + 3735 * image.data[from + 2] + (1 << 14)) >> 15;
  }
  return grey;
}
