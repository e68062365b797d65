// Losses: cross-entropy of class scores against labels, negative log-likelihood, mean squared error.

import * as kernels from '../generated/kernels.ts';
import { NOWHERE } from '../runtime/command.ts';
import { apply } from '../tensor/apply.ts';
import { checkOptions, onesLike, zerosLike } from '../tensor/create.ts';
import type { Op, Operand, OutputSpec } from '../tensor/op.ts';
import { printed } from '../tensor/printed.ts';
import { show } from '../tensor/shape.ts';
import { locationOf, Tensor } from '../tensor/tensor.ts';
import { contiguous, dense, relayout, to } from './copy.ts';
import { add, div, mul, neg, sub } from './elementwise.ts';
import { permute, reshape } from './shape.ts';
import { logSoftmax, type Rows, rowGrid, rowsOf } from './softmax.ts';
import { sum } from './sum.ts';
import { checkFloat } from './unary-op.ts';

/** What becomes of the losses of the samples. */
export type Reduction = 'mean' | 'sum' | 'none';

/** Options of `nllLoss`. */
export interface NllLossOptions {
  /** Weight of each class, f32 [C]. */
  weight?: Tensor | undefined;
  /** Samples with this label count nothing. Default -100. */
  ignoreIndex?: number | undefined;
  /** 'mean' divides by the sum of the weights of the samples that count. Default 'mean'. */
  reduction?: Reduction | undefined;
}

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions extends NllLossOptions {
  /** Share of the target that is spread over all classes, 0 to 1. Default 0. */
  labelSmoothing?: number | undefined;
}

/** Options of `mseLoss`. */
export interface MseLossOptions {
  /** Default 'mean'. */
  reduction?: Reduction | undefined;
}

const NLL_OPTIONS = ['weight', 'ignoreIndex', 'reduction'];

function checkReduction(op: string, reduction: unknown): asserts reduction is Reduction {
  if (reduction !== 'mean' && reduction !== 'sum' && reduction !== 'none')
    throw new RangeError(`${op}: reduction is 'mean', 'sum' or 'none', got ${printed(reduction)}`);
}

// ---- Classes --------------------------------------------------------------------------------------------------------

/** Options after defaults, without tensors. */
interface ClassOptions {
  readonly reduction: Reduction;
  readonly ignoreIndex: number;
  readonly labelSmoothing: number;
}

/** Geometry of a loss over rows. */
interface ClassGeometry extends Rows, ClassOptions {}

function optional(tensor: Operand | undefined): ReturnType<typeof locationOf> {
  return tensor ? locationOf(tensor) : NOWHERE;
}

function checkWeight(op: string, weight: Operand, n: number): void {
  if (!weight) return;
  checkFloat(`${op}: weight`, weight);
  if (weight.shape.length !== 1 || weight.shape[0] !== n)
    throw new RangeError(`${op}: weight ${show(weight.shape)} for ${n} classes, expected [${n}]`);
}

/** Outputs: the loss, then, if the losses are added up, what their sum was divided by. */
function lossSpecs({ rows, reduction }: Rows & ClassOptions): OutputSpec[] {
  if (reduction === 'none') return [{ shape: [rows], dtype: 'f32' }];
  return [
    { shape: [], dtype: 'f32' },
    { shape: [], dtype: 'f32' },
  ];
}

function inferClasses(op: string, x: Tensor, weight: Operand, options: ClassOptions): ClassGeometry {
  const rows = rowsOf(x);
  checkWeight(op, weight, rows.n);
  return { ...rows, ...options };
}

/** inputs: scores [M, C], labels [M], weight. outputs: the probabilities for backward, then `lossSpecs`. */
const crossEntropyOp: Op<ClassOptions, ClassGeometry> = {
  name: 'crossEntropy',
  infer([x, , weight], options) {
    const geometry = inferClasses('crossEntropy', x!, weight!, options);
    return { geometry, outputs: [{ shape: x!.shape, dtype: 'f32' }, ...lossSpecs(geometry)] };
  },
  lower(emit, geometry, [x, labels, weight], [probabilities, loss, divisor]) {
    const { rows, n, block, ignoreIndex, labelSmoothing, reduction } = geometry;
    const losses = reduction === 'none' ? locationOf(loss!) : emit.temporary(4 * rows);
    const counts = emit.temporary(4 * rows);
    emit.command(
      kernels.crossEntropy,
      {
        losses,
        counts,
        probabilities: locationOf(probabilities!),
        x: locationOf(x!),
        labels: locationOf(labels!),
        weight: optional(weight),
        rows,
        n,
        block,
        ignoreIndex,
        smoothing: labelSmoothing,
      },
      rowGrid(geometry, 4),
    );
    if (divisor) emitTotal(emit, geometry, losses, counts, loss!, divisor);
  },
  backward({ geometry, inputs: [, labels, weight], outputs: [probabilities, , divisor], gradients: [dp, dy] }) {
    const operands = [probabilities!, labels!, weight ?? null, dy ? contiguous(dy) : null, divisor ?? null];
    const direct = dy ? apply(crossEntropyGradOp, operands, geometry)[0]! : null;
    // A gradient of the probabilities arrives only where `crossEntropyGrad` is differentiated.
    const through = dp ? mul(sub(dp, rowSums(mul(dp, probabilities!))), probabilities!) : null;
    return [direct && through ? add(direct, through) : (direct ?? through), null, null];
  },
  saves: { inputs: [1, 2], outputs: [0, 2] },
};

function emitTotal(
  emit: Parameters<typeof crossEntropyOp.lower>[0],
  { rows, reduction }: ClassGeometry,
  losses: ReturnType<typeof locationOf>,
  counts: ReturnType<typeof locationOf>,
  loss: Tensor,
  divisor: Tensor,
): void {
  const operands = { y: locationOf(loss), divisor: locationOf(divisor), losses, counts };
  emit.command(
    kernels.lossTotal,
    { ...operands, rows, mean: reduction === 'mean' ? 1 : 0 },
    { tiles: 1, work: rows / 4 },
  );
}

/** inputs: probabilities, labels, weight, gradient of the loss, divisor. */
const crossEntropyGradOp: Op<ClassGeometry, ClassGeometry> = {
  name: 'crossEntropyGrad',
  infer: ([p], geometry) => ({ geometry, outputs: [{ shape: p!.shape, dtype: 'f32' }] }),
  lower(emit, geometry, [probabilities, labels, weight, g, divisor], [dx]) {
    const { rows, n, block, ignoreIndex, labelSmoothing, reduction } = geometry;
    emit.command(
      kernels.crossEntropyGrad,
      {
        dx: locationOf(dx!),
        probabilities: locationOf(probabilities!),
        labels: locationOf(labels!),
        weight: optional(weight),
        g: locationOf(g!),
        divisor: optional(divisor),
        rows,
        n,
        block,
        ignoreIndex,
        smoothing: labelSmoothing,
        perRow: reduction === 'none' ? 1 : 0,
      },
      rowGrid(geometry, 1),
    );
  },
  // dx = (a p - b) dy with numbers a per row and b that p has no part in: what differs between two p is a times their difference.
  backward({ geometry, inputs: [p, labels, weight, dy, divisor], gradients: [ddx], needs }) {
    const gradient = (probabilities: Tensor, g: Tensor): Tensor =>
      apply(crossEntropyGradOp, [probabilities, labels!, weight ?? null, g, divisor ?? null], geometry)[0]!;
    const u = contiguous(ddx!);
    const ofP = needs[0] ? sub(gradient(u, dy!), gradient(zerosLike(u), dy!)) : null;
    return [ofP, null, null, needs[3] ? lossGradient(u, gradient(p!, onesLike(dy!)), geometry) : null, null];
  },
  saves: { inputs: [0, 1, 2, 3, 4] },
};

/** Sums of rows [M, C] as [M, 1]. */
function rowSums(x: Tensor): Tensor {
  return sum(x, { dim: 1, keepdim: true });
}

/** The gradient of dy, from that of dx = dy * perUnit. */
function lossGradient(ddx: Tensor, perUnit: Tensor, { reduction }: ClassOptions): Tensor {
  return sum(mul(ddx, perUnit), reduction === 'none' ? { dim: 1 } : {});
}

/** inputs: log-probabilities [M, C], labels [M], weight. */
const nllLossOp: Op<ClassOptions, ClassGeometry> = {
  name: 'nllLoss',
  infer([x, , weight], options) {
    const geometry = inferClasses('nllLoss', x!, weight!, options);
    return { geometry, outputs: lossSpecs(geometry) };
  },
  lower(emit, geometry, [x, labels, weight], [loss, divisor]) {
    const { rows, n, block, ignoreIndex, reduction } = geometry;
    const losses = reduction === 'none' ? locationOf(loss!) : emit.temporary(4 * rows);
    const counts = emit.temporary(4 * rows);
    const operands = { losses, counts, x: locationOf(x!), labels: locationOf(labels!), weight: optional(weight) };
    emit.command(kernels.nllLoss, { ...operands, rows, n, block, ignoreIndex }, rowGrid(geometry, 2 / n));
    if (divisor) emitTotal(emit, geometry, losses, counts, loss!, divisor);
  },
  backward({ geometry, inputs: [, labels, weight], outputs: [, divisor], gradients: [dy] }) {
    if (!dy) return [null, null, null];
    const operands = [labels!, weight ?? null, contiguous(dy), divisor ?? null];
    return [apply(nllLossGradOp, operands, geometry)[0]!, null, null];
  },
  saves: { inputs: [1, 2], outputs: [1] },
};

/** inputs: labels, weight, gradient of the loss, divisor. Linear in the gradient. */
const nllLossGradOp: Op<ClassGeometry, ClassGeometry> = {
  name: 'nllLossGrad',
  infer: (_inputs, geometry) => ({ geometry, outputs: [{ shape: [geometry.rows, geometry.n], dtype: 'f32' }] }),
  lower(emit, geometry, [labels, weight, g, divisor], [dx]) {
    const { rows, n, block, ignoreIndex, reduction } = geometry;
    const inputs = {
      labels: locationOf(labels!),
      weight: optional(weight),
      g: locationOf(g!),
      divisor: optional(divisor),
    };
    const args = { dx: locationOf(dx!), ...inputs, rows, n, block, ignoreIndex, perRow: reduction === 'none' ? 1 : 0 };
    emit.command(kernels.nllLossGrad, args, rowGrid(geometry, 0.2));
  },
  backward({ geometry, inputs: [labels, weight, dy, divisor], gradients: [ddx] }) {
    const operands = [labels!, weight ?? null, onesLike(dy!), divisor ?? null];
    return [null, null, lossGradient(ddx!, apply(nllLossGradOp, operands, geometry)[0]!, geometry), null];
  },
  saves: { inputs: [0, 1, 2, 3] },
};

/** Scores [N, C, ...] as rows [M, C] with the classes last. */
function toRows(op: string, x: Tensor): Tensor {
  checkFloat(op, x);
  const rank = x.shape.length;
  if (rank === 0) throw new RangeError(`${op}: scores [] have no dimension of classes, expected [C] or [N,C,...]`);
  const order = x.shape.map((_, i) => i).filter((i) => i !== 1);
  const last = rank > 2 ? permute(x, [...order, 1]) : x;
  return contiguous(reshape(last, [rank === 1 ? 1 : -1, x.shape[rank === 1 ? 0 : 1]!]));
}

/** Shape of the labels that belong to scores [C] or [N, C, ...]. */
function labelShape(shape: readonly number[]): number[] {
  return shape.length === 1 ? [] : shape.filter((_, i) => i !== 1);
}

function checkLabels(op: string, x: Tensor, target: Tensor): void {
  if (!(target instanceof Tensor)) throw new TypeError(`${op}: target must be a Tensor, got ${typeof target}`);
  const expected = labelShape(x.shape);
  if (show(target.shape) !== show(expected))
    throw new RangeError(
      `${op}: scores ${show(x.shape)} need one label per sample, ${show(expected)}, got target ${show(target.shape)}`,
    );
}

function classOptions(op: string, options: CrossEntropyOptions): ClassOptions {
  const { ignoreIndex = -100, reduction = 'mean', labelSmoothing = 0 } = options;
  checkReduction(op, reduction);
  if (!Number.isInteger(ignoreIndex))
    throw new RangeError(`${op}: ignoreIndex must be a whole number, got ${ignoreIndex}`);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new RangeError(`${op}: labelSmoothing must lie between 0 and 1, got ${labelSmoothing}`);
  return { ignoreIndex, reduction, labelSmoothing };
}

/** Losses per sample get the shape of the labels again. */
function shaped(loss: Tensor, target: Tensor, { reduction }: ClassOptions): Tensor {
  return reduction === 'none' ? reshape(loss, target.shape) : loss;
}

/**
 * Cross-entropy between class scores (logits) and labels: -log softmax(x)[label], as mean, sum or per sample.
 *
 * x is [N, C], [C] or [N, C, ...]; target holds labels (i32 or u8) of shape [N], [] or [N, ...], or probabilities (f32) of the shape
 * of x. `weight` [C] weighs the classes, samples labelled `ignoreIndex` count nothing, `labelSmoothing` spreads a part of the
 * target over all classes. Source: torch.nn.functional.cross_entropy; smoothing: Szegedy et al., arXiv:1512.00567.
 *
 * @throws RangeError for shapes that do not fit, options out of range, and (when it runs) a label outside 0 .. C - 1; TypeError for another dtype or unknown option
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const loss = F.crossEntropy(tensor([[0, 0], [0, 0]]), tensor([0, 1], { dtype: 'i32' }));
 * if (Math.abs(loss.item() - Math.log(2)) > 1e-6) throw new Error('wrong');
 * ```
 */
export function crossEntropy(x: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  checkOptions('crossEntropy', options, [...NLL_OPTIONS, 'labelSmoothing']);
  const settings = classOptions('crossEntropy', options);
  const rows = toRows('crossEntropy', x);
  if (target instanceof Tensor && target.dtype === 'f32') return softTargets(x, target, options, settings);
  checkLabels('crossEntropy', x, target);
  const labels = contiguous(reshape(to(target, 'i32'), [-1]));
  const [, loss] = apply(crossEntropyOp, [rows, labels, options.weight ?? null], settings);
  return shaped(loss!, target, settings);
}

/** Cross-entropy against probabilities: a composite; its mean divides by the number of samples. */
function softTargets(x: Tensor, target: Tensor, { weight }: CrossEntropyOptions, options: ClassOptions): Tensor {
  if (show(target.shape) !== show(x.shape))
    throw new RangeError(
      `crossEntropy: target ${show(target.shape)} holds probabilities (f32) and must have the shape of the scores ${show(x.shape)}; labels are i32`,
    );
  const dim = x.shape.length === 1 ? 0 : 1;
  const n = x.shape[dim]!;
  checkWeight('crossEntropy', weight ?? null, n);
  const { labelSmoothing, reduction } = options;
  const wanted = labelSmoothing ? sub(mul(target, 1 - labelSmoothing), -labelSmoothing / n) : target;
  const logs = logSoftmax(x, dim);
  const perClass = weight
    ? reshape(
        weight,
        x.shape.map((_, i) => (i === dim ? n : 1)),
      )
    : null;
  const losses = neg(sum(mul(wanted, perClass ? mul(logs, perClass) : logs), { dim }));
  if (reduction === 'none') return losses;
  return reduction === 'sum' ? sum(losses) : div(sum(losses), losses.size);
}

/**
 * Negative log-likelihood: -x[label], as mean, sum or per sample, for log-probabilities x as `logSoftmax` gives them. Shapes and
 * options as `crossEntropy`. Source: torch.nn.functional.nll_loss.
 *
 * @throws as `crossEntropy`
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const loss = F.nllLoss(tensor([[-1, -2], [-3, -4]]), tensor([0, 1], { dtype: 'i32' }));
 * if (loss.item() !== 2.5) throw new Error('wrong');
 * ```
 */
export function nllLoss(x: Tensor, target: Tensor, options: NllLossOptions = {}): Tensor {
  checkOptions('nllLoss', options, NLL_OPTIONS);
  const settings = classOptions('nllLoss', options);
  const rows = toRows('nllLoss', x);
  checkLabels('nllLoss', x, target);
  if (target.dtype === 'f32') throw new TypeError('nllLoss: target holds labels and must be i32, got f32');
  const labels = contiguous(reshape(to(target, 'i32'), [-1]));
  const [loss] = apply(nllLossOp, [rows, labels, options.weight ?? null], settings);
  return shaped(loss!, target, settings);
}

// ---- Squared error --------------------------------------------------------------------------------------------------

interface SquaredErrorGeometry {
  readonly n: number;
  /** What the sum is divided by. */
  readonly divisor: number;
}

/** Sum of squared differences of two tensors of one dense layout, divided by `divisor`. */
const squaredErrorOp: Op<SquaredErrorGeometry, SquaredErrorGeometry> = {
  name: 'mseLoss',
  infer: (_inputs, geometry) => ({ geometry, outputs: [{ shape: [], dtype: 'f32' }] }),
  lower(emit, { n, divisor }, [x, target], [y]) {
    const tiles = Math.ceil(n / kernels.SQUARED_ERROR_TILE);
    const partial = emit.temporary(4 * Math.max(1, tiles));
    const operands = { y: partial, x: locationOf(x!), target: locationOf(target!) };
    emit.command(kernels.squaredError, { ...operands, n }, { tiles, work: n * 0.2 });
    const walk = { dims: emit.table([tiles, 1]), kept: 0, reduced: 1, outputs: 1, block: 1, chunk: 0 };
    emit.command(kernels.sumRows, { y: locationOf(y!), x: partial, ...walk, divisor }, { tiles: 1, work: tiles });
  },
  backward({ geometry: { n, divisor }, inputs: [x, target], gradients: [dy], needs }) {
    const grad = (scale: number): Tensor => apply(squaredErrorGradOp, [x!, target!, dy!], { n, scale })[0]!;
    return [needs[0] ? grad(2 / divisor) : null, needs[1] ? grad(-2 / divisor) : null];
  },
  saves: { inputs: [0, 1] },
};

interface SquaredErrorGradOptions {
  readonly n: number;
  readonly scale: number;
}

/** scale g (x - target). */
const squaredErrorGradOp: Op<SquaredErrorGradOptions, SquaredErrorGradOptions> = {
  name: 'mseLossGrad',
  infer: ([x], geometry) => ({ geometry, outputs: [{ shape: x!.shape, dtype: 'f32', strides: x!.strides }] }),
  lower(emit, { n, scale }, [x, target, g], [dx]) {
    const operands = { dx: locationOf(dx!), x: locationOf(x!), target: locationOf(target!), g: locationOf(g!) };
    const tiles = Math.ceil(n / kernels.SQUARED_ERROR_TILE);
    emit.command(kernels.squaredErrorGrad, { ...operands, n, scale }, { tiles, work: n * 0.4 });
  },
  backward({ geometry: { scale }, inputs: [x, target, g], gradients: [d], needs }) {
    const along = needs[0] || needs[1] ? mul(mul(d!, g!), scale) : null;
    const ofG = needs[2] ? sum(mul(mul(d!, sub(x!, target!)), scale)) : null;
    return [needs[0] ? along : null, needs[1] ? neg(along!) : null, ofG && reshape(ofG, g!.shape)];
  },
  saves: { inputs: [0, 1, 2] },
};

/**
 * Squared difference of two f32 tensors of one shape, as mean over all elements, sum or per element.
 * Source: torch.nn.functional.mse_loss (which also broadcasts; that is refused here, since it is nearly always a mistake).
 *
 * @throws RangeError for different shapes or another reduction, TypeError for another dtype or an unknown option
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * if (F.mseLoss(tensor([1, 2]), tensor([3, 2])).item() !== 2) throw new Error('wrong');
 * ```
 */
export function mseLoss(x: Tensor, target: Tensor, options: MseLossOptions = {}): Tensor {
  checkOptions('mseLoss', options, ['reduction']);
  const { reduction = 'mean' } = options;
  checkReduction('mseLoss', reduction);
  if (!(target instanceof Tensor)) throw new TypeError(`mseLoss: target must be a Tensor, got ${typeof target}`);
  checkFloat('mseLoss', x);
  checkFloat('mseLoss', target);
  if (show(x.shape) !== show(target.shape))
    throw new RangeError(`mseLoss: x ${show(x.shape)} and target ${show(target.shape)} have different shapes`);
  if (reduction === 'none') {
    const difference = sub(x, target);
    return mul(difference, difference);
  }
  const base = dense(x);
  const geometry = { n: x.size, divisor: reduction === 'mean' ? x.size : 1 };
  return apply(squaredErrorOp, [base, relayout(target, base.strides)], geometry)[0]!;
}
