// @ts-check

/**
 * The SHA-256 of bytes, as hexadecimal digits.
 * @param {Uint8Array} bytes
 */
export async function sha256(bytes) {
  const digest = await crypto.subtle.digest("SHA-256", /** @type {BufferSource} */ (bytes));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
