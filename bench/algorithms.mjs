// node bench/algorithms.mjs: every algorithm of convolutions beside the others and the machine's peak, on one thread. The costs in
// ts/ops/conv2d-algorithm.ts were fitted to this.
//
//   node bench/algorithms.mjs [--build auto|simd|relaxed] [--batch 1,8] [--layers 64x56,64-192x27x5] [--direction forward,inputGrad,weightGrad]
//
// A layer is channels x side, or channels-outputs x side x kernel. `forward` has constant weights, transformed beforehand, in the other directions everything changes.
// Shares are of the time that the direct algorithm takes at the 128-bit peak: above 100 % an algorithm saves work.

import { parseArgs } from 'node:util';
import { kernelAccess } from './kernels.mjs';
import { compare, timed } from './measure.mjs';
import { measurePeak } from './peak.mjs';
import { fill, product } from './values.mjs';

const { values: options } = parseArgs({
  options: {
    build: { type: 'string', default: 'auto' },
    batch: { type: 'string', default: '1,8' },
    layers: { type: 'string', default: '64x56,128x28,256x14,512x7,64x112,128x56,256x28,512x14' },
    direction: { type: 'string', default: 'forward,inputGrad,weightGrad' },
  },
});

const FLOPS_PER_RUN = 4e6; // 0.1 ms: a hundred times what starting a program costs
const ALGORITHMS = { weightGrad: ['direct', 'winograd4'] };
const EFFORT = { rounds: 25, minimumRounds: 9, warmUpSeconds: 0.1, budgetSeconds: 4 };

const f = await import('feathermap');
const F = await import('feathermap/functional');
await f.init({ threads: 1, build: options.build });
const kernels = await kernelAccess();
const peak = await measurePeak(options.build);

console.log(
  `${process.version}: peak ${(peak.fma ?? peak.mulAdd).toFixed(1)} GFLOP/s; ms and share of direct at the peak`,
);
for (const direction of options.direction.split(','))
  for (const batch of options.batch.split(',').map(Number))
    for (const layer of options.layers.split(',')) {
      const [ends, side, kernel = 3] = layer.split('x');
      const [channels, outputs = channels] = ends.split('-').map(Number);
      console.log(await measure(direction, batch, { channels, outputs, side: Number(side), kernel: Number(kernel) }));
    }
await f.shutdown();

async function measure(direction, batch, { channels, outputs, side, kernel }) {
  const make = (shape, seed) =>
    f.scope(() => f.keep(kernels.channelsLast(f.tensor(fill(product(shape), seed), { shape }))));
  const x = make([batch, channels, side, side], 1);
  const dy = make([batch, outputs, side, side], 2);
  const weight = make([outputs, channels, kernel, kernel], 3);
  const padding = (kernel - 1) / 2;
  const geometry = kernels.conv2dGeometry(x, weight, null, { padding });
  const works = {
    forward: { inputs: [x], call: (input) => F.conv2d(input, weight, null, { padding }) },
    inputGrad: { inputs: [dy, weight], call: (gradient, w) => kernels.conv2dInputGrad(gradient, w, geometry) },
    weightGrad: { inputs: [x, dy], call: (input, gradient) => kernels.conv2dWeightGrad(input, gradient, geometry) },
  };
  const flops = 2 * geometry.macs;
  const copies = Math.max(1, Math.ceil(FLOPS_PER_RUN / flops));
  const algorithms = (ALGORITHMS[direction] ?? ['direct', 'winograd4', 'winograd2']).filter(
    (name) => kernel === 3 || name !== 'winograd4',
  );
  const programs = algorithms.map((algorithm) => programOf({ ...works[direction], copies }, algorithm));
  const contestants = programs.map((run, i) => {
    const sample = timed(() => run(works[direction].inputs).dispose());
    return { name: algorithms[i], sample: (repetitions) => sample(repetitions) / copies };
  });
  const results = await compare([peak.contestant(flops), ...contestants], EFFORT);
  for (const run of programs) run.dispose();
  for (const tensor of [x, dy, weight]) tensor.dispose();
  const columns = algorithms.map((name) => {
    const { seconds, ratio } = results[name];
    return `${name} ${(1000 * seconds).toFixed(3)} ${(100 / ratio).toFixed(0)}%`;
  });
  return `${direction} ${channels}-${outputs}x${side}x${kernel} batch ${batch}: ${columns.join('  ')}`;
}

/** The work as a program in which every convolution is computed by the algorithm. */
function programOf({ inputs, call, copies }, algorithm) {
  const { capture, inputSpec, Program } = kernels;
  const captured = capture(inputs.map(inputSpec), (...tensors) => {
    for (let i = 1; i < copies; i++) call(...tensors);
    return call(...tensors);
  });
  const calls = captured.calls.map((each) => ({ ...each, geometry: { ...each.geometry, algorithm } }));
  const program = new Program(calls, captured.inputs, [captured.result], { hoist: true });
  const run = (operands) => program.run(operands)[0];
  return Object.assign(run, { dispose: () => program.dispose() });
}
