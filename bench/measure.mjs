// Fair timing of several contestants for the same work: warm up, then one sample of each in turn, round after round, so that a slow
// spell of the machine meets all of them. Ratios are taken inside a round, before any averaging.

/**
 * @typedef {object} Contestant
 * @property {string} name
 * @property {(repetitions: number) => number | Promise<number>} sample  does the work that often and returns the seconds it took
 */

/** A sampler for work that is one synchronous call. */
export function timed(work) {
  return (repetitions) => {
    const start = performance.now();
    for (let i = 0; i < repetitions; i++) work();
    return (performance.now() - start) / 1000;
  };
}

/** A sampler for work that answers with a promise. */
export function timedAsync(work) {
  return async (repetitions) => {
    const start = performance.now();
    for (let i = 0; i < repetitions; i++) await work();
    return (performance.now() - start) / 1000;
  };
}

/**
 * @typedef {object} Effort
 * @property {number} [rounds] @property {number} [minimumRounds]  samples of everyone; fewer, but not less than the minimum, to stay in the budget
 * @property {number} [sampleSeconds]  a sample repeats short work until it lasts so long
 * @property {number} [warmUpSeconds] @property {number} [warmUpCalls]  both are reached before anything counts
 * @property {number} [budgetSeconds]
 */

/**
 * @param {Contestant[]} contestants
 * @param {Effort} [effort]
 * @returns {Promise<{ repetitions: number[], samples: number[][] }>} per contestant: repetitions in a sample, and seconds per piece of work in each round
 */
export async function sampleRounds(contestants, effort = {}) {
  const { rounds = 15, minimumRounds = 5, budgetSeconds = 5 } = effort;
  const repetitions = [];
  for (const contestant of contestants) repetitions.push(await warmUp(contestant, effort));
  const samples = contestants.map(() => []);
  const start = performance.now();
  for (let round = 0; round < rounds; round++) {
    for (const [i, contestant] of contestants.entries()) {
      samples[i].push((await contestant.sample(repetitions[i])) / repetitions[i]);
    }
    if (round + 1 >= minimumRounds && (performance.now() - start) / 1000 > budgetSeconds) break;
  }
  return { repetitions, samples };
}

/**
 * @param {Contestant[]} contestants
 * @param {Effort} [effort]
 * @returns {Promise<Record<string, { seconds: number, p25: number, p75: number, ratio: number, repetitions: number, rounds: number }>>}
 *   seconds per piece of work (median and quartiles); `ratio`: median over the rounds of its time over the first contestant's
 */
export async function compare(contestants, effort) {
  const { repetitions, samples } = await sampleRounds(contestants, effort);
  return Object.fromEntries(contestants.map(({ name }, i) => [name, summary(samples[i], samples[0], repetitions[i])]));
}

/** Runs until the optimising compiler had its chance and returns how many repetitions fill a sample. */
async function warmUp({ sample }, { sampleSeconds = 0.005, warmUpSeconds = 0.1, warmUpCalls = 3 }) {
  let repetitions = 1;
  let fastest = Number.POSITIVE_INFINITY;
  for (
    let spent = 0, calls = 0;
    spent < warmUpSeconds || calls < warmUpCalls || fastest === Number.POSITIVE_INFINITY;
    calls++
  ) {
    const seconds = await sample(repetitions);
    spent += seconds;
    if (seconds > sampleSeconds / 4) fastest = Math.min(fastest, seconds / repetitions); // the clocks of pages have coarse steps
    if (seconds < sampleSeconds) repetitions *= 2;
  }
  return Math.max(1, Math.ceil(sampleSeconds / fastest));
}

function summary(times, reference, repetitions) {
  return {
    seconds: median(times),
    p25: quantile(times, 0.25),
    p75: quantile(times, 0.75),
    ratio: medianRatio(times, reference),
    repetitions,
    rounds: times.length,
  };
}

/** Median over the rounds of one contestant's time over another's. */
export function medianRatio(times, reference) {
  return median(times.map((time, round) => time / reference[round]));
}

export function median(values) {
  return quantile(values, 0.5);
}

/** Linear interpolation between the two nearest order statistics. */
export function quantile(values, fraction) {
  const sorted = [...values].sort((a, b) => a - b);
  const position = (sorted.length - 1) * fraction;
  const below = Math.floor(position);
  const above = Math.ceil(position);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}

export function geometricMean(values) {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
