// From import to the first result of a 3x3 convolution, in fresh processes in turn: node bench/start.mjs [--runs 10] [--json FILE]

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runtimes } from './contestants.mjs';
import { median, quantile } from './measure.mjs';
import { table } from './report.mjs';

const PROCESS = fileURLToPath(new URL('./first-result.mjs', import.meta.url));

const { values: options } = parseArgs({
  options: { runs: { type: 'string', default: '10' }, json: { type: 'string' } },
});

// Where Node (22 and later) keeps the compiled code of modules between processes, if it is asked to; the first process fills it.
const cache = mkdtempSync(join(tmpdir(), 'compile-cache-'));
const LIBRARIES = [
  { library: 'nothing' },
  { library: 'feathermap' },
  { library: 'feathermap', note: ', compile cache', env: { NODE_COMPILE_CACHE: cache }, since: 22 },
  ...(existsSync(new URL('./rivals/node_modules/onnxruntime-web', import.meta.url))
    ? [{ library: 'onnxruntime-web' }]
    : []),
];
const contestants = runtimes().flatMap(({ name, node }) =>
  LIBRARIES.filter(({ since = 0 }) => Number(name.slice('node'.length)) >= since).map(
    ({ library, note = '', env }) => ({
      id: `${library}${note}@${name}`,
      library,
      env,
      node,
      samples: [],
    }),
  ),
);
const firstResult = ({ node, library, env }) =>
  JSON.parse(execFileSync(node, [PROCESS, library], { encoding: 'utf8', env: { ...process.env, ...env } }));
for (const each of contestants) firstResult(each);
for (let run = 0; run < Number(options.runs); run++)
  for (const each of contestants) each.samples.push(firstResult(each));
rmSync(cache, { recursive: true });

const record = {
  date: new Date().toISOString().slice(0, 16),
  machine: `${cpus().length} x ${cpus()[0].model.trim()}`,
  results: Object.fromEntries(contestants.map(({ id, samples }) => [id, samples])),
};
const rows = Object.entries(record.results).map(([id, samples]) => {
  const totals = samples.map((parts) => parts.reduce((sum, part) => sum + part));
  const parts = samples[0].map((_, i) => median(samples.map((sample) => sample[i])));
  return [
    id,
    ...[median(totals), quantile(totals, 0.25), quantile(totals, 0.75)].map((time) => time.toFixed(1)),
    parts.length > 1 ? parts.map((part) => part.toFixed(1)).join(' + ') : '',
  ];
});
const heads = ['import to first result', 'ms', 'p25', 'p75', 'import + init + convolution'];
console.log(`${record.machine}, ${record.date}\n\n${table(heads, rows)}`);
if (options.json) writeFileSync(options.json, `${JSON.stringify(record, null, 1)}\n`);
