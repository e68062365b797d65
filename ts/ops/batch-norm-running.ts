// Running statistics of batch normalisation: moved by an op call of their own, so that recomputing the forward pass leaves them alone.
import * as kernels from '../generated/kernels.ts';
import { apply } from '../tensor/apply.ts';
import type { Op } from '../tensor/op.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { optional } from './batch-norm-geometry.ts';

interface RunningOptions {
  /** Elements per channel behind the new statistics. */
  readonly count: number;
  /** Share of the new value; null: every batch counts alike. */
  readonly momentum: number | null;
}

/** Inputs: running mean and variance (changed), mean, variance, number of batches (changed) or null. */
function runningOp(mutates: readonly number[]): Op<RunningOptions, RunningOptions> {
  return {
    name: 'updateRunningStatistics',
    infer: (_inputs, options) => ({ geometry: options, outputs: [] }),
    lower(emit, { count, momentum }, [runningMean, runningVariance, mean, variance, batches]) {
      const running = { runningMean: locationOf(runningMean!), runningVariance: locationOf(runningVariance!) };
      const fresh = { mean: locationOf(mean!), variance: locationOf(variance!) };
      const C = mean!.size;
      emit.command(
        kernels.updateRunningStatistics,
        { ...running, batches: optional(batches), ...fresh, C, count, momentum: momentum ?? -1 },
        { tiles: 1, work: 4 * C },
      );
    },
    backward: { notDifferentiable: 'it only moves the running statistics' },
    saves: {},
    mutates,
  };
}

const countedOp = runningOp([0, 1, 4]);
const uncountedOp = runningOp([0, 1]);

/** Running statistics: what evaluation uses, and how many batches they have seen. */
export interface RunningStatistics {
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** i32 of shape [], raised by one per batch. */
  readonly batches?: Tensor | undefined;
}

/** Moves the running statistics towards those of a batch with `count` elements per channel; `momentum` null: all batches count alike. */
export function moveRunningStatistics(
  { mean: runningMean, variance: runningVariance, batches }: RunningStatistics,
  { mean, variance }: { mean: Tensor; variance: Tensor },
  count: number,
  momentum: number | null,
): void {
  const operands = [runningMean, runningVariance, mean, variance, batches ?? null];
  apply(batches ? countedOp : uncountedOp, operands, { count, momentum });
}
