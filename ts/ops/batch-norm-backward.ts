// The gradients of batch normalisation, which are an op of their own and can be differentiated again.
import * as kernels from '../generated/kernels.ts';
import { apply } from '../tensor/apply.ts';
import type { BackwardContext, Op, Operand } from '../tensor/op.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import {
  type BatchNormGeometry,
  blocksOf,
  boundsOf,
  channelGrid,
  elementGrid,
  optional,
  walkOf,
} from './batch-norm-geometry.ts';
import { relayout } from './copy.ts';
import { add, div, mul, sub } from './elementwise.ts';
import { reshape } from './shape.ts';
import { expand, sum } from './sum.ts';
import { reciprocal, sqrt } from './unary.ts';

/** Geometry of `batchNormBackward`. */
export interface BatchNormBackwardGeometry extends BatchNormGeometry {
  /** Whether mean and variance are those of x, and so depend on it. */
  readonly batch: boolean;
  /** Whether dx is wanted. */
  readonly input: boolean;
}

/** Inputs: dy, x, weight or null, mean, variance, clamped y or null, what the mean lost in rounding or null. Outputs: dweight, dbias, and dx if it is wanted. */
export const batchNormBackwardOp: Op<BatchNormBackwardGeometry, BatchNormBackwardGeometry> = {
  name: 'batchNormBackward',
  infer([, x], geometry) {
    const perChannel = { shape: [geometry.C], dtype: 'f32' as const };
    const dx = { shape: x!.shape, dtype: 'f32' as const, strides: x!.strides };
    return { geometry, outputs: geometry.input ? [perChannel, perChannel, dx] : [perChannel, perChannel] };
  },
  lower(emit, geometry, [dy, x, weight, mean, variance, y, rest], [dweight, dbias, dx]) {
    const { columns, C, count, eps, batch } = geometry;
    const blocks = blocksOf(geometry);
    const [partials, coefficients] = [emit.temporary(8 * blocks * C), emit.temporary(12 * C)];
    const places = { dy: locationOf(dy!), x: locationOf(x!), mean: locationOf(mean!), y: optional(y) };
    const walk = { ...walkOf(geometry), ...boundsOf(geometry) };
    const sums = columns ? kernels.batchNormSumsColumns : kernels.batchNormSumsPlanes;
    emit.command(sums, { partials, ...places, ...walk }, elementGrid(geometry, 0.3, 2));
    const results = { dweight: locationOf(dweight!), dbias: locationOf(dbias!), coefficients };
    const affine = { variance: locationOf(variance!), rest: optional(rest), weight: optional(weight) };
    const sizes = { C, blocks, count: batch ? count : 0, eps };
    emit.command(kernels.batchNormGradients, { ...results, partials, ...affine, ...sizes }, channelGrid(geometry));
    if (!dx) return;
    const inputGrad = columns ? kernels.batchNormInputGradColumns : kernels.batchNormInputGradPlanes;
    emit.command(inputGrad, { dx: locationOf(dx), ...places, coefficients, ...walk }, elementGrid(geometry, 0.4));
  },
  backward: (context) => secondGradients(context),
  saves: { inputs: [0, 1, 2, 3, 4, 6] },
};

interface GradientOperands {
  readonly dy: Tensor;
  readonly x: Tensor;
  readonly weight: Operand;
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** What the mean lost when it was rounded, or null. */
  readonly rest: Operand;
  readonly geometry: BatchNormGeometry;
  readonly needs: readonly boolean[];
  readonly batch: boolean;
}

/** Gradients of x, weight and bias. */
export function batchNormGradients(operands: GradientOperands): [dx: Operand, dweight: Operand, dbias: Operand] {
  const { dy, x, weight, mean, variance, rest, geometry, needs, batch } = operands;
  const inputs = [relayout(dy, x.strides), x, weight, mean, variance, null, rest];
  const [dweight, dbias, dx] = apply(batchNormBackwardOp, inputs, { ...geometry, batch, input: needs[0]! });
  return [dx ?? null, needs[1] ? dweight! : null, needs[2] ? dbias! : null];
}

/** Adds what the gradients of mean and variance contribute to dx; they arrive only where a gradient is differentiated again. */
export function withMomentGradients(
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
  const [dy, x, weight, mean, variance, , rest] = inputs as [Tensor, Tensor, Operand, Tensor, Tensor, null, Operand];
  const { count, eps, batch, C } = geometry;
  const rank = x.shape.length;
  const channels = (vector: Tensor): Tensor => perChannel(vector, rank);
  const dim = x.shape.map((_, axis) => axis).filter((axis) => axis !== 1);
  const total = (v: Tensor): Tensor => sum(v, { dim, keepdim: true });
  const average = (v: Tensor): Tensor => div(total(v), count);
  const r = channels(reciprocal(sqrt(add(variance, eps))));
  const deviation = sub(x, channels(mean));
  const xhat = mul(rest ? sub(deviation, channels(rest)) : deviation, r);
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
  return [needs[0] ? ofDy() : null, needs[1] ? ofX() : null, needs[2] ? ofWeight() : null, null, null, null, null];
}
