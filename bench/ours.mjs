// feathermap as a contestant. Single operators are captured and replayed (kernels.mjs); LeNet goes through the public API, as users write it.

import { kernelAccess } from './kernels.mjs';
import { timed } from './measure.mjs';
import { acceptsRelaxed } from './peak/loops.mjs';
import { convGeometry, gemmFlops, lenet as textbook } from './shapes.mjs';
import { fill, fingerprint, labels, lenetParameter, product } from './values.mjs';

const FLOPS_PER_RUN = 4e6; // 0.1 ms: a hundred times what starting a program costs

/** @returns {Promise<object | null>} the contestant, null while the package is not built */
export async function feathermap({ build = 'auto' } = {}) {
  const f = await load();
  if (!f) return null;
  await f.init({ threads: 1, build });
  const kernels = await kernelAccess();
  return {
    name: 'feathermap',
    build: build !== 'auto' ? build : acceptsRelaxed() ? 'relaxed' : 'simd',
    gemm: (gemm) => kernels && matmul(f, kernels, gemm),
    conv2d: (conv, direction) => kernels && conv2d(f, kernels, conv, direction),
    lenetInference: () => lenetInference(f),
    lenetTrainStep: (batch) => lenetTrainStep(f, batch),
    close: () => f.shutdown(),
  };
}

async function load() {
  try {
    const core = await import('feathermap');
    return { ...core, F: await import('feathermap/functional'), ...(await import('feathermap/models')) };
  } catch (error) {
    if (error.code === 'ERR_MODULE_NOT_FOUND' || error.code === 'ERR_PACKAGE_PATH_NOT_EXPORTED') return null;
    throw error;
  }
}

function matmul(f, kernels, { form, m, n, k }) {
  const a = f.keep(f.tensor(fill(m * k, 1), { shape: form === 'TN' ? [k, m] : [m, k] }));
  const b = f.keep(f.tensor(fill(k * n, 2), { shape: form === 'NT' ? [n, k] : [k, n] }));
  const left = (tensor) => (form === 'TN' ? tensor.transpose(0, 1) : tensor);
  const right = (tensor) => (form === 'NT' ? tensor.transpose(0, 1) : tensor);
  const prepacked = form === 'NN prepacked';
  const work = prepacked
    ? { inputs: [a], call: (x) => x.matmul(b) }
    : { inputs: [a, b], call: (x, y) => left(x).matmul(right(y)) };
  return prepared(f, kernels, work, gemmFlops({ m, n, k }), [a, b]);
}

/** Activations lie channels-last, as they do between the layers of a network; the weight of the forward direction is a constant. */
function conv2d(f, kernels, conv, direction) {
  const { stride, padding, groups } = conv;
  const { x: xShape, weight: weightShape, y: yShape, flops } = convGeometry(conv);
  const make = (shape, seed) =>
    f.scope(() => f.keep(kernels.channelsLast(f.tensor(fill(product(shape), seed), { shape }))));
  const x = make(xShape, 1);
  const weight = make(weightShape, 2);
  const dy = make(yShape, 3);
  const options = { stride, padding, groups };
  const geometry = kernels.conv2dGeometry(x, weight, null, options);
  const works = {
    forward: { inputs: [x], call: (input) => f.F.conv2d(input, weight, null, options) },
    inputGrad: { inputs: [dy, weight], call: (gradient, w) => kernels.conv2dInputGrad(gradient, w, geometry) },
    weightGrad: {
      inputs: [x, dy],
      call: (input, gradient) => kernels.conv2dWeightGrad(input, gradient, geometry),
    },
  };
  return prepared(f, kernels, works[direction], flops, [x, weight, dy]);
}

function prepared(f, kernels, work, flops, operands) {
  const copies = Math.max(1, Math.ceil(FLOPS_PER_RUN / flops));
  const program = kernels.replay({ ...work, copies });
  const run = timed(() => program.run().dispose());
  return {
    sample: (repetitions) =>
      (run(Math.ceil(repetitions / copies)) * (repetitions / copies)) / Math.ceil(repetitions / copies),
    answer: () => f.scope(() => fingerprint(program.run().data())),
    dispose: () => {
      program.dispose();
      for (const operand of operands) operand.dispose();
    },
  };
}

function textbookNetwork(f) {
  const net = f.lenet();
  const entries = [...net.namedParameters()].map(([name], i) => {
    const shape = textbook.parameters[i];
    return [name, f.tensor(lenetParameter(shape, i), { shape })];
  });
  net.loadStateDict(Object.fromEntries(entries));
  return net;
}

/** From an array of pixels to an array of logits. */
function lenetInference(f) {
  const net = textbookNetwork(f);
  net.eval();
  const compiled = f.compile(net, { input: [1, 1, 28, 28] });
  const image = fill(28 * 28, 99);
  const run = () => f.scope(() => compiled(f.tensor(image, { shape: [1, 1, 28, 28] })).data());
  return { sample: timed(run), answer: () => fingerprint(run()), dispose: () => compiled.dispose() };
}

/** Forward, backward and update as one captured step; the answer is the loss of the first. */
function lenetTrainStep(f, batch) {
  const net = textbookNetwork(f);
  const optimizer = new f.optim.SGD(net.parameters(), { lr: textbook.learningRate });
  const step = f.captureStep((x, y) => f.F.crossEntropy(net.forward(x), y), { optimizer });
  const x = f.keep(f.tensor(fill(batch * 28 * 28, 99), { shape: [batch, 1, 28, 28] }));
  const y = f.keep(f.tensor(labels(batch, 10)));
  return {
    sample: timed(() => f.scope(() => step(x, y))),
    answer: () => f.scope(() => fingerprint([step(x, y).item()])),
    dispose: () => {
      step.dispose?.();
      x.dispose();
      y.dispose();
    },
  };
}
