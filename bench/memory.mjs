// How much linear memory ResNet-18 needs on one image and one thread, loading included: node bench/memory.mjs [NETWORK] [--json FILE]

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { init, memoryStatistics, shutdown, tensor } from 'feathermap';
import { network } from './networks.mjs';
import { compiled } from './ours-networks.mjs';
import { table } from './report.mjs';
import { images } from './weights.mjs';

const MEGABYTE = 1e6;

const { values: options, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: 'string' } } });
const [name = 'resnet18'] = positionals;

const record = { network: name, results: {} };
for (const memory of ['fast', 'small']) record.results[memory] = await highWater(memory);
const rows = Object.entries(record.results).map(([memory, { memoryBytes, weightBytes, planBytes }]) => [
  memory,
  ...[weightBytes, planBytes, memoryBytes].map((bytes) => (bytes / MEGABYTE).toFixed(1)),
  `${(memoryBytes / weightBytes).toFixed(2)} x weights`,
  `weights + ${((memoryBytes - weightBytes) / MEGABYTE).toFixed(1)}`,
]);
console.log(table([`${name}, MB`, 'weights', 'plan', 'linear memory', '', ''], rows));
if (options.json) writeFileSync(options.json, `${JSON.stringify(record, null, 1)}\n`);

/** What the memory of a fresh engine has grown to after loading, compiling and a run: it never shrinks. */
async function highWater(memory) {
  await init({ threads: 1 });
  const { input, layers } = network(name);
  const run = compiled({ network: name, batch: 1, input }, { memory });
  run(tensor(images(1, input), { shape: [1, ...input] }));
  const { memoryBytes, ...statistics } = memoryStatistics();
  const planBytes = run.plan.peakBytes;
  await shutdown();
  return { weightBytes: weightBytes(layers), planBytes, memoryBytes, statistics };
}

function weightBytes(layers) {
  const elements = ({ op, oc, c, kernel = 1, groups = 1, bias }) =>
    op === 'batchNorm'
      ? 4 * c
      : op === 'conv' || op === 'linear'
        ? (oc * c * kernel * kernel) / groups + (bias ? oc : 0)
        : 0;
  return 4 * layers.reduce((sum, layer) => sum + elements(layer), 0);
}
