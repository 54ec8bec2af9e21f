// @ts-check
// The age of one track: when it is estimated again, and one steady age from the estimates of single frames
// (ageinfer/tracking/age.py).

import { clamp } from "./numbers.js";

/** @typedef {import("./estimate.js").Age} Age */

// The memory is a histogram over ages, so that it costs the same after a second and after a day.
const BIN_YEARS = 0.25; // = tracking.age._BIN_YEARS
const OLDEST_YEARS = 125; // = tracking.age._OLDEST_YEARS
const HALF_LIFE_S = 20; // = tracking.age._HALF_LIFE_S
const OUTLIER_DEVIATIONS = 2; // = tracking.age._OUTLIER_DEVIATIONS
const LEAST_SPREAD_YEARS = 1; // = tracking.age._LEAST_SPREAD_YEARS
const MAD_TO_STD = 1.4826; // = tracking.age._MAD_TO_STD
const SETTLING_S = 2; // = tracking.age._SETTLING_S
const DEAD_BAND = 0.35; // = tracking.age._DEAD_BAND
const RECENT_S = 1; // = tracking.age._RECENT_S
const RECENT_LEAST_S = 0.7; // = tracking.age._RECENT_LEAST_S
const RECENT_LEAST_COUNT = 4; // = tracking.age._RECENT_LEAST_COUNT
const CHANGE = 1.25; // = tracking.age._CHANGE
const TIME_ROUNDING_S = 1e-3; // = tracking.age._TIME_ROUNDING_S
const BINS = OLDEST_YEARS / BIN_YEARS;

/** Estimates of one face, of which a few may lie far from all others, as grimaces and turned heads do. */
export class AgeHistogram {
  #weights = new Float64Array(BINS);

  /**
   * Takes an estimate; years beyond 0 to 125 count as the nearest of them.
   * @param {number} ageYears
   * @param {number} weight
   */
  add(ageYears, weight) {
    this.#weights[Math.floor(clamp(ageYears, 0, OLDEST_YEARS - BIN_YEARS) / BIN_YEARS)] += weight;
  }

  /**
   * Lets all estimates so far count less.
   * @param {number} factor
   */
  fade(factor) {
    for (let i = 0; i < BINS; i++) this.#weights[i] *= factor;
  }

  /** The mean of the estimates that are near the weighted median, in years: without outliers. */
  mean() {
    const median = medianPlace(this.#weights);
    const byDistance = new Float64Array(BINS);
    this.#weights.forEach((weight, i) => (byDistance[Math.abs(i - median)] += weight));
    const spread = medianPlace(byDistance) * BIN_YEARS * MAD_TO_STD;
    const reach = Math.floor((OUTLIER_DEVIATIONS * Math.max(spread, LEAST_SPREAD_YEARS)) / BIN_YEARS);
    let [sum, total] = [0, 0];
    for (let i = Math.max(0, median - reach); i <= Math.min(BINS - 1, median + reach); i++) {
      sum += this.#weights[i] * (i + 0.5) * BIN_YEARS;
      total += this.#weights[i];
    }
    return sum / total;
  }
}

/**
 * The age of one track: a robust mean that counts certain frames more and old ones less, settles within two seconds,
 * and begins anew where a whole second of frames contradicts it.
 */
export class AgeFusion {
  #histogram = new AgeHistogram();
  /** @type {[number, Age][]} */
  #recent = [];
  /** @type {number | null} */
  #beganS = null;
  #lastS = 0;
  #variance = 0; // running mean of the model's own
  #shown = 0;

  /**
   * Takes the estimate of the next frame; returns the age of the track so far, in years.
   * @param {Age} age
   * @param {number} timeS of that frame, never less than before
   */
  add(age, timeS) {
    this.#recent.push([timeS, age]);
    while (timeS - this.#recent[0][0] > RECENT_S) this.#recent.shift();
    if (this.#isAnother(timeS)) {
      this.#histogram = new AgeHistogram();
      [this.#beganS, this.#lastS, this.#variance, this.#shown] = [null, 0, 0, 0];
      for (const [earlierS, earlier] of this.#recent.slice(0, -1)) this.#take(earlier, earlierS);
    }
    this.#take(age, timeS);
    const mean = this.#histogram.mean();
    const band = this.settled(timeS) ? DEAD_BAND * Math.sqrt(this.#variance) : 0;
    this.#shown = clamp(this.#shown, mean - band, mean + band);
    return this.#shown;
  }

  /**
   * Whether the age has stopped following every frame: two seconds after it began, or began anew.
   * @param {number} timeS
   */
  settled(timeS) {
    return this.#beganS !== null && timeS - this.#beganS >= SETTLING_S;
  }

  /** What `add` returned last, in years. */
  get shownYears() {
    return this.#shown;
  }

  /**
   * @param {Age} age
   * @param {number} timeS
   */
  #take(age, timeS) {
    const variance = Math.max(age.stdYears, 0.5) ** 2;
    if (this.#beganS === null) [this.#beganS, this.#lastS, this.#variance] = [timeS, timeS, variance];
    this.#variance += 0.1 * (variance - this.#variance);
    this.#histogram.fade(0.5 ** ((timeS - this.#lastS) / HALF_LIFE_S));
    this.#lastS = timeS;
    this.#histogram.add(age.ageYears, variance ** -0.5);
  }

  /** @param {number} timeS */
  #isAnother(timeS) {
    if (!this.settled(timeS)) return false;
    if (this.#recent.length < RECENT_LEAST_COUNT || timeS - this.#recent[0][0] < RECENT_LEAST_S) return false;
    const limit = CHANGE * Math.sqrt(this.#variance);
    const distances = this.#recent.map(([, age]) => age.ageYears - this.#shown);
    return Math.min(...distances) > limit || Math.max(...distances) < -limit;
  }
}

/** The age of one face: its newest estimate, and the one over its track. */
export class TrackAge {
  #fusion = new AgeFusion();
  /** @type {Age | null} of the last frame in which it was estimated */
  newest = null;
  estimatedS = 0; // time of that frame

  /**
   * Tells whether the face is to be estimated in a frame: in every one until its age has settled, then once in an
   * interval.
   * @param {number} timeS
   * @param {number} intervalS
   */
  due(timeS, intervalS) {
    if (this.newest === null || !this.#fusion.settled(timeS)) return true;
    return timeS - this.estimatedS > intervalS - TIME_ROUNDING_S;
  }

  /**
   * Takes the estimate of a frame that is later than all before.
   * @param {Age} age
   * @param {number} timeS
   */
  take(age, timeS) {
    [this.newest, this.estimatedS] = [age, timeS];
    this.#fusion.add(age, timeS);
  }

  /** The age over the track so far, in years. */
  get steadyYears() {
    return this.#fusion.shownYears;
  }
}

/**
 * The first place at which half of the weight is reached.
 * @param {Float64Array} weights
 */
function medianPlace(weights) {
  const sums = new Float64Array(weights.length);
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sums[i] = sum += weights[i];
  return sums.findIndex((value) => value >= sum / 2);
}
