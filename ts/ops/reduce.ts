// Reductions over any axes besides sum: mean, variance, max, min and where the extrema lie.

import * as kernels from '../generated/kernels.ts';
import type { Emitter, Location } from '../runtime/command.ts';
import { apply } from '../tensor/apply.ts';
import { arange, checkOptions } from '../tensor/create.ts';
import type { DType } from '../tensor/dtype.ts';
import type { Inferred, Op, OutputSpec } from '../tensor/op.ts';
import { printed } from '../tensor/printed.ts';
import { show } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { eq } from './compare.ts';
import { to } from './copy.ts';
import { div, mul, sub } from './elementwise.ts';
import {
  axesOf,
  emitPass,
  type PlanOptions,
  planParts,
  type ReductionKernels,
  type ReductionPlan,
} from './reduction.ts';
import { reshape } from './shape.ts';
import {
  emitSum,
  inferReduction,
  REDUCE_OPTIONS,
  type ReduceOptions,
  type ReductionGeometry,
  SUM,
  spread,
  sum,
  sumOp,
} from './sum.ts';
import { checkFloat } from './unary-op.ts';

/** Options of `variance`. */
export interface VarianceOptions extends ReduceOptions {
  /** Divides by n - 1 (Bessel's correction), else by n. Default true. */
  unbiased?: boolean | undefined;
}

/** Options of `max` and `min`. */
export interface ExtremumOptions extends ReduceOptions {
  /** Returns [values, indices]; only for a single `dim`. Default false. */
  returnIndices?: boolean | undefined;
}

/** Options of `argmax` and `argmin`. */
export interface PositionOptions {
  /** Default: the position in the flattened tensor. */
  dim?: number | undefined;
  keepdim?: boolean | undefined;
}

const DEVIATION: ReductionKernels<{ divisor: number; centre: Location }> = {
  rows: kernels.deviationRows,
  columns: kernels.deviationColumns,
  cost: 0.15,
};
const EXTREMUM: ReductionKernels<{ kind: number }> = {
  rows: kernels.extremumRows,
  columns: kernels.extremumColumns,
  cost: 0.3,
};
const POSITION: ReductionKernels<{ kind: number; positions: Location }> = {
  rows: kernels.positionRows,
  columns: kernels.positionColumns,
  cost: 0.6,
};

// ---- Mean -----------------------------------------------------------------------------------------------------------

const meanOp = sumOp('mean', (dy, geometry) =>
  spread(geometry.divisor === 1 ? dy : mul(dy, 1 / geometry.divisor), geometry),
);

/**
 * Mean over `dim` (default: all dimensions) of an f32 tensor; NaN if there is nothing to average. Source: torch.mean.
 *
 * @throws RangeError for a dimension out of range or named twice, TypeError for an unknown option or another dtype
 * @example
 * ```ts
 * import { init, mean, tensor } from 'feathermap';
 * await init();
 * if (mean(tensor([[1, 2], [3, 6]]), { dim: 1, keepdim: true }).shape.join() !== '2,1') throw new Error('wrong');
 * ```
 */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  checkOptions('mean', options, REDUCE_OPTIONS);
  return apply(meanOp, [x], options)[0]!;
}

// ---- Variance -------------------------------------------------------------------------------------------------------

interface VarianceGeometry extends ReductionGeometry {
  /** n - 1 or n. */
  readonly freedom: number;
}

/** Outputs: the variance, and the mean for backward. */
const varianceOp: Op<VarianceOptions, VarianceGeometry> = {
  name: 'variance',
  infer([x], { unbiased = true, ...options }) {
    checkFloat('variance', x!);
    const { spec, ...geometry } = inferReduction('variance', x!, options, {});
    const freedom = Math.max(0, geometry.plan.count - (unbiased ? 1 : 0));
    return { geometry: { ...geometry, freedom }, outputs: [spec('f32'), spec('f32')] };
  },
  lower(emit, { plan, freedom }, [x], [y, centre]) {
    const middle = locationOf(centre!);
    emitSum(emit, plan, SUM, { y: middle, x: locationOf(x!), divisor: plan.count });
    emitSum(emit, plan, DEVIATION, { y: locationOf(y!), x: locationOf(x!), divisor: freedom, centre: middle });
  },
  backward({ geometry, inputs: [x], outputs: [, centre], gradients: [dy] }) {
    if (!dy) return [null];
    return [mul(sub(x!, spread(centre!, geometry)), spread(mul(dy, 2 / geometry.freedom), geometry))];
  },
  saves: { inputs: [0], outputs: [1] },
};

/**
 * Variance over `dim` (default: all dimensions) of an f32 tensor, in two passes: mean, then squared deviations.
 * NaN where n - 1 is 0. As a method: `x.var()`. Source: torch.var.
 *
 * @throws RangeError for a dimension out of range or named twice, TypeError for an unknown option or another dtype
 * @example
 * ```ts
 * import { init, tensor, variance } from 'feathermap';
 * await init();
 * const x = tensor([1, 2, 3, 4]);
 * if (variance(x, { unbiased: false }).item() !== 1.25) throw new Error('wrong');
 * ```
 */
export function variance(x: Tensor, options: VarianceOptions = {}): Tensor {
  checkOptions('variance', options, [...REDUCE_OPTIONS, 'unbiased']);
  return apply(varianceOp, [x], options)[0]!;
}

// ---- Extrema --------------------------------------------------------------------------------------------------------

type Which = 'max' | 'min';

/** The order that a kernel goes by. */
function kindOf(which: Which, dtype: DType): number {
  if (dtype === 'f32') return which === 'max' ? kernels.MAX_FLOAT : kernels.MIN_FLOAT;
  return which === 'max' ? kernels.MAX_INTEGER : kernels.MIN_INTEGER;
}

interface ExtremumGeometry extends ReductionGeometry {
  readonly kind: number;
}

function inferExtremum(
  name: string,
  which: Which,
  x: Tensor,
  options: ReduceOptions,
  plan: PlanOptions,
): Inferred<ExtremumGeometry> & { readonly spec: (dtype: DType) => OutputSpec } {
  if (x.dtype === 'u8') throw new TypeError(`${name}: expected an f32 or i32 tensor, got u8; convert with to('i32')`);
  const { spec, ...geometry } = inferReduction(name, x, options, plan);
  if (geometry.plan.count === 0)
    throw new RangeError(`${name}: ${show(x.shape)} has no elements along the reduced dimensions`);
  return { geometry: { ...geometry, kind: kindOf(which, x.dtype) }, outputs: [spec(x.dtype)], spec };
}

function emitExtremum(emit: Emitter, plan: ReductionPlan, y: Location, x: Location, kind: number): void {
  if (plan.parts === 1) {
    emitPass(emit, EXTREMUM, plan, { y, x, kind });
  } else {
    const partial = emit.temporary(4 * plan.outputs * plan.parts);
    emitPass(emit, EXTREMUM, plan, { y: partial, x, kind });
    emitPass(emit, EXTREMUM, planParts(plan), { y, x: partial, kind });
  }
}

/** Values only. Equal extremes share the gradient evenly, as in torch.amax. */
function extremumOp(which: Which): Op<ReduceOptions, ExtremumGeometry> {
  return {
    name: which,
    infer: ([x], options) => inferExtremum(which, which, x!, options, {}),
    lower(emit, { plan, kind }, [x], [y]) {
      emitExtremum(emit, plan, locationOf(y!), locationOf(x!), kind);
    },
    backward({ geometry, inputs: [x], outputs: [y], gradients: [dy] }) {
      const hits = to(eq(x!, spread(y!, geometry)), 'f32');
      const share = div(reshape(dy!, geometry.kept), sum(hits, { dim: geometry.axes, keepdim: true }));
      return [mul(hits, share)];
    },
    saves: { inputs: [0], outputs: [0] },
  };
}

interface PositionGeometry extends ExtremumGeometry {
  readonly axis: number;
}

/** Values and indices along one dimension. The whole gradient goes to the element that the index names. */
function extremumWithIndicesOp(which: Which): Op<ReduceOptions & { dim: number }, PositionGeometry> {
  return {
    name: which,
    infer([x], options) {
      const { geometry, outputs, spec } = inferExtremum(which, which, x!, options, { ordered: true, split: false });
      const axis = axesOf(which, options.dim, x!.shape.length)[0] ?? 0;
      return { geometry: { ...geometry, axis }, outputs: [...outputs, spec('i32')] };
    },
    lower(emit, { plan, kind }, [x], [y, indices]) {
      emitPass(emit, POSITION, plan, { y: locationOf(y!), x: locationOf(x!), kind, positions: locationOf(indices!) });
    },
    backward({ geometry, outputs: [, indices], gradients: [dy] }) {
      const { axis, from, kept } = geometry;
      if (!from.length) return [dy!];
      const places = arange(0, from[axis]!, 1, { dtype: 'i32' });
      const along = reshape(
        places,
        from.map((extent, i) => (i === axis ? extent : 1)),
      );
      return [mul(to(eq(reshape(indices!, kept), along), 'f32'), reshape(dy!, kept))];
    },
    saves: { outputs: [1] },
  };
}

function positionOp(name: 'argmax' | 'argmin'): Op<ReduceOptions, ExtremumGeometry> {
  const which = name === 'argmax' ? 'max' : 'min';
  return {
    name,
    infer([x], options) {
      const { geometry, spec } = inferExtremum(name, which, x!, options, { ordered: true, split: false });
      return { geometry, outputs: [spec('i32')] };
    },
    lower(emit, { plan, kind }, [x], [indices]) {
      const values = emit.temporary(4 * plan.outputs);
      emitPass(emit, POSITION, plan, { y: values, x: locationOf(x!), kind, positions: locationOf(indices!) });
    },
    backward: { notDifferentiable: `${name} has integer output` },
    saves: {},
  };
}

const EXTREMUM_OPS = { max: extremumOp('max'), min: extremumOp('min') };
const WITH_INDICES_OPS = { max: extremumWithIndicesOp('max'), min: extremumWithIndicesOp('min') };
const POSITION_OPS = { argmax: positionOp('argmax'), argmin: positionOp('argmin') };

function extremum(which: Which, x: Tensor, options: ExtremumOptions): Tensor | [Tensor, Tensor] {
  checkOptions(which, options, [...REDUCE_OPTIONS, 'returnIndices']);
  const { returnIndices = false, dim, keepdim } = options;
  if (!returnIndices) return apply(EXTREMUM_OPS[which], [x], { dim, keepdim })[0]!;
  if (typeof dim !== 'number')
    throw new TypeError(`${which}: returnIndices needs a single dim, got ${dim === undefined ? 'none' : show(dim)}`);
  const [values, indices] = apply(WITH_INDICES_OPS[which], [x], { dim, keepdim });
  return [values!, indices!];
}

/**
 * Largest element over `dim` (default: all dimensions) of an f32 or i32 tensor. NaN wins. Equal extremes share the gradient evenly,
 * as in torch.amax. With `returnIndices`, for one `dim`: `[values, indices]` as torch.max(x, dim), the first of equal elements,
 * which then gets the whole gradient.
 *
 * @throws RangeError for a dimension out of range or nothing to reduce, TypeError for an unknown option or another dtype
 * @example
 * ```ts
 * import { init, max, tensor } from 'feathermap';
 * await init();
 * const [values, indices] = max(tensor([[1, 5], [7, 3]]), { dim: 1, returnIndices: true });
 * if (values.data().join() !== '5,7' || indices.data().join() !== '1,0') throw new Error('wrong');
 * ```
 */
export function max(x: Tensor, options: ExtremumOptions & { returnIndices: true }): [values: Tensor, indices: Tensor];
export function max(x: Tensor, options?: ReduceOptions & { returnIndices?: false | undefined }): Tensor;
export function max(x: Tensor, options: ExtremumOptions = {}): Tensor | [Tensor, Tensor] {
  return extremum('max', x, options);
}

/**
 * Smallest element over `dim` (default: all dimensions) of an f32 or i32 tensor; otherwise as `max`. Source: torch.amin, torch.min.
 *
 * @throws as `max`
 * @example
 * ```ts
 * import { init, min, tensor } from 'feathermap';
 * await init();
 * if (min(tensor([[1, 5], [7, 3]]), { dim: 0 }).data().join() !== '1,3') throw new Error('wrong');
 * ```
 */
export function min(x: Tensor, options: ExtremumOptions & { returnIndices: true }): [values: Tensor, indices: Tensor];
export function min(x: Tensor, options?: ReduceOptions & { returnIndices?: false | undefined }): Tensor;
export function min(x: Tensor, options: ExtremumOptions = {}): Tensor | [Tensor, Tensor] {
  return extremum('min', x, options);
}

function position(name: 'argmax' | 'argmin', x: Tensor, options: PositionOptions): Tensor {
  checkOptions(name, options, REDUCE_OPTIONS);
  const { dim } = options;
  if (dim !== undefined && typeof dim !== 'number')
    throw new TypeError(`${name}: dim must be one number, got ${printed(dim)}`);
  return apply(POSITION_OPS[name], [x], options)[0]!;
}

/**
 * Index (i32) of the largest element along `dim`, or in the flattened tensor: the first of equal ones; the first NaN before all.
 * Source: torch.argmax.
 *
 * @throws RangeError for a dimension out of range or nothing to search, TypeError for an unknown option or another dtype
 * @example
 * ```ts
 * import { argmax, init, tensor } from 'feathermap';
 * await init();
 * if (argmax(tensor([[1, 5], [7, 3]]), { dim: 1 }).data().join() !== '1,0') throw new Error('wrong');
 * ```
 */
export function argmax(x: Tensor, options: PositionOptions = {}): Tensor {
  return position('argmax', x, options);
}

/**
 * Index (i32) of the smallest element along `dim`, or in the flattened tensor; otherwise as `argmax`. Source: torch.argmin.
 *
 * @throws as `argmax`
 * @example
 * ```ts
 * import { argmin, init, tensor } from 'feathermap';
 * await init();
 * if (argmin(tensor([4, 2, 2])).item() !== 1) throw new Error('wrong');
 * ```
 */
export function argmin(x: Tensor, options: PositionOptions = {}): Tensor {
  return position('argmin', x, options);
}
