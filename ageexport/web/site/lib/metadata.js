// @ts-check
// What an age model file says of itself, and its hash: ModelMetadata of ageinfer/engine/modelfile.py, CropSpec of
// ageinfer/crop/spec.py.

import { sha256 } from "./sha256.js";

const METADATA_SCHEMA = 2; // = engine.modelfile.METADATA_SCHEMA
const SEAL = "metadata_sha256"; // = engine.modelfile._SEAL
const LABELS = ["real", "apparent"]; // = engine.modelfile._LABELS
const DECODES = ["linear", "expectation"]; // = engine.modelfile._DECODES
const STD_KINDS = ["constant", "distribution"]; // = engine.modelfile._STD_KINDS
const PRECISIONS = ["fp32", "fp16", "int8", "mixed"]; // = engine.modelfile.PRECISIONS
const LONGEST_NAME = 255; // = engine.modelfile._LONGEST_NAME
const HIGHEST_AGE = 1000; // = engine.modelfile._HIGHEST_AGE
const CROP_KINDS = ["box", "landmarks", "resize"]; // = crop.spec.CROP_KINDS
const CROP_VERSION = 1; // = crop.spec.CROP_VERSION
const NO_DETECTOR = "none"; // = crop.spec.NO_DETECTOR
const LEAST_SIDE = 8; // = crop.spec.LEAST_SIDE
const LARGEST_SIDE = 1024; // = crop.spec.LARGEST_SIDE
const RESIZE_KEYS = ["resize_to", "keep_aspect"]; // = crop.spec._RESIZE_KEYS
const CROP_KEYS = ["size", "margin", "fill", "kind", "filter", "detector", "version"];
const KEYS = [
  "name", "crop", "label", "age_range", "decode", "age_std_kind", "graph_sha256", "precision", "export", "training",
  "metrics", SEAL,
];

/**
 * Reads the value of the metadata key `ageinfer`, and believes nothing of it.
 * @param {string} json
 * @returns {Promise<Record<string, any>>}
 * @throws {RangeError} it is not that, of another schema version, or was changed
 */
export async function readMetadata(json) {
  let values, tagged;
  try {
    [values, tagged] = [JSON.parse(json), withTags(json)];
  } catch (error) {
    throw new RangeError(`its metadata are no JSON (${/** @type {Error} */ (error).message})`);
  }
  if (!isObject(values) || values.schema !== METADATA_SCHEMA) {
    const found = isObject(values) && "schema" in values ? JSON.stringify(values.schema) : "None";
    throw new RangeError(`its metadata have schema version ${found}, this release reads ${METADATA_SCHEMA}`);
  }
  const missing = KEYS.filter((key) => !Object.hasOwn(values, key)).sort();
  if (missing.length) throw new RangeError(`its metadata lack ${missing.join(", ")}`);
  delete tagged[`s${SEAL}`];
  if (values[SEAL] !== (await sha256(new TextEncoder().encode(canonical(tagged))))) {
    throw new RangeError("its metadata were changed after the export");
  }
  checkValues(values);
  checkCrop(values.crop, tagged.scrop);
  return values;
}

/** @param {Record<string, any>} values */
function checkValues(values) {
  const choices = { label: LABELS, decode: DECODES, age_std_kind: STD_KINDS, precision: PRECISIONS };
  for (const [key, allowed] of Object.entries(choices)) {
    if (!allowed.includes(values[key])) {
      throw new RangeError(`its metadata say ${key} '${values[key]}', which is none of ${allowed.join(", ")}`);
    }
  }
  const kinds = {
    name: typeof values.name === "string", graph_sha256: typeof values.graph_sha256 === "string",
    training: isObject(values.training), metrics: Array.isArray(values.metrics), export: isObject(values.export),
  };
  for (const [key, fits] of Object.entries(kinds)) {
    if (!fits) throw new RangeError(`its metadata say ${key} '${String(values[key]).slice(0, 40)}', which is of the wrong kind`);
  }
  if (values.name.length > LONGEST_NAME) {
    throw new RangeError(`its metadata say name '${values.name.slice(0, 40)}'..., which is too long`);
  }
  const ages = values.age_range;
  if (!Array.isArray(ages) || ages.length !== 2 || !ages.every((age) => typeof age === "number")) {
    throw new RangeError("its metadata say age_range, which is not two numbers");
  }
  if (!(0 <= ages[0] && ages[0] < ages[1] && ages[1] < HIGHEST_AGE)) {
    throw new RangeError(`its metadata say age_range ${ages}, which are no ages`);
  }
  if (!isObject(values.crop)) throw new RangeError("its metadata hold no crop specification");
}

/**
 * @param {Record<string, any>} crop
 * @param {Record<string, any>} tagged the same with tags, which tell 112 from 112.0
 */
function checkCrop(crop, tagged) {
  const keys = crop.kind === "resize" ? [...CROP_KEYS, ...RESIZE_KEYS] : CROP_KEYS;
  if (Object.keys(crop).sort().join() !== [...keys].sort().join()) {
    throw new RangeError(`crop specification must have exactly the keys ${[...keys].sort().join(", ")}`);
  }
  const { size, margin, fill, kind, filter, version, resize_to: resizeTo } = crop;
  if (version !== CROP_VERSION || !CROP_KINDS.includes(kind) || filter !== "area-linear") {
    throw new RangeError(
      `crop specification ${kind}/${filter} version ${version} is not known ` +
        `(this release knows ${CROP_KINDS.join("|")}/area-linear version ${CROP_VERSION})`,
    );
  }
  if (kind === "resize") {
    const sides = isWhole(tagged.sresize_to) && LEAST_SIDE <= size && size <= resizeTo && resizeTo <= LARGEST_SIDE;
    if (!sides || margin) {
      throw new RangeError(`a resize crop of ${size} px from ${resizeTo} px with margin ${margin} is not valid`);
    }
    if (crop.detector !== NO_DETECTOR) throw new RangeError(`a resize crop has no detector, not '${crop.detector}'`);
    if (typeof crop.keep_aspect !== "boolean") throw new RangeError("crop keep_aspect is not true or false");
  }
  if (!isWhole(tagged.ssize) || size < LEAST_SIDE || size > LARGEST_SIDE) {
    throw new RangeError(`crop size ${size} px is not a whole number between ${LEAST_SIDE} and ${LARGEST_SIDE}`);
  }
  if (typeof margin !== "number" || !(-0.4 <= margin && margin <= 4)) {
    throw new RangeError(`crop margin ${margin} is not a number between -0.4 and 4`);
  }
  if (typeof crop.detector !== "string") throw new RangeError(`crop detector ${crop.detector} is not a name`);
  const isColour = (/** @type {number} */ value, /** @type {number} */ i) =>
    isWhole(tagged.sfill[i]) && value >= 0 && value <= 255;
  if (!Array.isArray(fill) || fill.length !== 3 || !fill.every(isColour)) {
    throw new RangeError(`crop fill ${fill} is not three values from 0 to 255`);
  }
}

// The hash of the metadata is over the text that Python's json.dumps writes, with 5.0 and 5 as they are; JavaScript's
// own numbers no longer tell the two apart. So strings are read with an "s" before them, and numbers as strings with
// an "n" before their digits.

/**
 * @param {string} json valid JSON
 * @returns {any}
 */
function withTags(json) {
  const tokens = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
  return JSON.parse(json.replace(tokens, (token) => (token[0] === '"' ? `"s${token.slice(1)}` : `"n${token}"`)));
}

/**
 * Tagged JSON as Python's `json.dumps(..., sort_keys=True)` writes it.
 * @param {any} value
 * @returns {string}
 */
function canonical(value) {
  if (typeof value === "string") return value[0] === "s" ? quoted(value.slice(1)) : numberAsPython(value.slice(1));
  if (Array.isArray(value)) return `[${value.map(canonical).join(", ")}]`;
  if (!isObject(value)) return String(value); // true, false, null
  const pairs = Object.keys(value).sort().map((key) => `${quoted(key.slice(1))}: ${canonical(value[key])}`);
  return `{${pairs.join(", ")}}`;
}

/** @param {string} text */
function quoted(text) {
  const escape = (/** @type {string} */ unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, escape);
}

/** @param {string} digits of a JSON number */
function numberAsPython(digits) {
  if (/^-?\d+$/.test(digits)) return digits === "-0" ? "0" : digits;
  if (Number(digits) === 0) return digits[0] === "-" ? "-0.0" : "0.0";
  const [mantissa, exponent] = Number(digits).toExponential().split("e"); // the shortest digits, as in Python
  if (+exponent >= -4 && +exponent < 16) {
    const plain = Number(digits).toFixed(Math.max(0, mantissa.replace(/[-.]/g, "").length - 1 - +exponent));
    return plain.includes(".") ? plain : `${plain}.0`;
  }
  return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
}

/** @param {unknown} value tagged */
function isWhole(value) {
  return typeof value === "string" && /^n-?\d+$/.test(value);
}

/** @param {unknown} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
