// Writes ONNX models in memory: only the fields that a float32 network needs. Field numbers are those of onnx.proto (ONNX 1.16, IR 9).

const OPSET = 17;
const FLOAT = 1;
const INT64 = 7;

/**
 * @param {object} graph
 * @param {{ op: string, inputs: string[], outputs: string[], attributes?: Record<string, number | number[]> }[]} graph.nodes  whole numbers
 *   become integer attributes
 * @param {Record<string, { shape: number[], values: Float32Array | BigInt64Array }>} graph.constants  initializers
 * @param {Record<string, number[]>} graph.inputs  name to shape
 * @param {string[]} graph.outputs
 * @returns {Uint8Array} a ModelProto
 */
export function onnxModel({ nodes, constants, inputs, outputs }) {
  const graph = [
    ...nodes.map((node) => message(1, nodeProto(node))),
    text(2, 'graph'),
    ...Object.entries(constants).map(([name, constant]) => message(5, tensorProto(name, constant))),
    ...Object.entries(inputs).map(([name, shape]) => message(11, valueInfo(name, shape))),
    ...outputs.map((name) => message(12, valueInfo(name))),
  ];
  return join([integer(1, 9), message(7, graph), message(8, [text(1, ''), integer(2, OPSET)])]);
}

function nodeProto({ op, inputs, outputs, attributes = {} }) {
  return [
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(4, op),
    ...Object.entries(attributes).map(([name, value]) => message(5, attributeProto(name, value))),
  ];
}

function attributeProto(name, value) {
  if (Array.isArray(value)) return [text(1, name), ...value.map((item) => integer(8, item)), integer(20, 7)];
  return [text(1, name), integer(3, value), integer(20, 2)];
}

function tensorProto(name, { shape, values }) {
  return [
    ...shape.map((extent) => integer(1, extent)),
    integer(2, values instanceof BigInt64Array ? INT64 : FLOAT),
    text(8, name),
    bytes(9, new Uint8Array(values.buffer, values.byteOffset, values.byteLength)),
  ];
}

function valueInfo(name, shape) {
  const dimensions =
    shape &&
    message(
      2,
      shape.map((extent) => message(1, [integer(1, extent)])),
    );
  return [text(1, name), message(2, [message(1, [integer(1, FLOAT), ...(dimensions ? [dimensions] : [])])])];
}

// The protobuf wire format: a tag (field number and wire type), then a varint (type 0) or a length and its bytes (type 2).

function integer(field, value) {
  return join([varint(field << 3), varint(value)]);
}

function bytes(field, payload) {
  return join([varint((field << 3) | 2), varint(payload.length), payload]);
}

function text(field, value) {
  return bytes(field, new TextEncoder().encode(value));
}

function message(field, parts) {
  return bytes(field, join(parts));
}

/** @param {number} value  not negative */
function varint(value) {
  const result = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) result.push((rest % 128) | 128);
  return Uint8Array.from([...result, rest]);
}

function join(parts) {
  const result = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}
