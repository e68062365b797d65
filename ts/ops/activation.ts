// Activations: relu, hardtanh and relu6, sigmoid, tanh.
import * as kernels from '../generated/kernels.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Op } from '../tensor/op.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { dense, relayout } from './copy.ts';
import { mul, sub } from './elementwise.ts';
import { elementGrid } from './loops.ts';
import { applyUnary, checkFloat, unaryBackward, unaryOp } from './unary-op.ts';

const reluBackward = unaryBackward({ name: 'reluBackward', kernel: kernels.reluBackward, second: null });

const sigmoidBackward = unaryBackward({
  name: 'sigmoidBackward',
  kernel: kernels.sigmoidBackward,
  second: (g, dy, y) => mul(mul(g, dy), sub(1, mul(y, 2))),
});

const tanhBackward = unaryBackward({
  name: 'tanhBackward',
  kernel: kernels.tanhBackward,
  second: (g, dy, y) => mul(mul(g, dy), mul(y, -2)),
});

const reluOp = unaryOp({ name: 'relu', kernel: kernels.relu, cost: 0.3, saved: 'y', gradient: reluBackward });
const sigmoidOp = unaryOp({ name: 'sigmoid', kernel: kernels.sigmoid, cost: 1, saved: 'y', gradient: sigmoidBackward });
const tanhOp = unaryOp({ name: 'tanh', kernel: kernels.tanh, cost: 1.2, saved: 'y', gradient: tanhBackward });

interface Bounds {
  readonly lo: number;
  readonly hi: number;
}

/** Unlike `clamp` it passes no gradient at the bounds, and so can tell from y alone where it passes one. */
const hardtanhOp: Op<Bounds, Bounds> = {
  name: 'hardtanh',
  infer([x], bounds) {
    checkFloat('hardtanh', x!);
    return { geometry: bounds, outputs: [{ shape: x!.shape, dtype: 'f32', strides: x!.strides }] };
  },
  lower(emit, { lo, hi }, [x], [y]) {
    const args = { y: locationOf(y!), x: locationOf(x!), count: x!.size, lo, hi };
    emit.command(kernels.clamp, args, { ...elementGrid(x!.size, 0.3), inPlace: ['x'] });
  },
  backward: ({ geometry, gradients: [dy], outputs: [y] }) => [hardtanhBackward(dy!, y!, geometry)],
  saves: { outputs: [0] },
};

const hardtanhBackwardOp: Op<Bounds, Bounds> = {
  name: 'hardtanhBackward',
  infer: ([, y], bounds) => ({ geometry: bounds, outputs: [{ shape: y!.shape, dtype: 'f32', strides: y!.strides }] }),
  lower(emit, { lo, hi }, [dy, y], [dx]) {
    const args = { dx: locationOf(dx!), dy: locationOf(dy!), x: locationOf(y!), count: y!.size, lo, hi };
    emit.command(kernels.hardtanhBackward, args, elementGrid(y!.size, 0.5));
  },
  backward: ({ geometry, gradients: [g], inputs: [, y] }) => [hardtanhBackward(g!, y!, geometry), null],
  saves: { inputs: [1] },
};

function hardtanhBackward(dy: Tensor, y: Tensor, bounds: Bounds): Tensor {
  return apply(hardtanhBackwardOp, [relayout(dy, y.strides), y], bounds)[0]!;
}

/** Options of `hardtanh`. */
export interface HardtanhOptions {
  /** Default -1. */
  minVal?: number | undefined;
  /** Default 1. */
  maxVal?: number | undefined;
}

/**
 * min(max(x, `minVal`), `maxVal`), NaN kept; the gradient passes strictly between the bounds. Source: torch.nn.functional.hardtanh.
 *
 * @throws TypeError unless x is f32 or for an unknown option, RangeError unless minVal < maxVal
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { hardtanh } from 'feathermap/functional';
 * await init();
 * if (hardtanh(tensor([-3, 0.5, 2])).data().join() !== '-1,0.5,1') throw new Error('wrong');
 * ```
 */
export function hardtanh(x: Tensor, options: HardtanhOptions = {}): Tensor {
  checkOptions('hardtanh', options, ['minVal', 'maxVal']);
  const { minVal = -1, maxVal = 1 } = options;
  if (!(minVal < maxVal))
    throw new RangeError(`hardtanh: minVal must be less than maxVal, got ${minVal} and ${maxVal}`);
  checkReadable('hardtanh', x);
  return apply(hardtanhOp, [dense(x)], { lo: minVal, hi: maxVal })[0]!;
}

/**
 * min(max(x, 0), 6), NaN kept; the gradient is 0 at 0 and at 6. Source: torch.nn.functional.relu6.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { relu6 } from 'feathermap/functional';
 * await init();
 * if (relu6(tensor([-1, 2, 7])).data().join() !== '0,2,6') throw new Error('wrong');
 * ```
 */
export function relu6(x: Tensor): Tensor {
  return hardtanh(x, { minVal: 0, maxVal: 6 });
}

/**
 * max(x, 0), NaN kept; the gradient at 0 is 0. Source: torch.nn.functional.relu.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { relu } from 'feathermap/functional';
 * await init();
 * if (relu(tensor([-1, 2])).data().join() !== '0,2') throw new Error('wrong');
 * ```
 */
export function relu(x: Tensor): Tensor {
  return applyUnary(reluOp, x);
}

/**
 * 1 / (1 + e^-x), within 2.5 units in the last place. Source: torch.sigmoid.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { sigmoid } from 'feathermap/functional';
 * await init();
 * if (sigmoid(tensor([0])).item() !== 0.5) throw new Error('wrong');
 * ```
 */
export function sigmoid(x: Tensor): Tensor {
  return applyUnary(sigmoidOp, x);
}

/**
 * The hyperbolic tangent, within 2.5 units in the last place. Source: torch.tanh.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { tanh } from 'feathermap/functional';
 * await init();
 * if (tanh(tensor([0])).item() !== 0) throw new Error('wrong');
 * ```
 */
export function tanh(x: Tensor): Tensor {
  return applyUnary(tanhOp, x);
}
