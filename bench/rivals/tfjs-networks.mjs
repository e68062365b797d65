// tfjs-wasm on whole networks: what its converter makes of them, fused operators with BatchNorm folded and constant weights laid out beforehand,
// called one after the other. From an array of pixels (NHWC, as it must be) to an array of logits.

import { timed } from '../measure.mjs';
import { folded, network } from '../networks.mjs';
import { permute } from '../values.mjs';
import { images } from '../weights.mjs';
import { denseChannelsLast } from './channels-last.mjs';
import { loadTfjs } from './tfjs.mjs';

export async function start() {
  const tf = await loadTfjs();
  if (!tf) return null;
  return { version: tf.version_core, prepare: ({ network: name, batch }) => prepare(tf, name, batch) };
}

function prepare(tf, name, batch) {
  const { input, layers } = folded(network(name));
  const steps = layers.map((layer, index) => ({ ...layer, ...tensors(tf, layers, index) }));
  const [c, h, w] = input;
  const pixels = permute(images(batch, input), [batch, c, h, w], [0, 2, 3, 1]);
  const run = () =>
    tf.tidy(() => {
      const results = [];
      const x = tf.tensor4d(pixels, [batch, h, w, c]);
      const at = (index) => (index < 0 ? x : results[index]);
      for (const step of steps) results.push(OPERATORS[step.op](tf, step, step.inputs.map(at)));
      return results.at(-1).dataSync();
    });
  return {
    sample: timed(run),
    answer: () => [...run()],
  };
}

function tensors(tf, layers, index) {
  const { op, weight, weightShape, biasValues, groups } = layers[index];
  if (!weight) return {};
  const bias = tf.tensor1d(biasValues);
  if (op === 'linear') {
    const [out, features] = weightShape;
    const values = permute(denseChannelsLast(layers, index), [out, features, 1, 1], [1, 0, 2, 3]);
    return { filter: tf.tensor2d(values, [features, out]), bias };
  }
  const axes = groups > 1 ? [2, 3, 0, 1] : [2, 3, 1, 0]; // depthwise: [height, width, channel, 1]
  const filter = tf.tensor4d(
    permute(weight, weightShape, axes),
    axes.map((axis) => weightShape[axis]),
  );
  return { filter, bias };
}

const OPERATORS = {
  conv: (tf, { filter, bias, stride, padding, groups, activation }, [x]) => {
    const convolution = groups > 1 ? tf.fused.depthwiseConv2d : tf.fused.conv2d;
    const pad = padding === 0 ? 'valid' : padding;
    return convolution({ x, filter, bias, strides: stride, pad, activation: activation ?? 'linear' });
  },
  linear: (tf, { filter, bias, activation }, [a]) =>
    tf.fused.matMul({ a, b: filter, bias, activation: activation ?? 'linear' }),
  maxPool: (tf, { kernel, stride, padding }, [x]) => tf.maxPool(x, kernel, stride, padding || 'valid'),
  averagePool: (tf, { kernel, stride }, [x]) => tf.avgPool(x, kernel, stride, 'valid'),
  globalAveragePool: (tf, _, [x]) => tf.mean(x, [1, 2]),
  flatten: (tf, { shape }, [x]) => tf.reshape(x, [x.shape[0], shape[0]]),
  sigmoid: (tf, _, [x]) => tf.sigmoid(x),
  add: (tf, { activation }, [a, b]) => (activation === 'relu' ? tf.relu(tf.add(a, b)) : tf.add(a, b)),
};
