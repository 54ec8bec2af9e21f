// @ts-check
// Tells whether the face at one place is still the face that was there a moment ago (ageinfer/tracking/appearance.py).

import { asGrey, blank, partOf } from "./image.js";
import { roundHalfEven } from "./numbers.js";
import { reduced } from "./resize.js";

/** @typedef {import("./image.js").Image} Image */

const MARGIN = 0.2; // = tracking.appearance._MARGIN
const PIXELS = 28; // = tracking.appearance._PIXELS
const BORDER = 5; // = tracking.appearance._BORDER
export const SAME_LOOK = 0.65; // = tracking.appearance.SAME_LOOK
const LEAST_STILL = 0.9; // = tracking.appearance._LEAST_STILL
const LONGEST_GAP_S = 0.2; // = tracking.appearance._LONGEST_GAP_S
const INNER = PIXELS - 2 * BORDER;

/**
 * How one face looked when it was last seen, as a few grey pixels. Tracking goes by place alone; without this, a cut
 * that puts one person where another was would keep the track.
 */
export class Look {
  /** @type {Image | null} */
  #last = null;
  /** @type {number | null} when that was */
  seenS = null;

  /**
   * How much a sight, of whatever time, looks like the last one, -1 to 1; from `SAME_LOOK` on it may be the same.
   * @param {Image} pixels of `smallGrey`
   */
  likeness(pixels) {
    return this.#last === null ? -1 : correlation(this.#last, pixels);
  }

  /**
   * Remembers a sight of the face.
   * @param {Image} pixels
   * @param {number} timeS
   */
  take(pixels, timeS) {
    [this.#last, this.seenS] = [pixels, timeS];
  }

  /**
   * Tells whether a sight looks like another face: whether it differs from one of less than 0.2 s before.
   * @param {Image} pixels
   * @param {number} timeS
   */
  changed(pixels, timeS) {
    if (this.#last === null || this.seenS === null || timeS - this.seenS > LONGEST_GAP_S) return false;
    return alikeAt(this.#last, pixels, BORDER, BORDER) < SAME_LOOK && correlation(this.#last, pixels) < SAME_LOOK;
  }

  /**
   * Tells whether the face looks as it did; takes this sight if so.
   * @param {Image} pixels from where the face is expected
   * @param {number} timeS
   */
  still(pixels, timeS) {
    if (this.#last === null || alikeAt(this.#last, pixels, BORDER, BORDER) < LEAST_STILL) return false;
    this.take(pixels, timeS);
    return true;
  }
}

/**
 * What is remembered of a face: 28 x 28 grey pixels, black if it lies wholly outside.
 * @param {Image} image RGB
 * @param {import("./crop.js").Box} box
 */
export function smallGrey(image, [x, y, w, h]) {
  const half = Math.max(w, h) * (0.5 + MARGIN);
  const [left, top] = [roundHalfEven(x + w / 2 - half), roundHalfEven(y + h / 2 - half)];
  const part = partOf(image, left, top, roundHalfEven(x + w / 2 + half), roundHalfEven(y + h / 2 + half));
  return part === null ? blank(PIXELS, PIXELS, 1) : asGrey(reduced(part, PIXELS, PIXELS));
}

/**
 * How much the middle of one sight is found again in another one, -1 to 1: the largest value of `cv2.matchTemplate`
 * with TM_CCOEFF_NORMED.
 * @param {Image} before
 * @param {Image} now
 */
export function correlation(before, now) {
  let most = -1;
  for (let y = 0; y <= 2 * BORDER; y++) {
    for (let x = 0; x <= 2 * BORDER; x++) most = Math.max(most, alikeAt(before, now, x, y));
  }
  return most;
}

/**
 * How much the middle of one sight is another one at a place.
 * @param {Image} before
 * @param {Image} now
 * @param {number} x
 * @param {number} y
 */
function alikeAt(before, now, x, y) {
  let [sumA, sumB, squaresA, squaresB, products] = [0, 0, 0, 0, 0];
  for (let line = 0; line < INNER; line++) {
    let atA = (BORDER + line) * PIXELS + BORDER;
    let atB = (y + line) * PIXELS + x;
    for (const end = atA + INNER; atA < end; atA++, atB++) {
      const [a, b] = [before.data[atA], now.data[atB]];
      sumA += a;
      sumB += b;
      squaresA += a * a;
      squaresB += b * b;
      products += a * b;
    }
  }
  const count = INNER * INNER;
  const [varianceA, varianceB] = [count * squaresA - sumA ** 2, count * squaresB - sumB ** 2];
  if (varianceA === 0) return 1; // as OpenCV has it: a sight without any contrast is found everywhere
  return varianceB === 0 ? 0 : (count * products - sumA * sumB) / Math.sqrt(varianceA * varianceB);
}
