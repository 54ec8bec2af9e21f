// @ts-check
// The public module: faces and ages of pictures and videos, as records (ageinfer/pipeline.py and types.py).

import { cropFace } from "./crop.js";
import { YuNet } from "./detect.js";
import { AgeEstimator } from "./estimate.js";
import { FaceFollower } from "./follower.js";
import { asRgb } from "./image.js";
import { readModel } from "./model.js";
import { rounded } from "./numbers.js";
import { qualityOf } from "./quality.js";
import { detectClosely, wholePicture } from "./search.js";

export { AgeError } from "./errors.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./detect.js").Detection} Detection */
/** @typedef {import("./estimate.js").Age} Age */
/** @typedef {import("./tracker.js").Track} Track */

const SCHEMA_VERSION = 1; // = types.SCHEMA_VERSION
const DEFAULT_FPS = 25; // = types.DEFAULT_FPS
const AGE_INTERVAL_S = 0.2; // = detect.looking.Looking.age_interval_s

/** Finds the faces of pictures and estimates the age of each; made by `open`. Documented in ageinfer.d.ts. */
export class Ageinfer {
  /**
   * @param {AgeEstimator} estimator
   * @param {YuNet | typeof wholePicture} detector
   */
  constructor(estimator, detector) {
    this.estimator = estimator;
    this.detector = detector;
  }

  /** @param {import("./ageinfer.d.ts").OpenOptions} options */
  static async open({ model, detector, ort, executionProviders = ["wasm"], threads = 1 }) {
    ort.env.wasm.numThreads = threads;
    const options = { executionProviders, logSeverityLevel: 4 };
    const estimator = await AgeEstimator.open(ort, await readModel(model), options, threads);
    if (estimator.metadata.crop.kind === "resize") return new Ageinfer(estimator, wholePicture);
    return new Ageinfer(estimator, await YuNet.open(ort, await readModel(detector), options));
  }

  /** What the file of the age model says of itself. */
  get metadata() {
    return this.estimator.metadata;
  }

  /**
   * @param {Image} picture
   * @param {{source?: string, crops?: boolean}} options
   */
  async picture(picture, { source = "", crops = false } = {}) {
    const image = asRgb(picture);
    const detections = await detectClosely(this.detector, image);
    const ages = await this.agesOf(image, detections);
    const faces = detections.map((detection, i) => {
      const face = faceRecord(detection, ages[i]);
      return crops ? { ...face, crop: ages[i].crop } : face;
    });
    return this.record(source, 0, null, image, faces);
  }

  /** @param {{source?: string, largestSide?: number}} options */
  video(options = {}) {
    return new Video(this, options);
  }

  /**
   * The ages of some faces of a picture, each with its crop and its quality.
   * @param {Image} image RGB
   * @param {Detection[]} detections
   * @returns {Promise<(Age & {crop: Image})[]>}
   */
  async agesOf(image, detections) {
    const spec = this.metadata.crop;
    const crops = detections.map(({ box, landmarks }) => cropFace(image, box, spec, landmarks));
    const ages = await this.estimator.estimate(crops);
    const known = spec.kind !== "resize"; // of whole pictures nothing is known of a face
    return ages.map((age, i) => {
      const quality = known ? qualityOf(crops[i], spec, detections[i]) : null;
      return { ...age, crop: crops[i], quality };
    });
  }

  /**
   * @param {string} source
   * @param {number} frame
   * @param {number | null} timeS
   * @param {Image} image
   * @param {import("./ageinfer.d.ts").FaceRecord[]} faces
   * @returns {import("./ageinfer.d.ts").FrameRecord}
   */
  record(source, frame, timeS, { width, height }, faces) {
    return {
      schema: SCHEMA_VERSION, source, frame, time_s: timeS === null ? null : rounded(timeS, 4), size: [width, height],
      model: this.estimator.identifier, faces,
    };
  }
}

/** The frames of one video or camera; made by `Ageinfer.video`. */
export class Video {
  #ageinfer;
  #source;
  #follower;
  #index = 0;

  /**
   * @param {Ageinfer} ageinfer
   * @param {{source?: string, largestSide?: number}} options
   */
  constructor(ageinfer, { source = "", largestSide = Infinity }) {
    this.#ageinfer = ageinfer;
    this.#source = source;
    // Of whole pictures there is nothing to follow.
    this.#follower = ageinfer.detector instanceof YuNet ? new FaceFollower(ageinfer.detector, largestSide) : null;
  }

  /**
   * @param {Image} picture
   * @param {number | null} timeS
   */
  async frame(picture, timeS = null) {
    const image = asRgb(picture);
    const index = this.#index++;
    const faces = this.#follower === null
      ? (await this.#ageinfer.picture(image)).faces
      : await this.#followed(this.#follower, image, timeS ?? index / DEFAULT_FPS);
    return this.#ageinfer.record(this.#source, index, timeS, image, faces);
  }

  /**
   * @param {FaceFollower} follower
   * @param {Image} image
   * @param {number} sourceS
   */
  async #followed(follower, image, sourceS) {
    const found = await follower.next(image, sourceS);
    const due = found.filter(({ track }) => track.age.due(follower.timeS, AGE_INTERVAL_S));
    const ages = await this.#ageinfer.agesOf(image, due.map(({ detection }) => detection));
    due.forEach(({ track }, i) => track.age.take(ages[i], follower.timeS));
    return found.map(({ detection, track }) =>
      faceRecord(detection, /** @type {Age} */ (track.age.newest), track, follower.timeS - track.age.estimatedS),
    );
  }
}

/**
 * A face as the records have it. Pixels and years are rounded to 2 decimals, scores to 4.
 * @param {Detection} detection
 * @param {Age} age
 * @param {Track | null} track null where nothing is tracked
 * @param {number} lagS since the frame in which the age was estimated
 * @returns {import("./ageinfer.d.ts").FaceRecord}
 */
function faceRecord({ box, score, landmarks }, age, track = null, lagS = 0) {
  return {
    box: /** @type {[number, number, number, number]} */ (box.map((value) => rounded(value, 2))),
    score: rounded(score, 4),
    landmarks: landmarks === null ? null : landmarks.map(([x, y]) => [rounded(x, 2), rounded(y, 2)]),
    track: track === null ? null : track.number,
    age: rounded(age.ageYears, 2),
    age_std: rounded(age.stdYears, 2),
    age_smoothed: track === null ? null : rounded(track.age.steadyYears, 2),
    age_lag_s: rounded(lagS, 4),
    quality: age.quality === null ? null : rounded(age.quality, 3),
  };
}
