// @ts-check
// Finds and follows the faces of a video at a fraction of the cost of searching every whole frame
// (ageinfer/tracking/follower.py).

import { smallGrey } from "./appearance.js";
import { moved } from "./detect.js";
import { SAME_FACE_IOU, detectReduced, overlap, sideOf } from "./search.js";
import { Tracker } from "./tracker.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./crop.js").Box} Box */
/** @typedef {import("./detect.js").Detection} Detection */
/** @typedef {import("./tracker.js").Track} Track */

const MOST_FRAMES = 8; // = tracking.follower._MOST_FRAMES
const LONGEST_S = 0.35; // = tracking.follower._LONGEST_S
const MOST_FRAMES_WITHOUT_FACE = 2; // = tracking.follower._MOST_FRAMES_WITHOUT_FACE
const FULL_SIZE_EVERY_S = 2; // = tracking.follower._FULL_SIZE_EVERY_S
const LEAST_FACE_PX = 40; // = tracking.follower._LEAST_FACE_PX
const FORGETTING = 0.97; // = tracking.follower._FORGETTING
const LEAST_SIDE_PX = 320; // = tracking.follower._LEAST_SIDE_PX
const CARRIED_S = 0.05; // = tracking.follower._CARRIED_S
const AS_EXPECTED_IOU = 0.85; // = tracking.follower._AS_EXPECTED_IOU

/**
 * Finds the faces of successive frames and gives each one its track.
 *
 * It searches the whole frame now and then, and in between only near the faces that are known. A face that is missed in
 * one way is searched for in the other way before the frame is done. The scale of a whole search follows the faces. A
 * face that moves as expected and looks the same is carried over one frame between two searches.
 */
export class FaceFollower {
  #detector;
  #largestSide;
  #tracker = new Tracker();
  #size = "";
  #timeS = 0;
  #interval = 1; // frames from one whole look to the next
  #sinceLook = 0;
  #lookedS = -Infinity;
  #fullSizeS = -Infinity;
  #leastSeenPx = LEAST_FACE_PX;
  #lookedAt = 1; // scale of the last whole look

  /**
   * @param {import("./detect.js").YuNet} detector
   * @param {number} largestSide of a search in pixels
   */
  constructor(detector, largestSide = Infinity) {
    this.#detector = detector;
    this.#largestSide = largestSide;
  }

  /** The time of the last frame, in seconds; it grows with every frame whatever the source says. */
  get timeS() {
    return this.#timeS;
  }

  /**
   * Finds the faces of the next frame, best score first, and the track of each one.
   * @param {Image} image RGB
   * @param {number} sourceS the time of the frame, in seconds
   * @returns {Promise<{detection: Detection, track: Track}[]>}
   */
  async next(image, sourceS) {
    const timeS = Math.max(sourceS, this.#timeS + 1e-3);
    const size = `${image.width} x ${image.height}`;
    if (size !== this.#size) { // another camera: nothing lies where it lay
      this.#size = size;
      this.#lookedS = this.#fullSizeS = -Infinity;
      this.#tracker.tracks = [];
    }
    const before = this.#tracker.tracks.filter((track) => track.seenS >= this.#timeS);
    this.#sinceLook++;
    const whole = this.#isLookDue(timeS);
    const expected = new Map(this.#tracker.tracks.map((track) => [track, track.expected(timeS)]));
    /** @type {Map<Track, Detection>} */
    let carried = new Map();
    /** @type {Detection[]} */
    let found;
    if (whole) {
      found = await this.#look(image, timeS);
    } else {
      carried = this.#carried(image, timeS);
      const near = await this.#near(image, timeS, this.#tracker.tracks.filter((track) => !carried.has(track)));
      // A look near one face may show its neighbour, too.
      carried = new Map([...carried].filter(([, { box }]) => near.every((other) => overlap(box, other.box) < SAME_FACE_IOU)));
      found = [...near, ...carried.values()];
    }
    let tracks = this.#tracker.update(found, timeS);
    const lost = before.filter((track) => !tracks.includes(track));
    if (lost.length) { // looked for in the other way, before the frame is done
      const all = whole ? await this.#near(image, timeS, lost) : await this.#look(image, timeS);
      const more = all.filter(({ box }) => found.every((other) => overlap(box, other.box) < SAME_FACE_IOU));
      if (whole) this.#learn(more);
      tracks = [...tracks, ...this.#tracker.update(more, timeS)];
      found = [...found, ...more];
    }
    if (whole || lost.length) this.#plan(!lost.length && tracks.every((track) => before.includes(track)), timeS);
    const owners = this.#remember(image, found, tracks, expected, carried, timeS);
    this.#timeS = timeS;
    return found
      .map((detection, i) => ({ detection, track: owners[i] }))
      .sort((one, other) => other.detection.score - one.detection.score);
  }

  /** @param {number} timeS */
  #isLookDue(timeS) {
    const interval = this.#tracker.tracks.length ? this.#interval : Math.min(this.#interval, MOST_FRAMES_WITHOUT_FACE);
    return this.#sinceLook >= interval || timeS - this.#lookedS >= LONGEST_S;
  }

  /**
   * Finds the faces of the whole frame, at the scale that the known ones allow.
   * @param {Image} image
   * @param {number} timeS
   */
  async #look(image, timeS) {
    const whole = Math.max(image.width, image.height);
    let side = whole;
    if (timeS - this.#fullSizeS < FULL_SIZE_EVERY_S) {
      // Not those that were lost: what has left, or was no face, must not keep the scale.
      const seen = this.#tracker.tracks.filter((track) => track.seenS >= this.#timeS);
      const smallest = Math.min(...seen.map(sideOf));
      // Whole factors alone: other reductions cost more than they save.
      const factor = Math.min(smallest / this.#leastSeenPx, whole / LEAST_SIDE_PX);
      side = Math.ceil(whole / Math.max(1, Math.floor(factor)));
    }
    side = Math.min(side, this.#largestSide);
    if (side === Math.min(whole, this.#largestSide)) this.#fullSizeS = timeS;
    this.#lookedAt = side / whole;
    return detectReduced(this.#detector, image, side);
  }

  /**
   * Finds faces near the places where those of some tracks are expected.
   * @param {Image} image
   * @param {number} timeS
   * @param {Track[]} tracks
   * @returns {Promise<Detection[]>}
   */
  async #near(image, timeS, tracks) {
    return tracks.length ? this.#detector.detectNear(image, tracks.map((track) => track.expected(timeS))) : [];
  }

  /**
   * The faces that surely are where they are expected.
   * @param {Image} image
   * @param {number} timeS
   */
  #carried(image, timeS) {
    /** @type {Map<Track, Detection>} */
    const carried = new Map();
    if (timeS - this.#timeS > CARRIED_S) return carried;
    for (const track of this.#tracker.tracks) {
      const box = track.expected(timeS);
      if (track.asExpected !== null && track.look.still(smallGrey(image, box), timeS)) {
        const [x, y] = track.asExpected.box;
        carried.set(track, moved(track.asExpected, [1, 1], [box[0] - x, box[1] - y]));
      }
    }
    return carried;
  }

  /**
   * Keeps how the faces of this frame were found and how they look; returns the track of each face: where it looks like
   * somebody else, that of whoever was lost nearby and looks the same, or a new one.
   * @param {Image} image
   * @param {Detection[]} found
   * @param {Track[]} tracks
   * @param {Map<Track, Box>} expected
   * @param {Map<Track, Detection>} carried
   * @param {number} timeS
   */
  #remember(image, found, tracks, expected, carried, timeS) {
    for (const track of this.#tracker.tracks) track.asExpected = null;
    return found.map((detection, i) => {
      const track = tracks[i];
      if (carried.has(track)) return track;
      const pixels = smallGrey(image, detection.box);
      let owner = track;
      if (track.look.seenS === null) owner = this.#tracker.recognised(track, pixels, timeS);
      else if (track.look.changed(pixels, timeS)) owner = this.#tracker.replace(track, pixels, timeS);
      owner.look.take(pixels, timeS);
      const place = expected.get(track);
      if (place !== undefined && overlap(place, detection.box) >= AS_EXPECTED_IOU) owner.asExpected = detection;
      return owner;
    });
  }

  /**
   * Faces of this size are missed in a reduced look: look closer for some time.
   * @param {Detection[]} missed
   */
  #learn(missed) {
    if (this.#lookedAt >= 1) return;
    for (const face of missed) this.#leastSeenPx = Math.max(this.#leastSeenPx, 1.25 * sideOf(face) * this.#lookedAt);
  }

  /**
   * After a look at the whole frame: when the next one is due.
   * @param {boolean} calm
   * @param {number} timeS
   */
  #plan(calm, timeS) {
    this.#interval = calm ? Math.min(2 * this.#interval, MOST_FRAMES) : 1;
    this.#leastSeenPx = Math.max(LEAST_FACE_PX, this.#leastSeenPx * (calm ? FORGETTING : 1));
    [this.#sinceLook, this.#lookedS] = [0, timeS];
  }
}
