// One process of start.mjs: node first-result.mjs feathermap|onnxruntime-web|nothing prints the milliseconds from the import of the library to
// the first result of a 3x3 convolution, 16 to 16 channels on 32x32, from and to JavaScript arrays; ours as three: import, init, convolution.
// `nothing` imports a small module and does nothing: what an import costs at least.

import { fill } from './values.mjs';

const X = [1, 16, 32, 32];
const WEIGHT = [16, 16, 3, 3];
const pixels = fill(16 * 32 * 32, 1);
const weights = fill(16 * 16 * 9, 2);

const FIRST_RESULTS = { feathermap, 'onnxruntime-web': onnxruntime, nothing };
console.log(JSON.stringify([await FIRST_RESULTS[process.argv[2]]()].flat()));
process.exit(0);

async function feathermap() {
  const start = performance.now();
  const { conv2d, init, tensor } = await import('feathermap');
  const imported = performance.now();
  await init();
  const ready = performance.now();
  conv2d(tensor(pixels, { shape: X }), tensor(weights, { shape: WEIGHT }), null, { padding: 1 }).data();
  return [imported - start, ready - imported, performance.now() - ready];
}

async function nothing() {
  const start = performance.now();
  await import('./shapes.mjs');
  return performance.now() - start;
}

async function onnxruntime() {
  const { onnxModel } = await import('./rivals/onnx-writer.mjs');
  const conv = { kernel_shape: [3, 3], pads: [1, 1, 1, 1] };
  const model = onnxModel({
    nodes: [{ op: 'Conv', attributes: conv, inputs: ['x', 'w'], outputs: ['y'] }],
    constants: { w: { shape: WEIGHT, values: weights } },
    inputs: { x: X },
    outputs: ['y'],
  });
  const { runFirst } = await import('./rivals/onnxruntime-first.mjs');
  return runFirst(model, pixels, X);
}
