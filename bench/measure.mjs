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
 * @param {Contestant[]} contestants
 * @param {{ rounds?: number, minimumRounds?: number, sampleSeconds?: number, warmUpSeconds?: number, budgetSeconds?: number }} [options]
 *   a sample lasts at least `sampleSeconds`; where it is longer, rounds are given up (down to `minimumRounds`) to stay in the budget
 * @returns {Promise<Record<string, { seconds: number, p25: number, p75: number, ratio: number, repetitions: number, rounds: number }>>}
 *   seconds per piece of work (median and quartiles); `ratio`: median over the rounds of its time over the first contestant's
 */
export async function compare(contestants, options = {}) {
  const { rounds = 15, minimumRounds = 5, sampleSeconds = 0.005, warmUpSeconds = 0.1, budgetSeconds = 5 } = options;
  const repetitions = [];
  for (const contestant of contestants) repetitions.push(await warmUp(contestant, sampleSeconds, warmUpSeconds));
  const samples = contestants.map(() => []);
  const start = performance.now();
  for (let round = 0; round < rounds; round++) {
    for (const [i, contestant] of contestants.entries()) {
      samples[i].push((await contestant.sample(repetitions[i])) / repetitions[i]);
    }
    if (round + 1 >= minimumRounds && (performance.now() - start) / 1000 > budgetSeconds) break;
  }
  return Object.fromEntries(contestants.map(({ name }, i) => [name, summary(samples[i], samples[0], repetitions[i])]));
}

/** Runs until the optimising compiler had its chance and returns how many repetitions fill a sample. */
async function warmUp({ sample }, sampleSeconds, warmUpSeconds) {
  let repetitions = 1;
  let fastest = Number.POSITIVE_INFINITY;
  for (let spent = 0, calls = 0; spent < warmUpSeconds || calls < 3; calls++) {
    const seconds = await sample(repetitions);
    spent += seconds;
    fastest = Math.min(fastest, seconds / repetitions);
    if (seconds < sampleSeconds) repetitions *= 2;
  }
  return Math.max(1, Math.ceil(sampleSeconds / fastest));
}

function summary(times, reference, repetitions) {
  return {
    seconds: median(times),
    p25: quantile(times, 0.25),
    p75: quantile(times, 0.75),
    ratio: median(times.map((time, round) => time / reference[round])),
    repetitions,
    rounds: times.length,
  };
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
