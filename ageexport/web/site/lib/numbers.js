// @ts-check
// Rounding as Python does it, where JavaScript rounds halves up.

/**
 * Rounds to the nearest whole number, halves to the even one, as Python's `round` and OpenCV do.
 * @param {number} value
 */
export function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/**
 * Rounds to some decimals as Python's `round` does: from the exact value, halves to the even digit.
 * @param {number} value
 * @param {number} digits
 */
export function rounded(value, digits) {
  // Only such a value lies in the very middle between two decimals; `toFixed` is exact for all others.
  const isMiddle = Math.abs((value * 2 ** (digits + 1)) % 2) === 1;
  return isMiddle ? roundHalfEven(value * 10 ** digits) / 10 ** digits : Number(value.toFixed(digits));
}

/**
 * A value within two limits.
 * @param {number} value
 * @param {number} lowest
 * @param {number} highest
 */
export function clamp(value, lowest, highest) {
  return Math.min(Math.max(value, lowest), highest);
}
