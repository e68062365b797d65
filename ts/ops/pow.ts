// Powers with NumPy's broadcasting.
import * as kernels from '../generated/kernels.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { TensorOrNumber } from './broadcast.ts';
import { eq, ge, where } from './compare.ts';
import { binary, binaryOp, mul, sub, type Terms } from './elementwise.ts';
import { log, reciprocal, sqrt, square } from './unary.ts';

/** b a^(b - 1), and 0 where b is 0, as PyTorch's pow_backward_self. */
function powBase({ dy, a, b }: Terms): Tensor {
  return where(eq(b, 0), 0, mul(dy, mul(b, pow(a, sub(b, 1)))));
}

/** a^b log(a), and 0 where a is 0 and b >= 0, as PyTorch's pow_backward_exponent. */
function powExponent({ dy, a, b, y }: Terms): Tensor {
  const rule = mul(y, log(a));
  return mul(dy, where(eq(a, 0), where(ge(b, 0), 0, rule), rule));
}

const powOp = binaryOp({
  name: 'pow',
  kernel: kernels.pow,
  cost: 15,
  da: powBase,
  db: powExponent,
  saves: { inputs: [0, 1], outputs: [0] },
});

/** Exponents that have a cheaper and more exact form; PyTorch takes the same ones. */
const POWERS: ReadonlyMap<number, (x: Tensor) => Tensor> = new Map([
  [0.5, (x: Tensor): Tensor => sqrt(x)],
  [2, (x: Tensor): Tensor => square(x)],
  [3, (x: Tensor): Tensor => mul(square(x), x)],
  [-1, (x: Tensor): Tensor => reciprocal(x)],
  [-2, (x: Tensor): Tensor => reciprocal(square(x))],
]);

/**
 * a to the power b, broadcast as `add`. NaN for a negative base and a fraction as exponent; 1 for exponent 0 and for base 1.
 * Source: torch.pow.
 *
 * @throws as `add`
 * @example
 * ```ts
 * import { init, pow, tensor } from 'feathermap';
 * await init();
 * if (pow(tensor([2, 3]), 2).data().join() !== '4,9') throw new Error('wrong');
 * ```
 */
export function pow(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  const power = typeof b === 'number' && typeof a === 'object' && a?.dtype === 'f32' ? POWERS.get(b) : undefined;
  return power ? power(a as Tensor) : binary(powOp, a, b);
}
