// How much linear memory ResNet-18 needs on one image and one thread, loading included: node bench/memory.mjs [NETWORK] [--json FILE]

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { compile, init, memoryStatistics, shutdown, tensor } from 'feathermap';
import { loadSafetensors, serializeSafetensors } from 'feathermap/safetensors';
import { network } from './networks.mjs';
import { ZOO } from './ours-networks.mjs';
import { table } from './report.mjs';
import { product } from './values.mjs';
import { images, parameter } from './weights.mjs';

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

/** What the memory of a fresh engine has grown to after loading a file, compiling and a run: it never shrinks. */
async function highWater(memory) {
  await init({ threads: 1 });
  const { input } = network(name);
  const net = ZOO[name]();
  const { file, weightBytes } = weightsFile(net);
  net.loadStateDict(loadSafetensors(file));
  const run = compile(net.eval(), { input: [1, ...input], memory });
  run(tensor(images(1, input), { shape: [1, ...input] }));
  const { memoryBytes } = memoryStatistics();
  const planBytes = run.plan.peakBytes;
  await shutdown();
  return { weightBytes, planBytes, memoryBytes };
}

/** A safetensors file of the weights that everyone is measured with. */
function weightsFile(net) {
  const metadata = {};
  const entries = new Map();
  let weightBytes = 0;
  for (const [key, { shape, dtype }] of Object.entries(net.stateDict())) {
    const values = dtype === 'f32' ? parameter(key, shape) : new Int32Array(product(shape));
    entries.set(key, { dtype: dtype === 'f32' ? 'F32' : 'I32', shape, bytes: new Uint8Array(values.buffer) });
    weightBytes += values.byteLength;
  }
  return { file: serializeSafetensors({ metadata, entries }), weightBytes };
}
