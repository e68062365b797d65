// Numbers as operands of ops that broadcast.
import { full } from '../tensor/create.ts';
import type { DType } from '../tensor/dtype.ts';
import { Tensor } from '../tensor/tensor.ts';

/** A tensor, or a number that stands for a tensor of shape []. */
export type TensorOrNumber = Tensor | number;

const DTYPES: readonly DType[] = ['u8', 'i32', 'f32'];

function holds(dtype: DType, value: number): boolean {
  if (dtype === 'f32') return true;
  const [lo, hi] = dtype === 'i32' ? [-(2 ** 31), 2 ** 31 - 1] : [0, 255];
  return Number.isInteger(value) && value >= lo && value <= hi;
}

/** Both operands as tensors. A number takes the other one's dtype if that can hold it, else f32. */
export function operandPair(op: string, a: TensorOrNumber, b: TensorOrNumber): [Tensor, Tensor] {
  const like = a instanceof Tensor ? a.dtype : b instanceof Tensor ? b.dtype : 'f32';
  return [asTensor(op, a, like), asTensor(op, b, like)];
}

/** A tensor as it is, a number as a tensor of shape []. */
export function asTensor(op: string, value: TensorOrNumber, like: DType = 'f32'): Tensor {
  if (typeof value === 'number') return full([], value, { dtype: holds(like, value) ? like : 'f32' });
  if (value instanceof Tensor) return value;
  throw new TypeError(`${op}: expected a tensor or a number, got ${value === null ? 'null' : typeof value}`);
}

/** The dtype both operands are compared in: the wider one. */
export function commonDType(a: Tensor, b: Tensor): DType {
  return DTYPES[Math.max(DTYPES.indexOf(a.dtype), DTYPES.indexOf(b.dtype))]!;
}
