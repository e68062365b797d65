// A network as a .tflite model: channels-last, BatchNorm folded, activations fused, as converters to that format write it.

import { permute } from '../values.mjs';
import { denseChannelsLast } from './channels-last.mjs';
import { tfliteModel } from './tflite-writer.mjs';

const SAME = 0;
const VALID = 1;
const ACTIVATIONS = { relu: 1, relu6: 3 };

/**
 * @param {{ input: number[], layers: object[] }} folded  see `folded` in ../networks.mjs
 * @param {number} batch
 * @returns {Uint8Array}
 */
export function tfliteNetwork({ input, layers }, batch) {
  const graph = new Graph(batch, input);
  const results = [];
  const at = (index) => (index < 0 ? graph.input : results[index]);
  layers.forEach((layer, index) => {
    results.push(OPERATORS[layer.op](graph, layer, layer.inputs.map(at), () => denseChannelsLast(layers, index)));
  });
  return tfliteModel({ ...graph, output: results.at(-1) });
}

class Graph {
  tensors = [];
  operators = [];

  constructor(batch, input) {
    this.batch = batch;
    this.input = this.tensor([batch, ...channelsLast(input)]);
  }

  tensor(shape, data) {
    this.tensors.push({ shape, data });
    return this.tensors.length - 1;
  }

  /** @returns {number} the tensor that holds its result; `shape` is that of one image, channels first */
  operator(op, inputs, shape, options) {
    const output = this.tensor([this.batch, ...channelsLast(shape)]);
    this.operators.push({ op, inputs, output, options });
    return output;
  }

  /** Zeros around height and width, where `SAME`, which pads less at the top and left when the stride is 2, does not say the same. */
  padded(x, { stride, padding, kernel }) {
    if (padding === 0) return { from: x, mode: VALID };
    if (stride === 1 && 2 * padding === kernel - 1) return { from: x, mode: SAME };
    const [, height, width, channels] = this.tensors[x].shape;
    const amounts = this.tensor([4, 2], Int32Array.of(0, 0, padding, padding, padding, padding, 0, 0));
    const shape = [channels, height + 2 * padding, width + 2 * padding];
    return { from: this.operator('pad', [x, amounts], shape), mode: VALID };
  }
}

const channelsLast = (shape) => (shape.length === 3 ? [shape[1], shape[2], shape[0]] : shape);

const OPERATORS = { conv, linear, maxPool: pool, averagePool: pool, globalAveragePool, flatten, sigmoid, add };

function conv(graph, layer, [x]) {
  const { weight, weightShape, biasValues, groups, stride, oc, shape, activation } = layer;
  const { from, mode } = graph.padded(x, layer);
  const axes = groups > 1 ? [1, 2, 3, 0] : [0, 2, 3, 1];
  const filter = graph.tensor(
    axes.map((axis) => weightShape[axis]),
    permute(weight, weightShape, axes),
  );
  const inputs = [from, filter, graph.tensor([oc], biasValues)];
  const options = [
    [0, 'int8', mode],
    [1, 'int32', stride],
    [2, 'int32', stride],
  ];
  const fused = ACTIVATIONS[activation] ?? 0;
  if (groups === 1) return graph.operator('conv', inputs, shape, [...options, [3, 'int8', fused]]);
  return graph.operator('depthwise', inputs, shape, [...options, [3, 'int32', 1], [4, 'int8', fused]]);
}

function linear(graph, { weightShape, biasValues, oc, shape, activation }, [x], weight) {
  const inputs = [x, graph.tensor(weightShape, weight()), graph.tensor([oc], biasValues)];
  return graph.operator('linear', inputs, shape, [[0, 'int8', ACTIVATIONS[activation] ?? 0]]);
}

/** Maxima are taken of what ReLU left, so that zeros may stand around it. */
function pool(graph, layer, [x]) {
  const { op, kernel, stride, shape } = layer;
  const { from, mode } = graph.padded(x, layer);
  return graph.operator(op, [from], shape, [
    [0, 'int8', mode],
    [1, 'int32', stride],
    [2, 'int32', stride],
    [3, 'int32', kernel],
    [4, 'int32', kernel],
  ]);
}

function globalAveragePool(graph, { shape }, [x]) {
  return graph.operator('mean', [x, graph.tensor([2], Int32Array.of(1, 2))], shape, [[0, 'int8', 1]]); // keeps both dimensions
}

function flatten(graph, { shape }, [x]) {
  return graph.operator('reshape', [x, graph.tensor([2], Int32Array.of(graph.batch, ...shape))], shape);
}

function sigmoid(graph, { shape }, [x]) {
  return graph.operator('sigmoid', [x], shape);
}

function add(graph, { shape, activation }, inputs) {
  return graph.operator('add', inputs, shape, [[0, 'int8', ACTIVATIONS[activation] ?? 0]]);
}
