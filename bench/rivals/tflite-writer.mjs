// Writes .tflite models in memory: float32, only the operators that the networks here need. Field numbers, operator codes and the members of unions are
// those of tensorflow/lite/schema/schema.fbs, version 3.

import { Builder } from 'flatbuffers';

const SCHEMA_VERSION = 3;
const TYPES = { float32: 0, int32: 2 };
const DATA_ALIGNMENT = 16;

// Per operator its code, and the member of the union BuiltinOptions that holds its options, with that table's size.
const OPERATORS = {
  add: { code: 0, union: 11, fields: 1 },
  averagePool: { code: 1, union: 5, fields: 6 },
  conv: { code: 3, union: 1, fields: 6 },
  depthwise: { code: 4, union: 2, fields: 7 },
  linear: { code: 9, union: 8, fields: 4 },
  sigmoid: { code: 14, union: 0, fields: 0 },
  maxPool: { code: 17, union: 5, fields: 6 },
  reshape: { code: 22, union: 17, fields: 1 },
  pad: { code: 34, union: 22, fields: 0 },
  mean: { code: 40, union: 27, fields: 1 },
};

/**
 * @param {object} model
 * @param {{ shape: number[], data?: Float32Array | Int32Array }[]} model.tensors  constants have data
 * @param {{ op: string, inputs: number[], output: number, options?: [field: number, type: 'int8' | 'int32', value: number][] }[]} model.operators
 *   inputs and output are indices of tensors
 * @param {number} model.input @param {number} model.output
 * @returns {Uint8Array}
 */
export function tfliteModel({ tensors, operators, input, output }) {
  const constantBytes = tensors.reduce((sum, { data }) => sum + (data ? data.byteLength + DATA_ALIGNMENT : 0), 0);
  const builder = new Builder(constantBytes + 512 * (tensors.length + operators.length) + 4096);
  const used = [...new Set(operators.map(({ op }) => op))];
  const buffers = [
    bufferTable(builder),
    ...tensors.filter(({ data }) => data).map(({ data }) => bufferTable(builder, data)),
  ];
  let constants = 0;
  const tensorTables = tensors.map(({ shape, data }, index) =>
    tensorTable(builder, { shape, data, buffer: data ? ++constants : 0, name: `t${index}` }),
  );
  const operatorTables = operators.map((operator) => operatorTable(builder, operator, used.indexOf(operator.op)));
  const codes = used.map((op) => {
    const { code } = OPERATORS[op];
    return table(builder, 4, [
      [0, 'int8', code],
      [2, 'int32', 1],
      [3, 'int32', code],
    ]); // the code of old readers, version, code
  });
  const graph = table(builder, 5, [
    [0, 'offset', offsets(builder, tensorTables)],
    [1, 'offset', integers(builder, [input])],
    [2, 'offset', integers(builder, [output])],
    [3, 'offset', offsets(builder, operatorTables)],
  ]);
  const model = table(builder, 8, [
    [0, 'int32', SCHEMA_VERSION],
    [1, 'offset', offsets(builder, codes)],
    [2, 'offset', offsets(builder, [graph])],
    [4, 'offset', offsets(builder, buffers)],
  ]);
  builder.finish(model, 'TFL3');
  return builder.asUint8Array();
}

function bufferTable(builder, data) {
  if (!data) return table(builder, 3, []);
  builder.prep(DATA_ALIGNMENT, data.byteLength);
  const bytes = builder.createByteVector(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return table(builder, 3, [[0, 'offset', bytes]]);
}

function tensorTable(builder, { shape, data, buffer, name }) {
  const fields = [
    [0, 'offset', integers(builder, shape)],
    [1, 'int8', data instanceof Int32Array ? TYPES.int32 : TYPES.float32],
    [2, 'int32', buffer],
    [3, 'offset', builder.createString(name)],
  ];
  return table(builder, 8, fields);
}

function operatorTable(builder, { op, inputs, output, options = [] }, code) {
  const { union, fields } = OPERATORS[op];
  const lists = [
    [0, 'int32', code],
    [1, 'offset', integers(builder, inputs)],
    [2, 'offset', integers(builder, [output])],
  ];
  if (!union) return table(builder, 9, lists);
  return table(builder, 9, [...lists, [3, 'int8', union], [4, 'offset', table(builder, fields, options)]]);
}

/** A table of so many declared fields, with the given ones set. What they point at has been written before. */
function table(builder, size, fields) {
  builder.startObject(size);
  for (const [field, type, value] of fields) {
    if (type === 'int8') builder.addFieldInt8(field, value, 0);
    else if (type === 'int32') builder.addFieldInt32(field, value, 0);
    else builder.addFieldOffset(field, value, 0);
  }
  return builder.endObject();
}

function integers(builder, values) {
  builder.startVector(4, values.length, 4);
  for (const value of [...values].reverse()) builder.addInt32(value);
  return builder.endVector();
}

function offsets(builder, values) {
  builder.startVector(4, values.length, 4);
  for (const value of [...values].reverse()) builder.addOffset(value);
  return builder.endVector();
}
