// Measures one piece of work on a whole network with everyone selected: fresh processes, the same images and weights for all, answers compared,
// then times in turn.

import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { nameOf } from './contestants.mjs';
import { sampleRounds } from './measure.mjs';
import { networksReport } from './networks-report.mjs';
import { prepareIn } from './workers.mjs';

const EFFORT = {
  full: { rounds: 25, minimumRounds: 7, sampleSeconds: 0.02, warmUpSeconds: 0.3, budgetSeconds: 40 },
  quick: { rounds: 7, minimumRounds: 3, sampleSeconds: 0.01, warmUpSeconds: 0.1, warmUpCalls: 2, budgetSeconds: 8 },
};
const TOLERANCE = 1e-3; // largest difference over largest value

/**
 * @typedef {object} Work
 * @property {'network' | 'networkTrain'} kind @property {string} network @property {number} batch
 * @property {number[]} input  shape of one image @property {number} flops
 */

/**
 * Measures, prints and, if asked, writes the record; the exit code tells whether all answers agreed.
 *
 * @param {Work[]} works
 * @param {ReturnType<typeof import('./contestants.mjs').contestants>} selected
 * @param {{ quick: boolean, json?: string | undefined, threads: number }} options
 */
export async function measureNetworks(works, selected, { quick, json, threads }) {
  const versions = {};
  const cases = [];
  for (const work of works) cases.push(await measureCase(work, selected, EFFORT[quick ? 'quick' : 'full'], versions));
  const record = {
    date: new Date().toISOString().slice(0, 16),
    machine: `${cpus().length} x ${cpus()[0].model.trim()}`,
    threads,
    versions,
    cases,
  };
  console.log(networksReport(record));
  if (json) writeFileSync(json, `${JSON.stringify(record, null, 1)}\n`);
  if (cases.some(({ wrong }) => wrong.length > 0)) process.exitCode = 1;
}

async function measureCase(work, selected, effort, versions) {
  const title = `${work.network}, batch ${work.batch}`;
  const prepared = [];
  const failed = {};
  for (const contestant of selected) {
    progress(`${title}: ${contestant.id} prepares`);
    try {
      const ready = await prepare(contestant, work);
      if (ready) prepared.push(ready);
      else failed[contestant.id] = 'not installed';
      versions[contestant.id] = ready?.version;
    } catch (error) {
      failed[contestant.id] = error.message;
    }
  }
  progress(`${title}: measuring ${prepared.length} contestants`);
  const { repetitions, samples } = await sampleRounds(prepared, effort);
  await Promise.all(prepared.map(({ worker }) => worker.close()));
  progress('');
  const results = Object.fromEntries(
    prepared.map(({ id }, i) => [id, { repetitions: repetitions[i], samples: samples[i] }]),
  );
  return { ...work, results, wrong: dissenters(prepared), failed };
}

/** A started contestant with this work at hand and its answer, null where it is not installed. */
async function prepare({ id, start, request }, work) {
  const started = await start();
  if (!started) return null;
  const { worker, version } = started;
  try {
    const ready = await prepareIn(worker, request(work));
    return { id, version, worker, ...ready, values: await ready.answer() };
  } catch (error) {
    await worker.close();
    throw error;
  }
}

/** Those whose answer differs from the last one's: a native library, where one takes part. */
function dissenters(prepared) {
  const answers = prepared.filter(({ id }) => nameOf(id) !== 'peak');
  const reference = answers.at(-1)?.values;
  return answers.filter(({ values }) => !(difference(values, reference) <= TOLERANCE)).map(({ id }) => id);
}

function difference(values, reference) {
  if (values.length !== reference.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  let apart = 0;
  reference.forEach((value, i) => {
    largest = Math.max(largest, Math.abs(value));
    apart = Math.max(apart, Math.abs(value - values[i]));
  });
  return apart / largest;
}

/** @param {string} option @param {string} given  names with commas @param {readonly string[]} known @returns {string[]} */
export function namesIn(option, given, known) {
  const names = given.split(',').filter(Boolean);
  for (const name of names) {
    if (!known.includes(name)) throw new RangeError(`bench: ${option} knows ${known.join(', ')}, got ${name}`);
  }
  return names;
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
