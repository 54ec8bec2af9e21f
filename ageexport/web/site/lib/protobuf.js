// @ts-check
// A reader for the protobuf wire format, just enough to look inside an ONNX file (ageinfer/engine/protobuf.py).

/** @typedef {{number: number, wireType: number, start: number, end: number}} Field where a value lies in the bytes */

/**
 * Decodes the base-128 integer at a position; returns it with the position behind it.
 * @param {Uint8Array} data
 * @param {number} position
 * @returns {[number, number]}
 */
export function readVarint(data, position) {
  let value = 0;
  for (let shift = 0; shift < 70 && position < data.length; shift += 7) {
    const byte = data[position++];
    value += (byte & 0x7f) * 2 ** shift; // above 2 ** 53 no longer exact, which then runs past every message
    if (byte < 0x80) return [value, position];
  }
  throw new RangeError(`broken integer at byte ${position}`);
}

/**
 * Yields the fields of the message that lies between two positions, in file order.
 * @param {Uint8Array} data
 * @returns {Generator<Field>}
 */
export function* fields(data, start = 0, end = data.length) {
  let position = start;
  while (position < end) {
    const [key, afterKey] = readVarint(data, position);
    const number = Math.floor(key / 8);
    const wireType = key % 8;
    let valueStart = afterKey;
    if (wireType === 0) {
      position = readVarint(data, afterKey)[1];
    } else if (wireType === 2) {
      const [length, afterLength] = readVarint(data, afterKey);
      valueStart = afterLength;
      position = afterLength + length;
    } else if (wireType === 1 || wireType === 5) {
      position = afterKey + (wireType === 1 ? 8 : 4);
    } else {
      throw new RangeError(`unknown wire type ${wireType} at byte ${position}`);
    }
    if (number === 0 || position > end) throw new RangeError(`field ${number} at byte ${valueStart} runs past its message`);
    yield { number, wireType, start: valueStart, end: position };
  }
}

/**
 * Yields the fields with some numbers in the message of another field.
 * @param {Uint8Array} data
 * @param {Field} parent
 * @param {number[]} numbers
 * @returns {Generator<Field>}
 */
export function* children(data, parent, ...numbers) {
  for (const field of fields(data, parent.start, parent.end)) if (numbers.includes(field.number)) yield field;
}

/**
 * Yields the fields reached by following field numbers, such as 7, 5: graph, then each initializer.
 * @param {Uint8Array} data
 * @param {number[]} path
 * @returns {Generator<Field>}
 */
export function* descend(data, ...path) {
  yield* follow(data, { number: 0, wireType: 2, start: 0, end: data.length }, path);
}

/**
 * @param {Uint8Array} data
 * @param {Field} field
 * @param {number[]} path
 * @returns {Generator<Field>}
 */
function* follow(data, field, path) {
  if (path.length === 0) {
    yield field;
    return;
  }
  for (const child of children(data, field, path[0])) yield* follow(data, child, path.slice(1));
}
