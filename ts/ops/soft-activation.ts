// Activations of newer networks: leakyRelu, silu, hardsigmoid, hardswish.
import * as kernels from '../generated/kernels.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Op } from '../tensor/op.ts';
import { printed } from '../tensor/printed.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { sigmoid } from './activation.ts';
import { le, where } from './compare.ts';
import { dense, relayout } from './copy.ts';
import { add, mul, sub } from './elementwise.ts';
import { elementGrid } from './loops.ts';
import { abs } from './unary.ts';
import { applyUnary, checkFloat, unaryBackward, unaryOp } from './unary-op.ts';

interface Slope {
  readonly slope: number;
}

const leakyReluOp: Op<Slope, Slope> = {
  name: 'leakyRelu',
  infer([x], options) {
    checkFloat('leakyRelu', x!);
    return { geometry: options, outputs: [{ shape: x!.shape, dtype: 'f32', strides: x!.strides }] };
  },
  lower(emit, { slope }, [x], [y]) {
    const args = { y: locationOf(y!), x: locationOf(x!), count: x!.size, slope };
    emit.command(kernels.leakyRelu, args, { ...elementGrid(x!.size, 0.3), inPlace: ['x'] });
  },
  backward: ({ geometry, gradients: [dy], inputs: [x] }) => [leakyReluBackward(dy!, x!, geometry)],
  saves: { inputs: [0] },
};

const leakyReluBackwardOp: Op<Slope, Slope> = {
  name: 'leakyReluBackward',
  infer: ([, x], options) => ({ geometry: options, outputs: [{ shape: x!.shape, dtype: 'f32', strides: x!.strides }] }),
  lower(emit, { slope }, [dy, x], [dx]) {
    const args = { dx: locationOf(dx!), dy: locationOf(dy!), x: locationOf(x!), count: x!.size, slope };
    emit.command(kernels.leakyReluBackward, args, elementGrid(x!.size, 0.5));
  },
  backward: ({ geometry, gradients: [g], inputs: [, x] }) => [leakyReluBackward(g!, x!, geometry), null],
  saves: { inputs: [1] },
};

function leakyReluBackward(dy: Tensor, x: Tensor, slope: Slope): Tensor {
  return apply(leakyReluBackwardOp, [relayout(dy, x.strides), x], slope)[0]!;
}

/** s' (2 + x (1 - 2 s)) with s' = s (1 - s), the second derivative of x s(x). */
function siluSecond(x: Tensor): Tensor {
  const s = sigmoid(x);
  return mul(mul(s, sub(1, s)), add(mul(x, sub(1, mul(s, 2))), 2));
}

const siluBackward = unaryBackward({
  name: 'siluBackward',
  kernel: kernels.siluBackward,
  second: (g, dy, x) => mul(mul(g, dy), siluSecond(x)),
});

const hardsigmoidBackward = unaryBackward({
  name: 'hardsigmoidBackward',
  kernel: kernels.hardsigmoidBackward,
  second: null,
});

const hardswishBackward = unaryBackward({
  name: 'hardswishBackward',
  kernel: kernels.hardswishBackward,
  second: (g, dy, x) => where(le(abs(x), 3), mul(mul(g, dy), 1 / 3), 0),
});

const siluOp = unaryOp({
  name: 'silu',
  kernel: kernels.silu,
  cost: 1.2,
  apart: true,
  saved: 'x',
  gradient: siluBackward,
});
const hardsigmoidOp = unaryOp({
  name: 'hardsigmoid',
  kernel: kernels.hardsigmoid,
  cost: 0.3,
  saved: 'x',
  gradient: hardsigmoidBackward,
});
const hardswishOp = unaryOp({
  name: 'hardswish',
  kernel: kernels.hardswish,
  cost: 0.3,
  saved: 'x',
  gradient: hardswishBackward,
});

/** Options of `leakyRelu`. */
export interface LeakyReluOptions {
  /** Factor of what is not above 0. Default 0.01. */
  negativeSlope?: number | undefined;
}

/**
 * x above 0, `negativeSlope` x elsewhere; NaN kept. Source: torch.nn.functional.leaky_relu.
 *
 * @throws TypeError unless x is f32, for an unknown option or a slope that is not a number
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { leakyRelu } from 'feathermap/functional';
 * await init();
 * if (leakyRelu(tensor([-2, 3]), { negativeSlope: 0.5 }).data().join() !== '-1,3') throw new Error('wrong');
 * ```
 */
export function leakyRelu(x: Tensor, options: LeakyReluOptions = {}): Tensor {
  checkOptions('leakyRelu', options, ['negativeSlope']);
  const { negativeSlope: slope = 0.01 } = options;
  if (typeof slope !== 'number')
    throw new TypeError(`leakyRelu: negativeSlope must be a number, got ${printed(slope)}`);
  checkReadable('leakyRelu', x);
  return apply(leakyReluOp, [dense(x)], { slope })[0]!;
}

/**
 * x sigmoid(x), also known as swish. Source: torch.nn.functional.silu; Hendrycks and Gimpel, arXiv:1606.08415.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { silu } from 'feathermap/functional';
 * await init();
 * if (silu(tensor([0, 100])).data().join() !== '0,100') throw new Error('wrong');
 * ```
 */
export function silu(x: Tensor): Tensor {
  return applyUnary(siluOp, x);
}

/**
 * min(max(x + 3, 0), 6) / 6, a sigmoid of three straight lines; its gradient at -3 and 3 is 0. Source: torch.nn.functional.hardsigmoid.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { hardsigmoid } from 'feathermap/functional';
 * await init();
 * if (hardsigmoid(tensor([-4, 0, 4])).data().join() !== '0,0.5,1') throw new Error('wrong');
 * ```
 */
export function hardsigmoid(x: Tensor): Tensor {
  return applyUnary(hardsigmoidOp, x);
}

/**
 * x min(max(x + 3, 0), 6) / 6. Source: torch.nn.functional.hardswish; Howard et al., "Searching for MobileNetV3", arXiv:1905.02244.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { hardswish } from 'feathermap/functional';
 * await init();
 * if (hardswish(tensor([-4, 0, 4])).data().join() !== '0,0,4') throw new Error('wrong');
 * ```
 */
export function hardswish(x: Tensor): Tensor {
  return applyUnary(hardswishOp, x);
}
