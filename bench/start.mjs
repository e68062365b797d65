// From import to the first result of a 3x3 convolution, in fresh processes in turn: node bench/start.mjs [--runs 10] [--json FILE]

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runtimes } from './contestants.mjs';
import { median, quantile } from './measure.mjs';
import { table } from './report.mjs';

const PROCESS = fileURLToPath(new URL('./first-result.mjs', import.meta.url));

const { values: options } = parseArgs({
  options: { runs: { type: 'string', default: '10' }, json: { type: 'string' } },
});

const contestants = runtimes().flatMap(({ name, node }) =>
  ['feathermap', 'onnxruntime-web'].map((library) => ({ id: `${library}@${name}`, node, library, milliseconds: [] })),
);
for (let run = 0; run < Number(options.runs); run++) {
  for (const { node, library, milliseconds } of contestants) {
    milliseconds.push(Number(execFileSync(node, [PROCESS, library], { encoding: 'utf8' })));
  }
}
const record = {
  date: new Date().toISOString().slice(0, 16),
  machine: `${cpus().length} x ${cpus()[0].model.trim()}`,
  results: Object.fromEntries(contestants.map(({ id, milliseconds }) => [id, milliseconds])),
};
const rows = Object.entries(record.results).map(([id, times]) => [
  id,
  ...[median(times), quantile(times, 0.25), quantile(times, 0.75)].map((time) => time.toFixed(1)),
]);
console.log(`${record.machine}, ${record.date}\n\n${table(['import to first result', 'ms', 'p25', 'p75'], rows)}`);
if (options.json) writeFileSync(options.json, `${JSON.stringify(record, null, 1)}\n`);
