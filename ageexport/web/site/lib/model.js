// @ts-check
// Model files: whether an age model is what it says, and a YuNet that takes pictures of any size
// (ageinfer/engine/modelfile.py and ageinfer/detect/yunet.py).

import { AgeError } from "./errors.js";
import { checkGraph } from "./graph.js";
import { readMetadata } from "./metadata.js";
import { descend, fields, readVarint } from "./protobuf.js";
import { sha256 } from "./sha256.js";

const METADATA_KEY = "ageinfer"; // = engine.modelfile.METADATA_KEY
const GRAPH_FIELD = 7; // = engine.modelfile._GRAPH_FIELD
const METADATA_FIELD = 14; // = engine.modelfile._METADATA_FIELD
const LARGEST_BYTES = 1073741824; // = engine.modelfile._LARGEST_BYTES
const LARGEST_METADATA = 1048576; // = engine.modelfile._LARGEST_METADATA
const MOST_PROPERTIES = 1000; // = engine.modelfile._MOST_PROPERTIES

/**
 * The bytes of a model, from an address or as they are.
 * @param {string | URL | ArrayBuffer | Uint8Array} source
 * @returns {Promise<Uint8Array>}
 */
export async function readModel(source) {
  let data;
  if (source instanceof Uint8Array) data = source;
  else if (source instanceof ArrayBuffer) data = new Uint8Array(source);
  else {
    const answer = await fetch(source).catch((error) => {
      throw new AgeError(`${source}: cannot read the model: ${error.message}`);
    });
    if (!answer.ok) throw new AgeError(`${source}: cannot read the model: status ${answer.status}; check the address`);
    data = new Uint8Array(await answer.arrayBuffer());
  }
  if (data.length === 0) throw new AgeError("the model file is empty; fetch or export it again");
  if (data.length > LARGEST_BYTES) throw new AgeError("the model file is larger than any model; give another file");
  return data;
}

/**
 * Decides whether the bytes of a file are an age model that this library may use.
 * @param {Uint8Array} model
 * @returns {Promise<Record<string, any>>} its metadata, as docs/reference/model-file.md describes them
 * @throws {AgeError} they are not ONNX, carry no metadata of this project or of another version, or were changed
 */
export async function checkAgeModel(model) {
  if (crypto.subtle === undefined) {
    throw new AgeError("this page cannot check the model, because it is no secure context; serve it by https or on localhost");
  }
  let properties, graph;
  try {
    properties = metadataProperties(model);
    graph = onlyGraph(model);
  } catch (error) {
    throw new AgeError(`not an ONNX model (${message(error)}); give a file written by ageexport`);
  }
  const json = properties.get(METADATA_KEY);
  if (json === undefined) {
    throw new AgeError(
      "an ONNX model, but it does not say how to crop faces for it and what it answers; give a file written by ageexport",
    );
  }
  if (json.length > LARGEST_METADATA) throw new AgeError(`its metadata have more than ${LARGEST_METADATA} characters`);
  let metadata;
  try {
    metadata = await readMetadata(json);
  } catch (error) {
    throw new AgeError(`${message(error)}; export it again with this release`);
  }
  const actual = await sha256(graph);
  if (metadata.graph_sha256 !== actual) {
    throw new AgeError(
      `its graph or weights were changed after the export (SHA-256 ${actual.slice(0, 12)}, ` +
        `expected ${metadata.graph_sha256.slice(0, 12)}); fetch or export it again`,
    );
  }
  try {
    checkGraph(model);
  } catch (error) {
    throw new AgeError(`${message(error)}; give a file written by ageexport`);
  }
  return metadata;
}

/**
 * The `metadata_props` of an ONNX file.
 * @param {Uint8Array} model
 */
function metadataProperties(model) {
  const text = new TextDecoder("utf-8", { fatal: true });
  const properties = new Map();
  let count = 0;
  for (const entry of descend(model, METADATA_FIELD)) {
    if (count++ === MOST_PROPERTIES) throw new RangeError(`more than ${MOST_PROPERTIES} entries of metadata`);
    const pair = new Map();
    for (const { number, start, end } of fields(model, entry.start, entry.end)) {
      pair.set(number, text.decode(model.subarray(start, end)));
    }
    properties.set(pair.get(1) ?? "", pair.get(2) ?? "");
  }
  return properties;
}

/**
 * The serialised graph of an ONNX file: nodes and every initialiser, metadata left out.
 * @param {Uint8Array} model
 */
function onlyGraph(model) {
  const graphs = [...descend(model, GRAPH_FIELD)];
  if (graphs.length !== 1) throw new RangeError("no graph in it");
  return model.subarray(graphs[0].start, graphs[0].end);
}

/**
 * A YuNet that takes pictures of any size.
 *
 * Published files fix their input at 640 x 640 pixels, although nothing in them depends on it. A dimension is
 * overwritten by a name of the same encoded length, so no length field of the file changes.
 * @param {Uint8Array} model
 * @returns {Uint8Array} a changed copy
 * @throws {AgeError} the file is not an ONNX file, or its graph may not be used
 */
export function withFreeSize(model) {
  const edited = model.slice();
  try {
    for (const role of [11, 12]) { // graph.input, graph.output
      let axis = 0;
      // graph, value, type, tensor type, shape, dimension, and in it the fixed extent
      for (const field of descend(model, 7, role, 2, 1, 2, 1, 1)) {
        const [extent] = readVarint(model, field.start);
        if (extent > 10) { // not the batch, the colours, or the values of a box or landmark
          const room = field.end - field.start - 1;
          const name = room ? `${role}${axis}`.slice(-room) : "";
          edited.set([0x12, name.length, ...new TextEncoder().encode(name)], field.start - 1);
        }
        axis++;
      }
    }
    checkGraph(model, false);
  } catch (error) {
    throw new AgeError(`this is not a usable ONNX file (${message(error)}); give a YuNet 2023mar ONNX file`);
  }
  return edited;
}

/** @param {unknown} error */
function message(error) {
  return error instanceof Error ? error.message : String(error);
}
