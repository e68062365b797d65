// onnxruntime-web, wasm provider, one thread. Inference only: it has no gradients.
//
// Single operators are measured as kernels. Their operands are constants of the model, so nothing is copied in; the operator stands in the
// model as often as it takes to make the cost of a `session.run` small; of each result a few elements are copied out. Graph optimisation is
// off there, for it would compute constants when loading; one operator leaves it nothing else to do. LeNet is run as users run it.

import { timedAsync } from '../measure.mjs';
import { convGeometry, gemmFlops, lenet } from '../shapes.mjs';
import { fill, fingerprint, lenetParameter, product } from '../values.mjs';
import { onnxModel } from './onnx-writer.mjs';

const FLOPS_PER_RUN = 60e6;
const MAXIMUM_COPIES = 200;

/** @returns {Promise<object | null>} the contestant, null where the package is not installed */
export async function onnxruntime() {
  const ort = await import('onnxruntime-web/wasm').catch(() => null);
  if (!ort) return null;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = 'error';
  return {
    name: 'onnxruntime-web',
    gemm: (gemm) => kernel(ort, gemmOperator(gemm), gemmFlops(gemm)),
    conv2d: (conv, direction) =>
      direction === 'forward' ? kernel(ort, convOperator(conv), convGeometry(conv).flops) : null,
    lenetInference: () => lenetInference(ort),
    lenetTrainStep: () => null,
    close() {},
  };
}

async function kernel(ort, { op, attributes, operands, computed = [] }, flops) {
  const copies = Math.min(MAXIMUM_COPIES, Math.max(1, Math.ceil(FLOPS_PER_RUN / flops)));
  const model = repeated({ op, attributes, operands, computed }, copies);
  const session = await ort.InferenceSession.create(onnxModel(model), {
    executionProviders: ['wasm'],
    graphOptimizationLevel: 'disabled',
  });
  const run = timedAsync(() => session.run({}, ['probe']));
  return {
    sample: async (repetitions) =>
      (await run(Math.ceil(repetitions / copies))) * (repetitions / copies / Math.ceil(repetitions / copies)),
    answer: async () => fingerprint((await session.run({}, ['y0'])).y0.data),
    dispose: () => session.release(),
  };
}

/** The model `y0 = y1 = ... = op(operands)`, with `probe` = the first element of each matrix in each. */
function repeated({ op, attributes, operands, computed }, copies) {
  const names = Object.keys(operands);
  const inputs = names.map((name) => (computed.includes(name) ? `${name}_computed` : name));
  const indices = Array.from({ length: copies }, (_, i) => i);
  const nodes = [
    ...computed.map((name) => ({ op: 'Identity', inputs: [name], outputs: [`${name}_computed`] })),
    ...indices.flatMap((i) => [
      { op, attributes, inputs, outputs: [`y${i}`] },
      { op: 'Slice', inputs: [`y${i}`, 'starts', 'ends', 'axes'], outputs: [`probe${i}`] },
    ]),
    { op: 'Concat', attributes: { axis: 0 }, inputs: indices.map((i) => `probe${i}`), outputs: ['probe'] },
  ];
  const pair = (a, b) => ({ shape: [2], values: BigInt64Array.of(a, b) });
  const constants = { ...operands, starts: pair(0n, 0n), ends: pair(1n, 1n), axes: pair(-2n, -1n) };
  return { nodes, constants, inputs: {}, outputs: ['probe', 'y0'] };
}

/** Products with a transposed operand are Gemm; a B that must not be rearranged beforehand is hidden behind Identity. */
function gemmOperator({ form, m, n, k }) {
  const operands = {
    a: { shape: form === 'TN' ? [k, m] : [m, k], values: fill(m * k, 1) },
    b: { shape: form === 'NT' ? [n, k] : [k, n], values: fill(k * n, 2) },
  };
  const computed = form === 'NN prepacked' ? [] : ['b'];
  if (form === 'NT') return { op: 'Gemm', attributes: { transB: 1 }, operands, computed };
  if (form === 'TN') return { op: 'Gemm', attributes: { transA: 1 }, operands, computed };
  return { op: 'MatMul', attributes: {}, operands, computed };
}

function convOperator(conv) {
  const { x, weight } = convGeometry(conv);
  const { kh, kw, stride, padding, groups } = conv;
  return {
    op: 'Conv',
    attributes: {
      kernel_shape: [kh, kw],
      strides: [stride, stride],
      pads: [padding, padding, padding, padding],
      group: groups,
    },
    operands: { x: { shape: x, values: fill(product(x), 1) }, w: { shape: weight, values: fill(product(weight), 2) } },
  };
}

async function lenetInference(ort) {
  const session = await ort.InferenceSession.create(onnxModel(lenetGraph()), {
    executionProviders: ['wasm'],
    graphOptimizationLevel: 'all',
  });
  const feeds = { x: new ort.Tensor('float32', fill(28 * 28, 99), [1, 1, 28, 28]) };
  return {
    sample: timedAsync(() => session.run(feeds)),
    answer: async () => fingerprint((await session.run(feeds)).logits.data),
    dispose: () => session.release(),
  };
}

function lenetGraph() {
  const constants = {};
  lenet.parameters.forEach((shape, i) => {
    constants[`p${i}`] = { shape, values: lenetParameter(shape, i) };
  });
  const pool = { op: lenet.pool, attributes: { kernel_shape: [2, 2], strides: [2, 2] } };
  const layers = [
    { op: 'Conv', attributes: { kernel_shape: [5, 5], pads: [2, 2, 2, 2] }, parameters: ['p0', 'p1'] },
    { op: lenet.activation },
    pool,
    { op: 'Conv', attributes: { kernel_shape: [5, 5] }, parameters: ['p2', 'p3'] },
    { op: lenet.activation },
    pool,
    { op: 'Flatten' },
    { op: 'Gemm', attributes: { transB: 1 }, parameters: ['p4', 'p5'] },
    { op: lenet.activation },
    { op: 'Gemm', attributes: { transB: 1 }, parameters: ['p6', 'p7'] },
    { op: lenet.activation },
    { op: 'Gemm', attributes: { transB: 1 }, parameters: ['p8', 'p9'] },
  ];
  const nodes = layers.map(({ op, attributes = {}, parameters = [] }, i) => ({
    op,
    attributes,
    inputs: [i === 0 ? 'x' : `t${i - 1}`, ...parameters],
    outputs: [i === layers.length - 1 ? 'logits' : `t${i}`],
  }));
  return { nodes, constants, inputs: { x: [1, 1, 28, 28] }, outputs: ['logits'] };
}
