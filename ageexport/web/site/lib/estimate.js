// @ts-check
// Ages from face crops: the age model, checked, opened and asked in batches (ageinfer/engine/estimator.py).

import { AgeError } from "./errors.js";
import { blank } from "./image.js";
import { checkAgeModel } from "./model.js";

/** @typedef {import("./image.js").Image} Image */
/**
 * An estimate for one face, in years; quality: how well the face was seen, see quality.js.
 * @typedef {{ageYears: number, stdYears: number, quality: number | null}} Age
 */

const CPU_PIXELS = 65536; // = engine.estimator._CPU_PIXELS
const SLACK_YEARS = { expectation: 0.5, linear: 20 }; // = engine.estimator._SLACK_YEARS
const GREY = 128; // = engine.estimator._GREY

/** An age model, checked and opened; made by `open`. */
export class AgeEstimator {
  #ort;
  #session;
  #atOnce;

  /**
   * @param {any} ort
   * @param {any} session
   * @param {Record<string, any>} metadata
   * @param {number} threads
   */
  constructor(ort, session, metadata, threads) {
    this.#ort = ort;
    this.#session = session;
    this.#atOnce = Math.max(1, Math.floor((CPU_PIXELS * threads) / metadata.crop.size ** 2));
    /** What the file says of itself; `metadata.crop` is the crop that `estimate` must be given. */
    this.metadata = metadata;
  }

  /**
   * Checks and opens an age model.
   * @param {any} ort the module onnxruntime-web
   * @param {Uint8Array} model the bytes of the file
   * @param {object} options of `InferenceSession.create`
   * @param {number} threads of the network
   * @throws {AgeError} the file is broken, changed, or not an age model of this project
   */
  static async open(ort, model, options, threads) {
    const metadata = await checkAgeModel(model);
    const session = await ort.InferenceSession.create(model, options).catch((/** @type {Error} */ error) => {
      throw new AgeError(`onnxruntime-web cannot load the model: ${error.message.split("\n")[0]}; is the file complete?`);
    });
    const { size } = metadata.crop;
    const [input] = session.inputMetadata;
    const takes = session.inputNames.join() === "face" && input.type === "uint8" && String(input.shape.slice(1)) === `${size},${size},3`;
    if (!takes || !["age", "age_std"].every((name) => session.outputNames.includes(name))) {
      throw new AgeError(`the model takes ${session.inputNames}, gives ${session.outputNames}, which is not what its metadata say`);
    }
    const estimator = new AgeEstimator(ort, session, metadata, threads);
    const grey = blank(size, size);
    grey.data.fill(GREY);
    await estimator.estimate([grey]); // on trial
    return estimator;
  }

  /** Name and precision of the model, as records have it: `age-small@int8`. */
  get identifier() {
    return `${this.metadata.name}@${this.metadata.precision}`;
  }

  /**
   * Estimates the age of each crop, in batches that fit the cache of a processor.
   * @param {Image[]} crops RGB, cut by `cropFace` with `metadata.crop`
   * @returns {Promise<Age[]>}
   * @throws {AgeError} the model answers with anything but ages in the range that its metadata state
   */
  async estimate(crops) {
    const { size } = this.metadata.crop;
    const values = 3 * size * size;
    if (crops.some(({ width, height, data }) => width !== size || height !== size || data.length !== values)) {
      throw new TypeError(`crops must be RGB, ${size} x ${size} pixels`);
    }
    /** @type {Age[]} */
    const found = [];
    for (let start = 0; start < crops.length; start += this.#atOnce) {
      const part = crops.slice(start, start + this.#atOnce);
      const faces = new Uint8Array(part.length * values);
      part.forEach((crop, i) => faces.set(crop.data, i * values));
      const face = new this.#ort.Tensor("uint8", faces, [part.length, size, size, 3]);
      const { age, age_std: std } = await this.#session.run({ face }, ["age", "age_std"]);
      this.#check(part.length, age, std);
      part.forEach((_, i) => found.push({ ageYears: age.data[i], stdYears: std.data[i], quality: null }));
    }
    return found;
  }

  /**
   * @param {number} count
   * @param {any} age
   * @param {any} std
   */
  #check(count, age, std) {
    for (const [name, { type, dims }] of Object.entries({ age, age_std: std })) {
      if (type !== "float32" || String(dims) !== String(count)) {
        throw new AgeError(
          `the model answers with ${name} ${type} [${dims}] for ${count} face(s), not float32 [${count}]; export it again`,
        );
      }
    }
    const [lowest, highest] = this.metadata.age_range;
    const slack = SLACK_YEARS[/** @type {"expectation" | "linear"} */ (this.metadata.decode)];
    for (let i = 0; i < count; i++) {
      const [years, deviation] = [age.data[i], std.data[i]];
      const possible = years >= lowest - slack && years <= highest + slack && deviation >= 0 && deviation <= highest - lowest;
      if (!possible) { // not a number, too
        throw new AgeError(
          `the model answers with an age of ${years} years and a deviation of ${deviation}, its metadata say ` +
            `${lowest} to ${highest} years; export it again`,
        );
      }
    }
  }
}
