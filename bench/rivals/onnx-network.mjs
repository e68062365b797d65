// A network as an ONNX model with BatchNorm folded, as exporters write it for inference.

import { onnxModel } from './onnx-writer.mjs';

/**
 * @param {{ input: number[], layers: object[] }} folded  see `folded` in ../networks.mjs
 * @param {number} batch
 * @returns {Uint8Array} a model from `x` to `y`
 */
export function onnxNetwork({ input, layers }, batch) {
  const nodes = [];
  const constants = {
    zero: { shape: [], values: Float32Array.of(0) },
    six: { shape: [], values: Float32Array.of(6) },
  };
  const nameOf = (index) => (index < 0 ? 'x' : index === layers.length - 1 ? 'y' : `t${index}`);
  layers.forEach((layer, index) => {
    const { op, inputs, activation } = layer;
    const result = nameOf(index);
    const before = activation ? `${result}_unclamped` : result;
    const parameters = [];
    if (layer.weight) {
      parameters.push(`${layer.name}.weight`, `${layer.name}.bias`);
      constants[parameters[0]] = { shape: layer.weightShape, values: layer.weight };
      constants[parameters[1]] = { shape: [layer.oc], values: layer.biasValues };
    }
    nodes.push({ ...OPERATORS[op](layer), inputs: [...inputs.map(nameOf), ...parameters], outputs: [before] });
    if (activation === 'relu') nodes.push({ op: 'Relu', inputs: [before], outputs: [result] });
    if (activation === 'relu6') nodes.push({ op: 'Clip', inputs: [before, 'zero', 'six'], outputs: [result] });
  });
  return onnxModel({ nodes, constants, inputs: { x: [batch, ...input] }, outputs: ['y'] });
}

const OPERATORS = {
  conv: ({ kernel, stride, padding, groups }) => ({
    op: 'Conv',
    attributes: {
      kernel_shape: [kernel, kernel],
      strides: [stride, stride],
      pads: new Array(4).fill(padding),
      group: groups,
    },
  }),
  linear: () => ({ op: 'Gemm', attributes: { transB: 1 } }),
  maxPool: (layer) => pool('MaxPool', layer),
  averagePool: (layer) => pool('AveragePool', layer),
  globalAveragePool: () => ({ op: 'GlobalAveragePool' }),
  flatten: () => ({ op: 'Flatten' }),
  sigmoid: () => ({ op: 'Sigmoid' }),
  add: () => ({ op: 'Add' }),
};

function pool(op, { kernel, stride, padding }) {
  return {
    op,
    attributes: { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: new Array(4).fill(padding) },
  };
}
