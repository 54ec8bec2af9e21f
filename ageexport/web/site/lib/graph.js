// @ts-check
// What the graph of an ONNX file may hold before onnxruntime-web opens it (ageinfer/engine/graph.py).

import { children, descend, fields, readVarint } from "./protobuf.js";

// Numbers of fields, from onnx.proto.
const GRAPH = 7; // = engine.graph._GRAPH
const FUNCTION = 25; // = engine.graph._FUNCTION
const NODE = 1; // = engine.graph._NODE
const INITIALIZER = 5; // = engine.graph._INITIALIZER
const SPARSE_INITIALIZER = 15; // = engine.graph._SPARSE_INITIALIZER
const OPERATOR = 4; // = engine.graph._OPERATOR
const ATTRIBUTE = 5; // = engine.graph._ATTRIBUTE
const DOMAIN = 7; // = engine.graph._DOMAIN
const SUBGRAPHS = [6, 11]; // = engine.graph._SUBGRAPHS
const TENSORS = [5, 10]; // = engine.graph._TENSORS
const SPARSE_TENSORS = [22, 23]; // = engine.graph._SPARSE_TENSORS
const EXTERNAL_DATA = 13; // = engine.graph._EXTERNAL_DATA
const DATA_LOCATION = 14; // = engine.graph._DATA_LOCATION
const VALUES_AND_INDICES = [1, 2]; // = engine.graph._VALUES_AND_INDICES
const STANDARD = ["", "ai.onnx"]; // = engine.graph._STANDARD
const MOST_PARTS = 100000; // = engine.graph._MOST_PARTS

/**
 * Checks that a graph has all its weights in the file, no part that may run for ever, and not too many parts.
 * @param {Uint8Array} model the bytes of an ONNX file
 * @param {boolean} standardOnly whether operators outside of the standard ONNX domain are refused, too
 * @throws {RangeError} the graph may not be used, or the bytes are not an ONNX file
 */
export function checkGraph(model, standardOnly = true) {
  let count = 0;
  for (const _ of parts(model)) {
    if (++count > MOST_PARTS) throw new RangeError(`its graph has more than ${MOST_PARTS} parts, which no age model has`);
  }
  for (const _ of descend(model, FUNCTION)) {
    throw new RangeError("it defines operators of its own, which may not be used");
  }
  for (const node of descend(model, GRAPH, NODE)) checkNode(model, node, standardOnly);
  for (const tensor of constants(model)) {
    for (const field of fields(model, tensor.start, tensor.end)) {
      const elsewhere = field.number === DATA_LOCATION && readVarint(model, field.start)[0] !== 0;
      if (field.number === EXTERNAL_DATA || elsewhere) {
        throw new RangeError("some of its weights lie outside of the file, where no hash covers them");
      }
    }
  }
}

/**
 * Yields the fields of a model, of its graph and of its nodes.
 * @param {Uint8Array} model
 */
function* parts(model) {
  yield* fields(model);
  for (const graph of descend(model, GRAPH)) {
    for (const field of fields(model, graph.start, graph.end)) {
      yield field;
      if (field.number === NODE) yield* fields(model, field.start, field.end);
    }
  }
}

/**
 * @param {Uint8Array} model
 * @param {import("./protobuf.js").Field} node
 * @param {boolean} standardOnly
 */
function checkNode(model, node, standardOnly) {
  let operator = "";
  let domain = "";
  for (const field of fields(model, node.start, node.end)) {
    if (field.number === OPERATOR) operator = text(model, field);
    else if (field.number === DOMAIN) domain = text(model, field);
  }
  if (standardOnly && !STANDARD.includes(domain)) {
    throw new RangeError(`its operator ${operator} is not one of the ONNX standard (domain ${domain})`);
  }
  for (const attribute of children(model, node, ATTRIBUTE)) {
    for (const _ of children(model, attribute, ...SUBGRAPHS)) {
      throw new RangeError(`its operator ${operator} holds a graph of its own, which may run for ever`);
    }
  }
}

/**
 * Yields all tensors that are stored in a model without subgraphs.
 * @param {Uint8Array} model
 */
function* constants(model) {
  for (const graph of descend(model, GRAPH)) {
    yield* children(model, graph, INITIALIZER);
    for (const sparse of children(model, graph, SPARSE_INITIALIZER)) yield* children(model, sparse, ...VALUES_AND_INDICES);
  }
  for (const attribute of descend(model, GRAPH, NODE, ATTRIBUTE)) {
    yield* children(model, attribute, ...TENSORS);
    for (const sparse of children(model, attribute, ...SPARSE_TENSORS)) yield* children(model, sparse, ...VALUES_AND_INDICES);
  }
}

/**
 * @param {Uint8Array} model
 * @param {import("./protobuf.js").Field} field
 */
function text(model, field) {
  return new TextDecoder().decode(model.subarray(field.start, Math.min(field.end, field.start + 60)));
}
