// The loops of the machine's 128-bit peak (peak.ts), compiled elsewhere, as something to measure. Runs in browsers too.

import { timed } from '../measure.mjs';

const ITERATIONS = 2000; // one call takes about 10 us: far more than calling it costs
const MAXIMUM_CALLS = 2000; // of a sample: longer work is extrapolated
const FLOPS_PER_VECTOR = 8; // 4 lanes, one multiplication and one addition each

// (module (func (result v128) (f32x4.relaxed_madd (v128.const ...) (v128.const ...) (v128.const ...))))
const RELAXED_PROBE = [
  0,
  97,
  115,
  109,
  1,
  0,
  0,
  0,
  1,
  5,
  1,
  96,
  0,
  1,
  123,
  3,
  2,
  1,
  0,
  10,
  61,
  1,
  59,
  0,
  ...Array.from({ length: 3 }, () => [253, 12, ...new Array(16).fill(0)]).flat(),
  253,
  133,
  2,
  11,
];

export function acceptsRelaxed() {
  return WebAssembly.validate(Uint8Array.from(RELAXED_PROBE));
}

/**
 * The peak of this runtime: the fused loop where relaxed SIMD is accepted and `build` may use it, multiply and add elsewhere.
 *
 * @param {BufferSource} bytes  peak.ts, compiled for what `acceptsRelaxed` says
 * @param {'auto' | 'simd' | 'relaxed'} build
 * @returns {Promise<{ mulAdd: number, fma: number | null, contestant: (flops: number) => import('../measure.mjs').Contestant }>} GFLOP/s on one
 *   thread; `contestant` does so many operations at the peak, to stand among those that are measured
 */
export async function peakOf(bytes, build = 'auto') {
  const { exports } = await WebAssembly.instantiate(await WebAssembly.compile(bytes));
  const loops = {
    mulAdd: loop(() => exports.mulAdd(ITERATIONS, 1), exports.mulAddPerIteration()),
    fma: acceptsRelaxed() ? loop(() => exports.fusedMulAdd(ITERATIONS, 0.5), exports.fusedMulAddPerIteration()) : null,
  };
  return {
    mulAdd: gigaflops(loops.mulAdd),
    fma: loops.fma && gigaflops(loops.fma),
    contestant: (flops) => peakContestant(loops.fma && build !== 'simd' ? loops.fma : loops.mulAdd, flops),
  };
}

function loop(call, vectorsPerIteration) {
  return { call, flops: vectorsPerIteration * ITERATIONS * FLOPS_PER_VECTOR };
}

function peakContestant(loop, flops) {
  const calls = timed(loop.call);
  return {
    name: 'peak',
    sample(repetitions) {
      const wanted = (repetitions * flops) / loop.flops;
      const whole = Math.min(Math.ceil(wanted), MAXIMUM_CALLS);
      return (calls(whole) * wanted) / whole;
    },
  };
}

/** The peak as a worker's contestant: `flops` operations in its loops. `bytes` as for `peakOf`. */
export async function startPeak(bytes, build) {
  const peak = await peakOf(bytes, build);
  return {
    version: `${peak.mulAdd.toFixed(1)} GFLOP/s mul+add${peak.fma ? `, ${peak.fma.toFixed(1)} fused` : ''}`,
    prepare: ({ flops }) => ({ ...peak.contestant(flops), answer: () => [] }),
  };
}

/** The best of many short samples: a peak is an upper bound, and everything that disturbs a sample lowers it. */
function gigaflops({ call, flops }) {
  const sample = timed(call);
  sample(3000); // until the optimising compiler is through
  let best = 0;
  for (let i = 0; i < 40; i++) best = Math.max(best, (500 * flops) / sample(500) / 1e9);
  return best;
}
