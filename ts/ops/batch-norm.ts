// Batch normalisation: y = (x - mean) / sqrt(variance + eps) weight + bias, channel by channel (dimension 1).
//
// In training the statistics are those of the batch, and outputs of the op: backward reads them, and `updateRunningStatistics`, an
// op call of its own, moves the running ones, so that recomputing the forward pass leaves them alone.
//
// The geometry carries bounds and the op takes a residual: a pass over captured calls may fold the `add` and the clamp (relu, relu6)
// that follow into y = clamp(batchNorm(x) + residual, lo, hi), and the backward of that clamp into `batchNormBackward`, whose last
// operand is then the clamped y.
import * as kernels from '../generated/kernels.ts';
import { type Emitter, type Grid, type Location, NOWHERE } from '../runtime/command.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import { checkFlag, checkOptions } from '../tensor/create.ts';
import type { BackwardContext, Op, Operand } from '../tensor/op.ts';
import { printed } from '../tensor/printed.ts';
import { isChannelsLast, isContiguous, show, sizeOf } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { contiguous, relayout } from './copy.ts';
import { add, div, mul, sub } from './elementwise.ts';
import { sum } from './reduce.ts';
import { expand, reshape } from './shape.ts';
import { checkFloat, reciprocal, sqrt } from './unary.ts';

// ---- Geometry -------------------------------------------------------------------------------------------------------------

/** How the kernels walk x; see assembly/batch-norm.ts. */
export interface BatchNormGeometry {
  /** Channels innermost, or one channel at a time. */
  readonly columns: boolean;
  readonly C: number;
  /** Rows, or elements of a plane. */
  readonly length: number;
  /** Planes; 1 for columns. */
  readonly planes: number;
  /** Rows or elements of a plane that statistics sum up at once. */
  readonly block: number;
  /** Elements per channel. */
  readonly count: number;
  readonly eps: number;
  /** The output is clamped to these: -Infinity and Infinity unless a pass moved an activation in here. */
  readonly lo: number;
  readonly hi: number;
}

/** Elements that a block of rows holds: it stays in the second-level cache for its second pass. */
const ROW_BLOCK_ELEMENTS = 16384;

function geometryOf(x: Tensor, eps: number): BatchNormGeometry {
  const [, C] = x.shape as [number, number];
  const count = x.size / Math.max(1, C);
  const columns = C > 1 && (x.shape.length === 2 || isChannelsLast(x.shape, x.strides));
  const planes = columns ? 1 : C === 1 ? 1 : x.shape[0]! * C;
  const length = columns || C === 1 ? count : sizeOf(x.shape.slice(2));
  const rows = Math.max(4, Math.floor(ROW_BLOCK_ELEMENTS / Math.max(1, C)));
  const bounds = { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY };
  return { columns, C, length, planes, block: columns ? rows : kernels.PLANE_BLOCK, count, eps, ...bounds };
}

/** Fields that the records share. */
function walkOf({ C, length, block }: BatchNormGeometry): { C: number; length: number; block: number } {
  return { C, length, block };
}

function boundsOf({ lo, hi }: BatchNormGeometry): { lo: number; hi: number } {
  return { lo, hi };
}

function tilesOf({ planes, length, block }: BatchNormGeometry): number {
  return planes * Math.ceil(length / block);
}

/** Blocks of statistics per channel. */
function blocksOf(geometry: BatchNormGeometry): number {
  return tilesOf(geometry) / (geometry.columns ? 1 : geometry.C);
}

/** The grid of a kernel over all elements that takes `nanoseconds` for each; `sums` rows of C floats of scratch. */
function elementGrid(geometry: BatchNormGeometry, nanoseconds: number, sums = 0): Grid {
  const { columns, C, count } = geometry;
  const scratch = columns ? 4 * sums * 8 * Math.ceil(C / 8) : 0;
  return { tiles: tilesOf(geometry), work: C * count * nanoseconds, scratch };
}

/** The grid of a kernel over groups of four channels. */
function channelGrid(geometry: BatchNormGeometry): Grid {
  return { tiles: Math.ceil(geometry.C / 4), work: geometry.C * blocksOf(geometry) };
}

function optional(x: Operand | undefined): Location {
  return x ? locationOf(x) : NOWHERE;
}

// ---- Forward --------------------------------------------------------------------------------------------------------------

interface NormOptions {
  readonly eps: number;
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

function emitMoments(emit: Emitter, geometry: BatchNormGeometry, x: Tensor, mean: Tensor, variance: Tensor): void {
  const blocks = blocksOf(geometry);
  const partials = emit.temporary(8 * blocks * geometry.C);
  const walk = walkOf(geometry);
  const kernel = geometry.columns ? kernels.batchNormMomentsColumns : kernels.batchNormMomentsPlanes;
  emit.command(kernel, { partials, x: locationOf(x), ...walk }, elementGrid(geometry, 0.3, 1));
  const outputs = { mean: locationOf(mean), variance: locationOf(variance) };
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
  readonly residual: Operand;
}

function emitNormalise(emit: Emitter, geometry: BatchNormGeometry, operands: NormOperands): void {
  const { C, eps } = geometry;
  const { x, y, mean, variance, weight, bias, residual } = operands;
  const coefficients = emit.temporary(8 * C);
  const affine = { variance: locationOf(variance), weight: optional(weight), bias: optional(bias) };
  emit.command(kernels.batchNormScale, { coefficients, ...affine, C, eps }, { tiles: 1, work: 4 * C });
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
 * the batch. Bounds and residual come from passes alone, behind the tape: backward here knows neither.
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
    return { geometry, outputs: [y, perChannel, perChannel] };
  },
  lower(emit, geometry, [x, weight, bias, residual], [y, mean, variance]) {
    emitMoments(emit, geometry, x!, mean!, variance!);
    emitNormalise(emit, geometry, {
      x: x!,
      y: y!,
      weight: weight!,
      bias: bias!,
      mean: mean!,
      variance: variance!,
      residual: residual!,
    });
  },
  backward({ geometry, inputs: [x, weight], outputs: [, mean, variance], gradients: [dy, dmean, dvariance], needs }) {
    const [dx, dweight, dbias] = dy
      ? gradients({ dy, x: x!, weight: weight!, mean: mean!, variance: variance!, geometry, needs, batch: true })
      : [null, null, null];
    return [needs[0] ? withMoments(dx, x!, mean!, geometry, [dmean!, dvariance!]) : null, dweight, dbias, null];
  },
  saves: { inputs: [0, 1], outputs: [1, 2] },
};

/** Evaluation. Inputs: x, weight or null, bias or null, mean, variance. Output: y. */
export const batchNormEvalOp: Op<NormOptions, BatchNormGeometry> = {
  name: 'batchNormEval',
  infer: ([x], { eps }) => ({
    geometry: geometryOf(x!, eps),
    outputs: [{ shape: x!.shape, dtype: 'f32', strides: x!.strides }],
  }),
  lower(emit, geometry, [x, weight, bias, mean, variance], [y]) {
    const statistics = { mean: mean!, variance: variance! };
    emitNormalise(emit, geometry, { x: x!, y: y!, weight: weight!, bias: bias!, ...statistics, residual: null });
  },
  backward({ geometry, inputs: [x, weight, , mean, variance], gradients: [dy], needs }) {
    if (needs[3] || needs[4])
      throw new Error('backward: batchNormEval has no gradient for given mean and variance; detach() them');
    const operands = { dy: dy!, x: x!, weight: weight!, mean: mean!, variance: variance! };
    return [...gradients({ ...operands, geometry, needs, batch: false }), null, null];
  },
  saves: { inputs: [0, 1, 3, 4] },
};

// ---- Backward -------------------------------------------------------------------------------------------------------------

/** Geometry of `batchNormBackward`. */
export interface BatchNormBackwardGeometry extends BatchNormGeometry {
  /** Whether mean and variance are those of x, and so depend on it. */
  readonly batch: boolean;
  /** Whether dx is wanted. */
  readonly input: boolean;
}

/** Inputs: dy, x, weight or null, mean, variance, clamped y or null. Outputs: dweight, dbias, and dx if it is wanted. */
export const batchNormBackwardOp: Op<BatchNormBackwardGeometry, BatchNormBackwardGeometry> = {
  name: 'batchNormBackward',
  infer([, x], geometry) {
    const perChannel = { shape: [geometry.C], dtype: 'f32' as const };
    const dx = { shape: x!.shape, dtype: 'f32' as const, strides: x!.strides };
    return { geometry, outputs: geometry.input ? [perChannel, perChannel, dx] : [perChannel, perChannel] };
  },
  lower(emit, geometry, [dy, x, weight, mean, variance, y], [dweight, dbias, dx]) {
    const { columns, C, count, eps, batch } = geometry;
    const blocks = blocksOf(geometry);
    const [partials, coefficients] = [emit.temporary(8 * blocks * C), emit.temporary(12 * C)];
    const places = { dy: locationOf(dy!), x: locationOf(x!), mean: locationOf(mean!), y: optional(y) };
    const walk = { ...walkOf(geometry), ...boundsOf(geometry) };
    const sums = columns ? kernels.batchNormSumsColumns : kernels.batchNormSumsPlanes;
    emit.command(sums, { partials, ...places, ...walk }, elementGrid(geometry, 0.3, 2));
    const results = { dweight: locationOf(dweight!), dbias: locationOf(dbias!), coefficients };
    const affine = { variance: locationOf(variance!), weight: optional(weight) };
    const sizes = { C, blocks, count: batch ? count : 0, eps };
    emit.command(kernels.batchNormGradients, { ...results, partials, ...affine, ...sizes }, channelGrid(geometry));
    if (!dx) return;
    const inputGrad = columns ? kernels.batchNormInputGradColumns : kernels.batchNormInputGradPlanes;
    emit.command(inputGrad, { dx: locationOf(dx), ...places, coefficients, ...walk }, elementGrid(geometry, 0.4));
  },
  backward: (context) => secondGradients(context),
  saves: { inputs: [0, 1, 2, 3, 4] },
};

interface GradientOperands {
  readonly dy: Tensor;
  readonly x: Tensor;
  readonly weight: Operand;
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly geometry: BatchNormGeometry;
  readonly needs: readonly boolean[];
  readonly batch: boolean;
}

/** Gradients of x, weight and bias. */
function gradients(operands: GradientOperands): [dx: Operand, dweight: Operand, dbias: Operand] {
  const { dy, x, weight, mean, variance, geometry, needs, batch } = operands;
  const inputs = [relayout(dy, x.strides), x, weight, mean, variance, null];
  const [dweight, dbias, dx] = apply(batchNormBackwardOp, inputs, { ...geometry, batch, input: needs[0]! });
  return [dx ?? null, needs[1] ? dweight! : null, needs[2] ? dbias! : null];
}

/** Adds what the gradients of mean and variance contribute to dx; they arrive only where a gradient is differentiated again. */
function withMoments(
  dx: Operand,
  x: Tensor,
  mean: Tensor,
  { count }: BatchNormGeometry,
  [dmean, dvariance]: readonly Operand[],
): Operand {
  const rank = x.shape.length;
  const terms = [dx];
  if (dmean) terms.push(expand(div(perChannel(dmean, rank), count), x.shape));
  if (dvariance) terms.push(mul(sub(x, perChannel(mean, rank)), mul(perChannel(dvariance, rank), 2 / count)));
  return terms
    .filter((term) => term !== null)
    .reduce<Operand>((total, term) => (total ? add(total, term) : term), null);
}

/** [C] as [1, C, 1, ...]. */
function perChannel(vector: Tensor, rank: number): Tensor {
  return reshape(
    vector,
    Array.from({ length: rank }, (_, axis) => (axis === 1 ? vector.size : 1)),
  );
}

/**
 * The gradients of dy, x and weight from those of dweight (a), dbias (b) and dx (u). With r = 1 / sqrt(variance + eps), xhat = r (x - mean) and
 * the projection P(v) = v - mean(v) - xhat mean(v xhat), which is v itself where the statistics were given:
 * dx = weight r P(dy), dweight = sum(dy xhat), dbias = sum(dy).
 */
function secondGradients(context: BackwardContext<BatchNormBackwardGeometry>): Operand[] {
  const { geometry, inputs, gradients: arrived, needs } = context;
  const [dy, x, weight, mean, variance] = inputs as [Tensor, Tensor, Operand, Tensor, Tensor];
  const { count, eps, batch, C } = geometry;
  const rank = x.shape.length;
  const channels = (vector: Tensor): Tensor => perChannel(vector, rank);
  const dim = x.shape.map((_, axis) => axis).filter((axis) => axis !== 1);
  const total = (v: Tensor): Tensor => sum(v, { dim, keepdim: true });
  const average = (v: Tensor): Tensor => div(total(v), count);
  const r = channels(reciprocal(sqrt(add(variance, eps))));
  const xhat = mul(sub(x, channels(mean)), r);
  const project = (v: Tensor): Tensor => (batch ? sub(sub(v, average(v)), mul(xhat, average(mul(v, xhat)))) : v);
  const scale = weight ? mul(channels(weight), r) : r;
  const a = arrived[0] ? channels(arrived[0]) : null;
  const b = arrived[1] ? channels(arrived[1]) : null;
  const u = arrived[2] ?? null;
  const plus = (terms: readonly Operand[]): Operand =>
    terms.reduce<Operand>((left, term) => (left && term ? add(left, term) : (left ?? term)), null);
  const ofDy = (): Operand => plus([u && mul(scale, project(u)), a && mul(a, xhat), b && expand(b, x.shape)]);
  const ofWeight = (): Operand => u && weight && reshape(mul(r, total(mul(u, project(dy)))), [C]);
  const ofX = (): Operand => {
    const direct = a && mul(a, dy);
    if (!batch) return direct && mul(direct, r);
    const throughNorm = u && mul(scale, add(mul(u, average(mul(dy, xhat))), mul(dy, average(mul(u, xhat)))));
    const ofXhat = plus([direct, throughNorm && mul(throughNorm, -1)]);
    const throughScale = u && mul(mul(xhat, mul(r, scale)), average(mul(u, project(dy))));
    const first = ofXhat && mul(r, project(ofXhat));
    return first && throughScale ? sub(first, throughScale) : first;
  };
  return [needs[0] ? ofDy() : null, needs[1] ? ofX() : null, needs[2] ? ofWeight() : null, null, null, null];
}

// ---- Running statistics ---------------------------------------------------------------------------------------------------

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

/** Normalises by the statistics of the batch; `running`, if given, is moved towards them. For `batchNorm` and the layer. */
export function batchNormTraining(
  x: Tensor,
  { weight, bias, eps }: { weight: Operand; bias: Operand; eps: number },
  running: RunningStatistics | null,
  momentum: number | null,
): Tensor {
  const [y, mean, variance] = apply(batchNormOp, [x, weight, bias, null], { eps });
  if (running) {
    const { mean: runningMean, variance: runningVariance, batches } = running;
    const operands = [runningMean, runningVariance, mean!, variance!, batches ?? null];
    const count = x.size / Math.max(1, mean!.size);
    apply(batches ? countedOp : uncountedOp, operands, { count, momentum });
  }
  return y!;
}

// ---- The function ---------------------------------------------------------------------------------------------------------

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
