// @ts-check
// One face over time, and which face of a frame belongs to which (ageinfer/tracking/track.py and tracker.py).

import { TrackAge } from "./age.js";
import { Look, SAME_LOOK } from "./appearance.js";
import { overlap } from "./search.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./crop.js").Box} Box */
/** @typedef {import("./detect.js").Detection} Detection */

const VELOCITY_GAIN = 0.5; // = tracking.track._VELOCITY_GAIN
const VELOCITY_LEAST_S = 0.03; // = tracking.track._VELOCITY_LEAST_S
const LONGEST_PREDICTION_S = 0.25; // = tracking.track._LONGEST_PREDICTION_S
const LEAST_IOU = 0.2; // = tracking.tracker._LEAST_IOU
const LARGEST_JUMP = 0.75; // = tracking.tracker._LARGEST_JUMP
const LARGEST_GROWTH = 1.5; // = tracking.tracker._LARGEST_GROWTH
const LARGEST_DETOUR = 1; // = tracking.tracker._LARGEST_DETOUR
const WALKED = 0.5; // = tracking.tracker._WALKED
const AT_ITS_PLACE_IOU = 0.5; // = tracking.tracker._AT_ITS_PLACE_IOU
const HALF_HIDDEN_LOOK = 0.3; // = tracking.tracker._HALF_HIDDEN_LOOK
const LONGEST_GAP_S = 10; // = tracking.tracker._LONGEST_GAP_S
const PATIENCE_S = 1; // = tracking.tracker.PATIENCE_S

/** One face over time: where it is, how it looks and how old it is. */
export class Track {
  velocity = [0, 0]; // of its centre, in pixels a second
  look = new Look();
  age = new TrackAge();
  /** @type {Detection | null} what was found in the last frame, if the face was where it was expected */
  asExpected = null;
  /** @type {{box: Box, timeS: number}} where and when the movement that is measured began */
  #from;

  /**
   * @param {number} number of the track, from 1, never used again
   * @param {Box} box where the face was last seen
   * @param {number} seenS when it was last seen
   */
  constructor(number, box, seenS) {
    this.number = number;
    this.box = box;
    this.seenS = seenS;
    this.#from = { box, timeS: seenS };
  }

  /**
   * Where the face should be at a time. Prediction over a longer time is a guess.
   * @param {number} timeS
   */
  expected(timeS) {
    return this.#moved(Math.min(timeS - this.seenS, LONGEST_PREDICTION_S));
  }

  /**
   * Where the face should be if it has gone on as it went, behind whatever hides it.
   * @param {number} timeS
   */
  walkedOn(timeS) {
    return this.#moved(timeS - this.seenS);
  }

  /**
   * @param {number} elapsedS
   * @returns {Box}
   */
  #moved(elapsedS) {
    const [x, y, w, h] = this.box;
    return [x + this.velocity[0] * elapsedS, y + this.velocity[1] * elapsedS, w, h];
  }

  /**
   * Takes the face's place at a time.
   * @param {Box} box
   * @param {number} timeS
   */
  see(box, timeS) {
    const before = this.#from.box;
    const elapsed = timeS - this.#from.timeS;
    if (elapsed >= VELOCITY_LEAST_S) {
      this.velocity = this.velocity.map((v, axis) => {
        const moved = (box[axis] + box[axis + 2] / 2 - before[axis] - before[axis + 2] / 2) / elapsed;
        return v + VELOCITY_GAIN * (moved - v);
      });
      this.#from = { box, timeS };
    }
    [this.box, this.seenS] = [box, timeS];
  }
}

/** Decides which track each face of the next frame belongs to. */
export class Tracker {
  /** @type {Track[]} those that have not ended, the oldest first */
  tracks = [];
  /** @type {Track[]} those at whose places other faces have appeared; they may come out again */
  hidden = [];
  #lastNumber = 0;
  #newestS = -Infinity; // of the frames so far

  /**
   * Takes the faces of the next frame, or more faces of the same frame; returns the track of each.
   * @param {Detection[]} detections
   * @param {number} timeS never less than that of the frame before
   */
  update(detections, timeS) {
    const gapS = timeS - this.#newestS;
    if (gapS > 0) {
      const patienceS = Math.max(PATIENCE_S, gapS <= LONGEST_GAP_S ? gapS : 0);
      this.tracks = this.tracks.filter((track) => timeS - track.seenS <= patienceS);
      this.hidden = this.hidden.filter((track) => timeS - track.seenS <= PATIENCE_S);
      this.#newestS = timeS;
    }
    /** @type {{fit: number, track: Track, i: number}[]} */
    const pairs = [];
    for (const track of this.unseen(timeS)) {
      const place = track.expected(timeS);
      detections.forEach(({ box }, i) => {
        const fit = fitOf(place, box);
        if (fit !== null) pairs.push({ fit, track, i });
      });
    }
    /** @type {Map<number, Track>} */
    const matched = new Map();
    const taken = new Set();
    for (const { track, i } of pairs.sort((one, other) => other.fit - one.fit)) {
      if (taken.has(track) || matched.has(i)) continue;
      taken.add(track);
      matched.set(i, track);
      track.see(detections[i].box, timeS);
    }
    return detections.map(({ box }, i) => matched.get(i) ?? this.#begin(box, timeS));
  }

  /**
   * Hides a track at whose place another face has appeared; returns the track of that face.
   * @param {Track} track that was matched with the face
   * @param {Image} pixels of the face, see `smallGrey`
   * @param {number} timeS
   */
  replace(track, pixels, timeS) {
    const beforeS = track.look.seenS;
    this.tracks = this.tracks.filter((other) => other !== track);
    const found = this.#outOfSight(track, pixels, timeS);
    if (beforeS !== null) {
      track.seenS = beforeS;
      this.hidden.push(track);
    }
    return found ? this.#resumed(found, track.box, timeS) : this.#begin(track.box, timeS);
  }

  /**
   * The track of a face that has just begun: itself, or one that was lost nearby and looks the same.
   * @param {Track} track of the face, begun in this frame
   * @param {Image} pixels
   * @param {number} timeS
   */
  recognised(track, pixels, timeS) {
    const found = this.#outOfSight(track, pixels, timeS);
    if (found === null) return track;
    this.tracks = this.tracks.filter((other) => other !== track);
    if (track.number === this.#lastNumber) this.#lastNumber--; // nobody has heard of it
    return this.#resumed(found, track.box, timeS);
  }

  /**
   * The track that is not seen now, was lost near this one a moment ago, and looks most like it.
   * @param {Track} track
   * @param {Image} pixels
   * @param {number} timeS
   */
  #outOfSight(track, pixels, timeS) {
    let best = null;
    let most = -1;
    for (const lost of [...this.unseen(timeS), ...this.hidden]) {
      if (lost === track || timeS - lost.seenS > PATIENCE_S) continue;
      const alike = lost.look.likeness(pixels);
      if (alike > most && comesOut(lost, track.box, alike, timeS)) [best, most] = [lost, alike];
    }
    return best;
  }

  /**
   * Goes on with a track that was out of sight.
   * @param {Track} track
   * @param {Box} box
   * @param {number} timeS
   */
  #resumed(track, box, timeS) {
    if (this.hidden.includes(track)) {
      this.hidden = this.hidden.filter((other) => other !== track);
      this.tracks.push(track);
    }
    track.see(box, timeS);
    return track;
  }

  /**
   * The tracks that no face of the frame at this time was matched with.
   * @param {number} timeS
   */
  unseen(timeS) {
    return this.tracks.filter((track) => track.seenS < timeS);
  }

  /**
   * @param {Box} box
   * @param {number} seenS
   */
  #begin(box, seenS) {
    const track = new Track(++this.#lastNumber, box, seenS);
    this.tracks.push(track);
    return track;
  }
}

/**
 * Whether a face may be one that was out of sight: it looks the same, or comes out where that must by now be.
 * @param {Track} lost
 * @param {Box} box
 * @param {number} alike
 * @param {number} timeS
 */
function comesOut(lost, box, alike, timeS) {
  const place = lost.walkedOn(timeS);
  const walked = distanceOf(lost.box, place) >= WALKED;
  if (walked && overlap(place, box) >= AT_ITS_PLACE_IOU && alike >= HALF_HIDDEN_LOOK) return true;
  return alike >= SAME_LOOK && Math.min(distanceOf(place, box), distanceOf(lost.box, box)) <= LARGEST_DETOUR;
}

/**
 * From centre to centre, in sides of the larger face; without end where one is much larger.
 * @param {Box} a
 * @param {Box} b
 */
function distanceOf(a, b) {
  const [side, other] = [Math.max(a[2], a[3]), Math.max(b[2], b[3])];
  if (!(side > 0 && side / LARGEST_GROWTH <= other && other <= side * LARGEST_GROWTH)) return Infinity;
  const [dx, dy] = [a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2];
  return Math.hypot(dx, dy) / Math.max(side, other);
}

/**
 * How well a face fits the place where a track is expected: above 0 by overlap, below by distance; null: not.
 * @param {Box} place
 * @param {Box} box
 */
function fitOf(place, box) {
  const shared = overlap(place, box);
  if (shared >= LEAST_IOU) return shared;
  const distance = distanceOf(place, box);
  return distance <= LARGEST_JUMP ? -distance : null;
}
