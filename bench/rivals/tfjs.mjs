// @tensorflow/tfjs-backend-wasm, one thread (its Node build has no other). Layout NHWC, as it must be. Every operator is a call into
// tfjs-core: shape checks and the allocation of the result are in its times, because nobody can have its kernels without them.
//
// It has no weight gradient of a convolution, and so no training step: both say `null` here. Of grouped convolutions it has depthwise ones, forward only.

import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { timed } from '../measure.mjs';
import { convGeometry, lenet } from '../shapes.mjs';
import { fill, fingerprint, lenetParameter, permute, product } from '../values.mjs';

const NHWC = [0, 2, 3, 1];
const HWIO = [2, 3, 1, 0];
const HWOI = [2, 3, 0, 1]; // depthwise: [height, width, channel, 1]

/** @returns {Promise<object | null>} the contestant, null where the packages are not installed */
export async function tfjs() {
  const tf = await loadTfjs();
  if (!tf) return null;
  return {
    name: 'tfjs-wasm',
    gemm: (gemm) => matMul(tf, gemm),
    conv2d: (conv, direction) => conv2d(tf, conv, direction),
    lenetInference: () => lenetInference(tf),
    lenetTrainStep: () => null,
    close() {},
  };
}

/** The CommonJS builds: the ES modules of these packages have imports that Node does not resolve. */
export async function loadTfjs() {
  const require = createRequire(import.meta.url);
  try {
    const tf = require('@tensorflow/tfjs-core');
    const wasm = require('@tensorflow/tfjs-backend-wasm');
    wasm.setWasmPaths(`${dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
    await tf.setBackend('wasm');
    await tf.ready();
    return tf;
  } catch (error) {
    if (error.code === 'MODULE_NOT_FOUND') return null;
    throw error;
  }
}

/** Its product caches a rearranged B where B does not change, so every form counts as prepacked at will. */
function matMul(tf, { form, m, n, k }) {
  const a = form === 'TN' ? tf.tensor2d(fill(m * k, 1), [k, m]) : tf.tensor2d(fill(m * k, 1), [m, k]);
  const b = form === 'NT' ? tf.tensor2d(fill(k * n, 2), [n, k]) : tf.tensor2d(fill(k * n, 2), [k, n]);
  return prepared(tf, () => tf.matMul(a, b, form === 'TN', form === 'NT'), [a, b]);
}

function conv2d(tf, conv, direction) {
  const { stride, padding, groups } = conv;
  const { x: xShape, weight: weightShape, y: yShape } = convGeometry(conv);
  if (direction === 'weightGrad' || groups > 1) return direction === 'forward' ? depthwise(tf, conv) : null;
  const pad = padding === 0 ? 'valid' : padding;
  const weight = rearranged(tf, weightShape, 2, HWIO);
  if (direction === 'forward') {
    const x = rearranged(tf, xShape, 1, NHWC);
    return prepared(tf, () => tf.conv2d(x, weight, stride, pad), [x, weight]);
  }
  const dy = rearranged(tf, yShape, 3, NHWC);
  const inputShape = NHWC.map((axis) => xShape[axis]);
  return prepared(tf, () => conv2dInputGrad(tf, inputShape, dy, weight, stride, pad), [dy, weight]);
}

function depthwise(tf, conv) {
  const { c, oc, stride, padding, groups } = conv;
  if (groups !== c || oc !== c) return null;
  const { x: xShape, weight: weightShape } = convGeometry(conv);
  const x = rearranged(tf, xShape, 1, NHWC);
  const weight = rearranged(tf, weightShape, 2, HWOI);
  return prepared(tf, () => tf.depthwiseConv2d(x, weight, stride, padding), [x, weight]);
}

/** Called as the gradient of tf.conv2d calls it: the function itself is not exported. */
function conv2dInputGrad(tf, inputShape, dy, filter, strides, pad) {
  return tf
    .engine()
    .runKernel(
      'Conv2DBackpropInput',
      { dy, filter },
      { strides, pad, dataFormat: 'NHWC', dimRoundingMode: undefined, inputShape },
    );
}

/** The shared values of a channels-first tensor, with its axes in another order. */
function rearranged(tf, shape, seed, axes) {
  return tf.tensor4d(
    permute(fill(product(shape), seed), shape, axes),
    axes.map((axis) => shape[axis]),
  );
}

function prepared(tf, work, operands) {
  return {
    sample: timed(() => work().dispose()),
    answer: () => {
      const result = work();
      const values = fingerprint(result.dataSync());
      result.dispose();
      return values;
    },
    dispose: () => tf.dispose(operands),
  };
}

function lenetInference(tf) {
  const parameters = lenet.parameters.map((shape, i) => {
    const values = lenetParameter(shape, i);
    if (shape.length === 4)
      return tf.tensor4d(
        permute(values, shape, HWIO),
        HWIO.map((axis) => shape[axis]),
      );
    return tf.tensor(values, shape);
  });
  // Flatten in channels-first order, as the weights of the first dense layer expect it.
  const [w1, b1, w2, b2, w3, b3, w4, b4, w5, b5] = parameters;
  const image = fill(28 * 28, 99);
  const logits = (x) => {
    const first = tf.avgPool(tf.sigmoid(tf.add(tf.conv2d(x, w1, 1, 2), b1)), 2, 2, 'valid');
    const second = tf.avgPool(tf.sigmoid(tf.add(tf.conv2d(first, w2, 1, 'valid'), b2)), 2, 2, 'valid');
    const flat = tf.reshape(tf.transpose(second, [0, 3, 1, 2]), [1, 400]);
    const third = tf.sigmoid(tf.add(tf.matMul(flat, w3, false, true), b3));
    const fourth = tf.sigmoid(tf.add(tf.matMul(third, w4, false, true), b4));
    return tf.add(tf.matMul(fourth, w5, false, true), b5);
  };
  const run = () => tf.tidy(() => logits(tf.tensor4d(image, [1, 28, 28, 1])).dataSync());
  return {
    sample: timed(run),
    answer: () => fingerprint(run()),
    dispose: () => tf.dispose(parameters),
  };
}
