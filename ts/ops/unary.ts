// Functions of one tensor: abs, sqrt, square, reciprocal, exp, log, clamp.
import * as kernels from '../generated/kernels.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Op } from '../tensor/op.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { dense, relayout } from './copy.ts';
import { div, mul, neg } from './elementwise.ts';
import { elementGrid } from './loops.ts';
import { applyUnary, checkFloat, unaryBackward, unaryOp } from './unary-op.ts';

const absBackward = unaryBackward({ name: 'absBackward', kernel: kernels.absBackward, second: null });

const sqrtBackward = unaryBackward({
  name: 'sqrtBackward',
  kernel: kernels.sqrtBackward,
  second: (g, dy, y) => div(mul(mul(g, dy), -0.5), square(y)),
});

const absOp = unaryOp({ name: 'abs', kernel: kernels.abs, cost: 0.3, saved: 'x', gradient: absBackward });
const sqrtOp = unaryOp({ name: 'sqrt', kernel: kernels.sqrt, cost: 0.7, saved: 'y', gradient: sqrtBackward });
const squareOp = unaryOp({
  name: 'square',
  kernel: kernels.square,
  cost: 0.3,
  saved: 'x',
  gradient: (dy, x) => mul(dy, mul(x, 2)),
});
const expOp = unaryOp({ name: 'exp', kernel: kernels.exp, cost: 1, saved: 'y', gradient: (dy, y) => mul(dy, y) });
const logOp = unaryOp({ name: 'log', kernel: kernels.log, cost: 1.5, saved: 'x', gradient: (dy, x) => div(dy, x) });

const reciprocalOp = unaryOp({
  name: 'reciprocal',
  kernel: kernels.reciprocal,
  cost: 0.5,
  saved: 'y',
  gradient: (dy, y) => neg(mul(dy, square(y))),
});

/**
 * |x|; its gradient at 0 is 0. Source: torch.abs.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { abs, init, tensor } from 'feathermap';
 * await init();
 * if (abs(tensor([1, -2])).data().join() !== '1,2') throw new Error('wrong');
 * ```
 */
export function abs(x: Tensor): Tensor {
  return applyUnary(absOp, x);
}

/**
 * The square root, correctly rounded; NaN below 0. Source: torch.sqrt.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, sqrt, tensor } from 'feathermap';
 * await init();
 * if (sqrt(tensor([4, 9])).data().join() !== '2,3') throw new Error('wrong');
 * ```
 */
export function sqrt(x: Tensor): Tensor {
  return applyUnary(sqrtOp, x);
}

/**
 * x^2. Source: torch.square.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, square, tensor } from 'feathermap';
 * await init();
 * if (square(tensor([-3])).item() !== 9) throw new Error('wrong');
 * ```
 */
export function square(x: Tensor): Tensor {
  return applyUnary(squareOp, x);
}

/**
 * 1 / x. Source: torch.reciprocal.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, reciprocal, tensor } from 'feathermap';
 * await init();
 * if (reciprocal(tensor([4])).item() !== 0.25) throw new Error('wrong');
 * ```
 */
export function reciprocal(x: Tensor): Tensor {
  return applyUnary(reciprocalOp, x);
}

/**
 * e^x, within 1 unit in the last place. Source: torch.exp.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { exp, init, tensor } from 'feathermap';
 * await init();
 * if (exp(tensor([0])).item() !== 1) throw new Error('wrong');
 * ```
 */
export function exp(x: Tensor): Tensor {
  return applyUnary(expOp, x);
}

/**
 * The natural logarithm, within 1 unit in the last place; -Infinity at 0, NaN below. Source: torch.log.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, log, tensor } from 'feathermap';
 * await init();
 * if (log(tensor([1])).item() !== 0) throw new Error('wrong');
 * ```
 */
export function log(x: Tensor): Tensor {
  return applyUnary(logOp, x);
}

/** Options of `clamp`; at least one is given. */
export interface ClampOptions {
  min?: number | undefined;
  max?: number | undefined;
}

interface Bounds {
  readonly lo: number;
  readonly hi: number;
}

const clampOp: Op<Bounds, Bounds> = {
  name: 'clamp',
  infer([x], bounds) {
    checkFloat('clamp', x!);
    return { geometry: bounds, outputs: [{ shape: x!.shape, dtype: 'f32', strides: x!.strides }] };
  },
  lower(emit, { lo, hi }, [x], [y]) {
    const args = { y: locationOf(y!), x: locationOf(x!), count: x!.size, lo, hi };
    emit.command(kernels.clamp, args, { ...elementGrid(x!.size, 0.3), inPlace: ['x'] });
  },
  backward: ({ geometry, gradients: [dy], inputs: [x] }) => [clampBackward(dy!, x!, geometry)],
  saves: { inputs: [0] },
};

const clampBackwardOp: Op<Bounds, Bounds> = {
  name: 'clampBackward',
  infer: ([, x], bounds) => ({ geometry: bounds, outputs: [{ shape: x!.shape, dtype: 'f32', strides: x!.strides }] }),
  lower(emit, { lo, hi }, [dy, x], [dx]) {
    const args = { dx: locationOf(dx!), dy: locationOf(dy!), x: locationOf(x!), count: x!.size, lo, hi };
    emit.command(kernels.clampBackward, args, elementGrid(x!.size, 0.5));
  },
  backward: ({ geometry, gradients: [g], inputs: [, x] }) => [clampBackward(g!, x!, geometry), null],
  saves: { inputs: [1] },
};

function clampBackward(dy: Tensor, x: Tensor, bounds: Bounds): Tensor {
  return apply(clampBackwardOp, [relayout(dy, x.strides), x], bounds)[0]!;
}

/**
 * min(max(x, `min`), `max`), NaN kept. The gradient passes where `min` <= x <= `max`. Source: torch.clamp.
 *
 * @throws TypeError unless x is f32 or for an unknown option, RangeError if both bounds are missing or one is NaN
 * @example
 * ```ts
 * import { clamp, init, tensor } from 'feathermap';
 * await init();
 * if (clamp(tensor([-1, 0.5, 9]), { min: 0, max: 6 }).data().join() !== '0,0.5,6') throw new Error('wrong');
 * ```
 */
export function clamp(x: Tensor, options: ClampOptions): Tensor {
  checkOptions('clamp', options, ['min', 'max']);
  const { min, max } = options ?? {};
  if (min === undefined && max === undefined) throw new RangeError('clamp: expected a min, a max or both');
  const [lo, hi] = [min ?? Number.NEGATIVE_INFINITY, max ?? Number.POSITIVE_INFINITY];
  if (typeof lo !== 'number' || typeof hi !== 'number')
    throw new TypeError(`clamp: bounds must be numbers, got ${typeof lo} and ${typeof hi}`);
  if (Number.isNaN(lo) || Number.isNaN(hi)) throw new RangeError(`clamp: bounds must not be NaN, got ${lo} and ${hi}`);
  checkReadable('clamp', x);
  return apply(clampOp, [dense(x)], { lo, hi })[0]!;
}
