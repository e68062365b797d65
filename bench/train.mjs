// npm run bench:train: whole training steps (forward, backward, SGD with momentum), feathermap against PyTorch and the machine's peak.
//
//   node bench/train.mjs [--only resnet18,lenet] [--rivals pytorch] [--threads 2] [--build auto|simd|relaxed] [--quick] [--here] [--json FILE]
//
// With more threads than one, ours runs with one as well, and the peak loop alone and in that many copies at once.

import { parseArgs } from 'node:util';
import { contestants, runtimes } from './contestants.mjs';
import { measureNetworks, namesIn } from './network-cases.mjs';
import { network } from './networks.mjs';

const BATCHES = { lenet: 256, resnet18: 8, mobilenetV2: 8 };

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: Object.keys(BATCHES).join(',') },
    rivals: { type: 'string', default: 'pytorch' },
    threads: { type: 'string', default: '1' },
    build: { type: 'string', default: 'auto' },
    quick: { type: 'boolean', default: false },
    here: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});
const threads = Number(options.threads);
const works = namesIn('--only', options.only, Object.keys(BATCHES)).map(trainingStep);
const selected = contestants({
  runtimes: runtimes(options),
  rivals: namesIn('--rivals', options.rivals, ['pytorch']),
  build: options.build,
  threads,
});
await measureNetworks(works, selected, { ...options, threads });

function trainingStep(name) {
  const { input, macs, layers } = network(name);
  const batch = BATCHES[name];
  return {
    kind: 'networkTrain',
    network: name,
    batch,
    input,
    classes: layers.at(-1).oc,
    learningRate: 0.01,
    momentum: 0.9,
    flops: 3 * 2 * macs * batch, // forward, and about as much again for each of the two gradients
  };
}
