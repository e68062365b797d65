// Activations: relu, sigmoid, tanh.
import * as kernels from '../generated/kernels.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { mul, sub } from './elementwise.ts';
import { applyUnary, unaryBackward, unaryOp } from './unary.ts';

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
