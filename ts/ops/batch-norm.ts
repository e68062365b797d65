// Batch normalisation: y = (x - mean) / sqrt(variance + eps) weight + bias, channel by channel (dimension 1).
//
// In training the statistics are those of the batch, and outputs of the op: backward reads them, and so does the call that moves
// the running ones.
//
// The geometry carries bounds and the op takes a residual: a pass over captured calls may fold the `add` and the clamp (relu, relu6)
// that follow into y = clamp(batchNorm(x) + residual, lo, hi), and the backward of that clamp into `batchNormBackward`, whose last
// operand is then the clamped y.
import * as kernels from '../generated/kernels.ts';
import type { Emitter } from '../runtime/command.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import { checkFlag, checkOptions } from '../tensor/create.ts';
import type { Op, Operand } from '../tensor/op.ts';
import { printed } from '../tensor/printed.ts';
import { isChannelsLast, isContiguous, show } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { batchNormGradients, withMomentGradients } from './batch-norm-backward.ts';
import {
  type BatchNormGeometry,
  blocksOf,
  boundsOf,
  channelGrid,
  elementGrid,
  geometryOf,
  optional,
  walkOf,
} from './batch-norm-geometry.ts';
import { moveRunningStatistics, type RunningStatistics } from './batch-norm-running.ts';
import { contiguous } from './copy.ts';
import { checkFloat } from './unary-op.ts';

interface NormOptions {
  readonly eps: number;
}

/** What training knows of a batch, [C] each: the variance divided by n, and what the mean lost when it was rounded to f32. */
interface Moments {
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly rest: Tensor;
}

function emitMoments(emit: Emitter, geometry: BatchNormGeometry, x: Tensor, moments: Moments): void {
  const blocks = blocksOf(geometry);
  const partials = emit.temporary(12 * blocks * geometry.C);
  const walk = walkOf(geometry);
  const kernel = geometry.columns ? kernels.batchNormMomentsColumns : kernels.batchNormMomentsPlanes;
  emit.command(kernel, { partials, x: locationOf(x), ...walk }, elementGrid(geometry, 0.3, 2));
  const { mean, variance, rest } = moments;
  const outputs = { mean: locationOf(mean), variance: locationOf(variance), rest: locationOf(rest) };
  emit.command(kernels.batchNormMerge, { ...outputs, partials, ...walk, blocks }, channelGrid(geometry));
}

/** What the normalisation reads and writes. */
interface NormOperands {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly weight: Operand;
  readonly bias: Operand;
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** What the mean lost when it was rounded, or null. */
  readonly rest: Operand;
  readonly residual: Operand;
}

function emitNormalise(emit: Emitter, geometry: BatchNormGeometry, operands: NormOperands): void {
  const { C, eps } = geometry;
  const { x, y, mean, variance, rest, weight, bias, residual } = operands;
  const coefficients = emit.temporary(8 * C);
  const affine = { weight: optional(weight), bias: optional(bias) };
  const moments = { variance: locationOf(variance), rest: optional(rest) };
  emit.command(kernels.batchNormScale, { coefficients, ...moments, ...affine, C, eps }, { tiles: 1, work: 4 * C });
  const places = { y: locationOf(y), x: locationOf(x), mean: locationOf(mean), residual: optional(residual) };
  const kernel = geometry.columns ? kernels.batchNormColumns : kernels.batchNormPlanes;
  emit.command(
    kernel,
    { ...places, coefficients, ...walkOf(geometry), ...boundsOf(geometry) },
    elementGrid(geometry, 0.3),
  );
}

/**
 * Training. Inputs: x, weight or null, bias or null, residual (laid out as x) or null. Outputs: y, mean and biased variance of
 * the batch, and what the mean lost when it was rounded to f32: a mean of 10^4 may be 5e-4 off, which is much for a deviation of 10^-2. Bounds and residual come from passes alone, behind the tape: backward here knows neither.
 */
export const batchNormOp: Op<NormOptions, BatchNormGeometry> = {
  name: 'batchNorm',
  infer([x], { eps }) {
    const geometry = geometryOf(x!, eps);
    if (geometry.count < 2)
      throw new RangeError(
        `batchNorm: expected more than 1 value per channel when training, got input size ${show(x!.shape)}`,
      );
    const y = { shape: x!.shape, dtype: 'f32' as const, strides: x!.strides };
    const perChannel = { shape: [geometry.C], dtype: 'f32' as const };
    return { geometry, outputs: [y, perChannel, perChannel, perChannel] };
  },
  lower(emit, geometry, [x, weight, bias, residual], [y, mean, variance, rest]) {
    const moments = { mean: mean!, variance: variance!, rest: rest! };
    emitMoments(emit, geometry, x!, moments);
    emitNormalise(emit, geometry, { x: x!, y: y!, weight: weight!, bias: bias!, ...moments, residual: residual! });
  },
  backward({ geometry, inputs: [x, weight], outputs, gradients: [dy, dmean, dvariance], needs }) {
    const [, mean, variance, rest] = outputs;
    const [dx, dweight, dbias] = dy
      ? batchNormGradients({
          dy,
          x: x!,
          weight: weight!,
          mean: mean!,
          variance: variance!,
          rest: rest!,
          geometry,
          needs,
          batch: true,
        })
      : [null, null, null];
    return [needs[0] ? withMomentGradients(dx, x!, mean!, geometry, [dmean!, dvariance!]) : null, dweight, dbias, null];
  },
  saves: { inputs: [0, 1], outputs: [1, 2, 3] },
};

/** Evaluation. Inputs: x, weight or null, bias or null, mean, variance. Output: y. */
export const batchNormEvalOp: Op<NormOptions, BatchNormGeometry> = {
  name: 'batchNormEval',
  infer: ([x], { eps }) => ({
    geometry: geometryOf(x!, eps),
    outputs: [{ shape: x!.shape, dtype: 'f32', strides: x!.strides }],
  }),
  lower(emit, geometry, [x, weight, bias, mean, variance], [y]) {
    const statistics = { mean: mean!, variance: variance!, rest: null };
    emitNormalise(emit, geometry, { x: x!, y: y!, weight: weight!, bias: bias!, ...statistics, residual: null });
  },
  backward({ geometry, inputs: [x, weight, , mean, variance], gradients: [dy], needs }) {
    if (needs[3] || needs[4])
      throw new Error('backward: batchNormEval has no gradient for given mean and variance; detach() them');
    const operands = { dy: dy!, x: x!, weight: weight!, mean: mean!, variance: variance!, rest: null };
    return [...batchNormGradients({ ...operands, geometry, needs, batch: false }), null, null];
  },
  saves: { inputs: [0, 1, 3, 4] },
};

/** Normalises by the statistics of the batch; `running`, if given, is moved towards them. For `batchNorm` and the layer. */
export function batchNormTraining(
  x: Tensor,
  { weight, bias, eps }: { weight: Operand; bias: Operand; eps: number },
  running: RunningStatistics | null,
  momentum: number | null,
): Tensor {
  const [y, mean, variance] = apply(batchNormOp, [x, weight, bias, null], { eps });
  if (running)
    moveRunningStatistics(running, { mean: mean!, variance: variance! }, x.size / Math.max(1, mean!.size), momentum);
  return y!;
}

// ---- The function -----------------------------------------------------------------------------------------------------------------

/** Options of `batchNorm`. */
export interface BatchNormOptions {
  /** [C], factor per channel. Default: ones. */
  weight?: Tensor | null | undefined;
  /** [C], added per channel. Default: zeros. */
  bias?: Tensor | null | undefined;
  /** Whether the batch's own statistics are used, and the running ones moved. Default false. */
  training?: boolean | undefined;
  /** Share of the batch in the new running statistics. Default 0.1. */
  momentum?: number | undefined;
  /** Added to the variance. Default 1e-5. */
  eps?: number | undefined;
}

const OPTIONS = ['weight', 'bias', 'training', 'momentum', 'eps'];

/** The tensor as the kernels take it: channels-last or row-major. Throws unless it is f32 with at least two dimensions. */
export function checkBatchNormInput(x: Tensor): Tensor {
  checkReadable('batchNorm', x);
  checkFloat('batchNorm', x);
  if (x.shape.length < 2)
    throw new RangeError(`batchNorm: expected at least 2 dimensions [N,C,...], got shape ${show(x.shape)}`);
  const fits = isContiguous(x.shape, x.strides) || isChannelsLast(x.shape, x.strides);
  return fits ? x : contiguous(x);
}

function checkPerChannel(op: string, C: number, vectors: Readonly<Record<string, Operand | undefined>>): void {
  for (const [name, vector] of Object.entries(vectors)) {
    if (!vector) continue;
    checkReadable(op, vector);
    if (vector.dtype !== 'f32') throw new TypeError(`${op}: ${name} must be f32, got ${vector.dtype}`);
    if (vector.shape.length !== 1 || vector.shape[0] !== C)
      throw new RangeError(`${op}: ${name} ${show(vector.shape)} must be [${C}], one number per channel of the input`);
  }
}

function checkNumber(name: string, value: unknown): void {
  if (typeof value !== 'number') throw new TypeError(`batchNorm: ${name} must be a number, got ${printed(value)}`);
  if (!Number.isFinite(value) || value < 0)
    throw new RangeError(`batchNorm: ${name} must be a finite number >= 0, got ${value}`);
}

/**
 * (x - mean) / sqrt(variance + eps) weight + bias, channel by channel: x [N,C], [N,C,L], [N,C,H,W] ... In training, mean and variance are the
 * batch's (the variance divided by n), the gradient flows through them, and `runningMean` and `runningVar` [C], if given, move
 * towards them in place by `momentum` (there the variance is divided by n - 1). In evaluation the running ones are used.
 *
 * Source: torch.nn.functional.batch_norm; Ioffe and Szegedy, "Batch Normalization", arXiv:1502.03167.
 *
 * @throws RangeError for other shapes, missing running statistics in evaluation, or one value per channel in training; TypeError for
 *   an unknown option or another dtype
 * @example
 * ```ts
 * import { init, tensor, zeros, ones } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const runningMean = zeros([1]);
 * const y = F.batchNorm(tensor([[1], [3]]), runningMean, ones([1]), { training: true, momentum: 0.5, eps: 0 });
 * if (y.data().join() !== '-1,1' || runningMean.item() !== 1) throw new Error('wrong');
 * ```
 */
export function batchNorm(
  x: Tensor,
  runningMean: Tensor | null,
  runningVar: Tensor | null,
  options: BatchNormOptions = {},
): Tensor {
  checkOptions('batchNorm', options, OPTIONS);
  const { weight = null, bias = null, training = false, momentum = 0.1, eps = 1e-5 } = options;
  checkFlag('batchNorm', 'training', training);
  checkNumber('momentum', momentum);
  checkNumber('eps', eps);
  const input = checkBatchNormInput(x);
  checkPerChannel('batchNorm', x.shape[1]!, { runningMean, runningVar, weight, bias });
  if ((runningMean === null) !== (runningVar === null))
    throw new RangeError('batchNorm: runningMean and runningVar must be given together');
  const running = runningMean && runningVar && { mean: runningMean, variance: runningVar };
  if (training) return batchNormTraining(input, { weight, bias, eps }, running, momentum);
  if (!running) throw new RangeError('batchNorm: runningMean and runningVar must be given in evaluation mode');
  return apply(batchNormEvalOp, [input, weight, bias, running.mean, running.variance], { eps })[0]!;
}
