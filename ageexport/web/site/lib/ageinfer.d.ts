/** A picture: `ImageData` of a canvas, or RGB or RGBA values of 0 to 255, line by line. */
export interface Picture {
  width: number;
  height: number;
  data: Uint8Array | Uint8ClampedArray;
}

/** One face of a record; the keys are those of docs/reference/records.md. */
export interface FaceRecord {
  /** x, y, width and height in pixels, x and y being the top left corner; may reach beyond the picture. */
  box: [number, number, number, number];
  /** The detector's own confidence, 0 to 1. */
  score: number;
  /** Right eye, left eye, nose tip, right and left corner of the mouth; null for models of whole pictures. */
  landmarks: [number, number][] | null;
  /** Identity over the frames of a video; null for a picture. */
  track: number | null;
  /** Estimate from one frame alone, in years: this frame, or the last one in which this face was estimated. */
  age: number;
  /** Standard deviation of the estimate, in years. */
  age_std: number;
  /** Estimate over the track so far, in years; null for a picture. */
  age_smoothed: number | null;
  /** Seconds since the frame in which `age` was estimated; 0 for this frame. */
  age_lag_s: number;
  /** How well the face was seen, 0 to 1; null for models of whole pictures. */
  quality: number | null;
  /** The pixels that the network was given, RGB; only where they were asked for. */
  crop?: Picture;
}

/** One picture or frame, as one line of a JSONL output of ageinfer. */
export interface FrameRecord {
  schema: number;
  source: string;
  /** Number of the frame from 0; 0 for a picture. */
  frame: number;
  /** Seconds, as they were given; null for a picture. */
  time_s: number | null;
  /** Width and height in pixels. */
  size: [number, number];
  /** Name and precision of the age model, as `age-small@int8`. */
  model: string;
  /** Best score first; empty where there is no face. */
  faces: FaceRecord[];
}

export interface OpenOptions {
  /** An age model that ageexport has written: its bytes or its address. */
  model: string | URL | ArrayBuffer | Uint8Array;
  /** The YuNet file `face_detection_yunet_2023mar.onnx`; it is not opened for models of whole pictures. */
  detector: string | URL | ArrayBuffer | Uint8Array;
  /** The module onnxruntime-web. */
  ort: any;
  /** Execution providers of onnxruntime-web; `["wasm"]` if left out. */
  executionProviders?: string[];
  /** Threads of each network, 1 if left out; a browser allows more only on pages that are isolated (COOP, COEP). */
  threads?: number;
}

/** Every error that this library throws on purpose. The message is one line. */
export class AgeError extends Error {}

/**
 * Finds the faces of pictures and estimates the age of each.
 *
 * @example
 * const ageinfer = await Ageinfer.open({ model: "age-small.onnx", detector: "face_detection_yunet_2023mar.onnx", ort });
 * const { faces } = await ageinfer.picture(context.getImageData(0, 0, canvas.width, canvas.height));
 */
export class Ageinfer {
  private constructor();

  /**
   * Checks and opens an age model and a detector. The page must be a secure context (https, or localhost), where
   * browsers compute hashes.
   * @throws AgeError a file cannot be read, is broken or changed, or is not what it should be
   */
  static open(options: OpenOptions): Promise<Ageinfer>;

  /** What the file of the age model says of itself, see docs/reference/model-file.md. */
  readonly metadata: Record<string, any>;

  /**
   * The faces of one picture by itself.
   * @param options `source`: its name in the record; `crops`: whether the faces carry the pixels that the network was given
   * @throws TypeError the picture is neither RGB nor RGBA
   * @throws AgeError a model answers with what it must not
   */
  picture(picture: Picture, options?: { source?: string; crops?: boolean }): Promise<FrameRecord>;

  /**
   * Begins a video or a camera.
   * @param options `source`: its name in the records; `largestSide`: of a search of a whole frame, in pixels, where one
   *   search must not hold up a camera (ageinfer takes 960 for cameras)
   */
  video(options?: { source?: string; largestSide?: number }): Video;
}

/** The frames of one video or camera: every face has a track, and every track one steady age. */
export class Video {
  private constructor();

  /**
   * The faces of the next frame. Await each frame before the next one.
   * @param timeS seconds since the first frame; left out: 25 frames a second are assumed
   */
  frame(picture: Picture, timeS?: number | null): Promise<FrameRecord>;
}
