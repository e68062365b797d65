// The largest batch of a training step that fits into some memory.

import { stridesLike } from '../ops/loops.ts';
import { MemoryLimitError } from '../runtime/errors.ts';
import type { InputSpec } from './capture.ts';
import type { GradientStep } from './gradient-step.ts';

/** No batch is larger. */
const MOST = 2 ** 20;

/** These inputs with batches of another size, laid out alike. */
function resized(specs: readonly InputSpec[], batch: number): InputSpec[] {
  const before = specs[0]?.shape[0];
  return specs.map((spec) => {
    if (!spec.shape.length || spec.shape[0] !== before) return spec;
    const shape = [batch, ...spec.shape.slice(1)];
    return { ...spec, shape, strides: stridesLike(shape, spec.strides) };
  });
}

/**
 * The most samples per batch with which `step` takes at most `bytes`, 0 if one is too many. Memory grows nearly in proportion to the
 * batch, so the next size to try lies where the line through the last two would meet the limit.
 */
export function largestBatch(step: GradientStep, specs: readonly InputSpec[], bytes: number): number {
  const taken = new Map<number, number>();
  const peak = (batch: number): number => {
    let found = taken.get(batch);
    if (found === undefined) taken.set(batch, (found = peakOf(step, resized(specs, batch))));
    return found;
  };
  if (!specs[0]?.shape.length) throw new RangeError('largestBatch: the first input has no dimension of samples');
  let low = 1;
  let high = MOST + 1;
  if (peak(low) > bytes) return 0;
  for (let next = 2; high - low > 1; ) {
    const perSample = (peak(next) - peak(low)) / (next - low);
    if (peak(next) <= bytes) low = next;
    else high = next;
    const guess = perSample > 0 && perSample < Infinity ? low + (bytes - peak(low)) / perSample : (low + high) / 2;
    next = Math.floor(Math.min(high - 1, Math.max(low + 1, guess)));
  }
  return low;
}

/** Infinity where the step's own limit of memory cannot be met. */
function peakOf(step: GradientStep, specs: readonly InputSpec[]): number {
  try {
    return step.peakBytes(specs);
  } catch (error) {
    if (error instanceof MemoryLimitError) return Number.POSITIVE_INFINITY;
    throw error;
  }
}
