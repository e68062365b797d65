// Where the time of a network goes: its compiled plan with milliseconds and share of the machine's peak per layer.
//
//   node bench/layers.mjs NETWORK [--batch 1] [--threads 1] [--build auto|simd|relaxed] [--256] [--runs 20] [--trace FILE]
//
// The trace opens in ui.perfetto.dev.

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { engineInfo, init, shutdown, tensor } from 'feathermap';
import { network, networkNames } from './networks.mjs';
import { compiled } from './ours-networks.mjs';
import { table } from './report.mjs';
import { images } from './weights.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    batch: { type: 'string', default: '1' },
    threads: { type: 'string', default: '1' },
    build: { type: 'string', default: 'auto' },
    256: { type: 'boolean', default: false },
    runs: { type: 'string', default: '20' },
    trace: { type: 'string' },
  },
});
const [name] = positionals;
if (!networkNames.includes(name))
  throw new RangeError(`bench: the networks are ${networkNames.join(', ')}, got ${name}`);

await init({ threads: Number(options.threads), build: options.build, experimentalSimd256: options[256] });
const batch = Number(options.batch);
const { input } = network(name);
const run = await compiled({ network: name, batch, input });
const x = tensor(images(batch, input), { shape: [batch, ...input] });
for (let i = 0; i < 3; i++) run(x).dispose();
const profile = run.profile(x, Number(options.runs));
console.log(String(profile));
console.log(byAlgorithm(profile));
const { build, threads, vectorBits } = engineInfo();
console.log(
  `\n${profile.milliseconds.toFixed(2)} ms; peak ${profile.peakGflops.toFixed(1)} GFLOP/s; ${build}, ${vectorBits}-bit vectors, ${threads} thread(s)`,
);
if (options.trace) writeFileSync(options.trace, JSON.stringify(profile.trace()));
await shutdown();

/** Sums over what is computed in the same way, the longest first. */
function byAlgorithm({ layers, milliseconds, peakGflops }) {
  const groups = new Map();
  for (const { op, algorithm, milliseconds: time, macs } of layers) {
    const key = `${op} ${algorithm}`.trim();
    const group = groups.get(key) ?? { count: 0, time: 0, macs: 0 };
    groups.set(key, { count: group.count + 1, time: group.time + time, macs: group.macs + macs });
  }
  const rows = [...groups]
    .sort(([, a], [, b]) => b.time - a.time)
    .map(([key, { count, time, macs }]) => [
      key,
      String(count),
      time.toFixed(3),
      `${((100 * time) / milliseconds).toFixed(1)} %`,
      macs ? `${((100 * 2 * macs) / time / 1e6 / peakGflops).toFixed(0)} %` : '',
    ]);
  return table(['computed by', 'calls', 'ms', 'of the time', 'of peak'], rows);
}
