// npm run bench:models: whole networks, from pixels to logits, feathermap against its peers and the machine's peak.
//
//   node bench/models.mjs [--only resnet18,vgg16] [--batch 1,8] [--rivals onnxruntime-web,tfjs-wasm,onnxruntime-node,pytorch] [--threads 2]
//     [--build auto|simd|relaxed] [--quick] [--here] [--json FILE]
//
// With more threads than one, ours runs with one as well, and the peak loop alone and in that many copies at once.

import { parseArgs } from 'node:util';
import { contestants, RIVALS, runtimes } from './contestants.mjs';
import { measureNetworks, namesIn } from './network-cases.mjs';
import { network, networkNames } from './networks.mjs';

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: networkNames.join(',') },
    batch: { type: 'string', default: '1,8' },
    rivals: { type: 'string', default: RIVALS.join(',') },
    threads: { type: 'string', default: '1' },
    build: { type: 'string', default: 'auto' },
    quick: { type: 'boolean', default: false },
    here: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});
const threads = Number(options.threads);
const names = namesIn('--only', options.only, networkNames);
const works = options.batch.split(',').flatMap((batch) => names.map((name) => inference(name, Number(batch))));
const selected = contestants({
  runtimes: runtimes(options),
  rivals: namesIn('--rivals', options.rivals, RIVALS),
  build: options.build,
  threads,
});
await measureNetworks(works, selected, { ...options, threads });

function inference(name, batch) {
  const { input, macs } = network(name);
  return { kind: 'network', network: name, batch, input, flops: 2 * macs * batch };
}
