import { batchNorm, batchNormTraining, checkBatchNormInput } from '../ops/batch-norm.ts';
import { checkFlag, checkOptions } from '../tensor/create.ts';
import { show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { checkSizes } from './checks.ts';
import { Module } from './module.ts';
import { constantInitialiser, lazyBuffer, Parameter } from './parameter.ts';

/** Options of `BatchNorm2d` and `BatchNorm1d`. */
export interface BatchNormLayerOptions {
  /** Added to the variance. Default 1e-5. */
  eps?: number | undefined;
  /** Share of a batch in the new running statistics; null: all batches count alike. Default 0.1. */
  momentum?: number | null | undefined;
  /** Whether there are a learned factor and offset per channel. Default true. */
  affine?: boolean | undefined;
  /** Whether running statistics are kept; without them evaluation too uses those of the batch. Default true. */
  trackRunningStats?: boolean | undefined;
}

/** What batch normalisation over images and over rows share. */
abstract class BatchNorm extends Module {
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly numFeatures: number;
  readonly eps: number;
  readonly momentum: number | null;
  /** The buffers `running_mean`, `running_var` and `num_batches_tracked`, absent without `trackRunningStats`. */
  declare runningMean: Tensor | undefined;
  declare runningVar: Tensor | undefined;
  declare numBatchesTracked: Tensor | undefined;

  /** Shape that the input must have, for messages, and its number of dimensions. */
  protected abstract readonly ranks: readonly [words: string, ...ranks: number[]];

  constructor(name: string, numFeatures: number, options: BatchNormLayerOptions) {
    super();
    checkOptions(name, options, ['eps', 'momentum', 'affine', 'trackRunningStats']);
    checkSizes(name, { numFeatures });
    const { eps = 1e-5, momentum = 0.1, affine = true, trackRunningStats = true } = options;
    checkFlag(name, 'affine', affine);
    checkFlag(name, 'trackRunningStats', trackRunningStats);
    if (typeof eps !== 'number' || !(eps >= 0)) throw new RangeError(`${name}: eps must be a number >= 0, got ${eps}`);
    if (momentum !== null && !(typeof momentum === 'number' && momentum >= 0))
      throw new RangeError(`${name}: momentum must be a number >= 0 or null, got ${momentum}`);
    this.numFeatures = numFeatures;
    this.eps = eps;
    this.momentum = momentum;
    this.weight = affine ? Parameter.lazy([numFeatures], constantInitialiser(1)) : null;
    this.bias = affine ? Parameter.lazy([numFeatures], constantInitialiser(0)) : null;
    if (!trackRunningStats) return;
    this.registerBuffer('running_mean', lazyBuffer([numFeatures], 0));
    this.registerBuffer('running_var', lazyBuffer([numFeatures], 1));
    // Old files lack it, and PyTorch loads them.
    this.registerBuffer('num_batches_tracked', lazyBuffer([], 0, 'i32'), { optional: true });
  }

  forward(x: Tensor): Tensor {
    const { weight, bias, eps, momentum, runningMean, runningVar, numBatchesTracked } = this;
    this.#check(x);
    const running = runningMean && runningVar ? { mean: runningMean, variance: runningVar } : null;
    if (running && !this.training) return batchNorm(x, running.mean, running.variance, { weight, bias, eps });
    const counted = running && { ...running, batches: numBatchesTracked };
    const moved = this.training ? counted : null;
    return batchNormTraining(checkBatchNormInput(x), { weight, bias, eps }, moved, momentum);
  }

  #check(x: Tensor): void {
    const [words, ...ranks] = this.ranks;
    const name = this.constructor.name;
    if (!ranks.includes(x?.shape?.length))
      throw new RangeError(`${name}: expected input ${words}, got shape ${show(x?.shape ?? [])}`);
    if (x.shape[1] !== this.numFeatures)
      throw new RangeError(`${name}: input ${show(x.shape)} has ${x.shape[1]} channels, expected ${this.numFeatures}`);
  }

  override extraRepr(): string {
    const { numFeatures, eps, momentum, weight, runningMean } = this;
    return `${numFeatures}, eps=${eps}, momentum=${momentum}, affine=${weight !== null}, trackRunningStats=${runningMean !== undefined}`;
  }
}

/**
 * Batch normalisation of images [N,C,H,W], channel by channel; see `batchNorm`. In training it uses the statistics of the batch and moves
 * the running ones, in evaluation it uses the running ones. weight [C] starts at 1, bias [C] at 0. Source: torch.nn.BatchNorm2d.
 *
 * @throws RangeError for another shape or number of channels, TypeError for an unknown option
 * @example
 * ```ts
 * import { init, nn, randn } from 'feathermap';
 * await init();
 * const norm = new nn.BatchNorm2d(3);
 * norm.forward(randn([2, 3, 4, 4]));
 * if (norm.numBatchesTracked.item() !== 1) throw new Error('wrong');
 * if (Object.keys(norm.stateDict()).length !== 5) throw new Error('wrong');
 * ```
 */
export class BatchNorm2d extends BatchNorm {
  protected readonly ranks = ['[N,C,H,W]', 4] as const;

  constructor(numFeatures: number, options: BatchNormLayerOptions = {}) {
    super('BatchNorm2d', numFeatures, options);
  }
}

/**
 * Batch normalisation of rows [N,C] or sequences [N,C,L], as `BatchNorm2d`. Source: torch.nn.BatchNorm1d.
 *
 * @throws as `BatchNorm2d`
 */
export class BatchNorm1d extends BatchNorm {
  protected readonly ranks = ['[N,C] or [N,C,L]', 2, 3] as const;

  constructor(numFeatures: number, options: BatchNormLayerOptions = {}) {
    super('BatchNorm1d', numFeatures, options);
  }
}
