// Softmax and its logarithm along one dimension.

import * as kernels from '../generated/kernels.ts';
import type { Emitter, Kernel } from '../runtime/command.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import type { Op } from '../tensor/op.ts';
import { printed } from '../tensor/printed.ts';
import { normalizeDim } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { contiguous } from './copy.ts';
import { mul, sub } from './elementwise.ts';
import { permute } from './shape.ts';
import { sum } from './sum.ts';
import { exp } from './unary.ts';
import { checkFloat } from './unary-op.ts';

/** Rows of contiguous elements. */
export interface Rows {
  readonly rows: number;
  readonly n: number;
  /** Rows per tile. */
  readonly block: number;
}

/** Elements per tile: some 10 us of exponentials. */
const TILE_ELEMENTS = 8192;

/** A contiguous tensor as rows along its last dimension. */
export function rowsOf({ shape, size }: Tensor): Rows {
  const n = shape.at(-1) ?? 1;
  return { rows: n ? size / n : 0, n, block: Math.max(1, Math.floor(TILE_ELEMENTS / Math.max(1, n))) };
}

/** The grid of a kernel over rows that takes `cost` nanoseconds per element. */
export function rowGrid({ rows, n, block }: Rows, cost: number): Parameters<Emitter['command']>[2] {
  return { tiles: Math.ceil(rows / block), work: rows * n * cost };
}

/** One of the two functions on contiguous rows: its kernel, the kernel of its gradient, and the gradient in ops. */
interface RowRule {
  readonly name: string;
  readonly kernel: Kernel<kernels.SoftmaxArgs>;
  readonly gradKernel: Kernel<kernels.SoftmaxGradArgs>;
  /** Gradients of y and dy from that of dx, so that second derivatives exist. */
  readonly second: (g: Tensor, y: Tensor, dy: Tensor) => readonly [dy: Tensor, y: Tensor];
}

const rowSum = (x: Tensor): Tensor => sum(x, { dim: -1, keepdim: true });

/** dx = f(y, dy), row by row. */
function gradOp({ name, gradKernel, second }: RowRule): Op<null, Rows> {
  return {
    name: `${name}Grad`,
    infer: ([y]) => ({ geometry: rowsOf(y!), outputs: [{ shape: y!.shape, dtype: 'f32' }] }),
    lower(emit, rows, [y, dy], [dx]) {
      const operands = { dx: locationOf(dx!), y: locationOf(y!), dy: locationOf(dy!) };
      emit.command(gradKernel, { ...operands, ...rows }, rowGrid(rows, 1));
    },
    backward({ gradients: [g], inputs: [y, dy] }) {
      const [ofDy, ofY] = second(g!, y!, dy!);
      return [ofY, ofDy];
    },
    saves: { inputs: [0, 1] },
  };
}

function rowOp(rule: RowRule): Op<null, Rows> {
  const { name, kernel } = rule;
  const grad = gradOp(rule);
  return {
    name,
    infer([x]) {
      checkFloat(name, x!);
      return { geometry: rowsOf(x!), outputs: [{ shape: x!.shape, dtype: 'f32' }] };
    },
    lower(emit, rows, [x], [y]) {
      emit.command(kernel, { y: locationOf(y!), x: locationOf(x!), ...rows }, rowGrid(rows, 2.5));
    },
    backward: ({ outputs: [y], gradients: [dy] }) => [apply(grad, [y!, contiguous(dy!)], null)[0]!],
    saves: { outputs: [0] },
  };
}

const softmaxOp = rowOp({
  name: 'softmax',
  kernel: kernels.softmax,
  gradKernel: kernels.softmaxGrad,
  // dx = (dy - s) y with s = sum(dy y): linear in dy, and its own transpose.
  second: (g, y, dy) => [
    mul(sub(g, rowSum(mul(g, y))), y),
    sub(mul(g, sub(dy, rowSum(mul(dy, y)))), mul(dy, rowSum(mul(g, y)))),
  ],
});

const logSoftmaxOp = rowOp({
  name: 'logSoftmax',
  kernel: kernels.logSoftmax,
  gradKernel: kernels.logSoftmaxGrad,
  // dx = dy - exp(y) sum(dy).
  second: (g, y, dy) => [sub(g, rowSum(mul(g, exp(y)))), mul(mul(g, exp(y)), mul(rowSum(dy), -1))],
});

/** Applies a function of rows along `dim`: that dimension goes last and back. */
function alongDim(op: Op<null, Rows>, x: Tensor, dim: number): Tensor {
  checkReadable(op.name, x);
  if (typeof dim !== 'number') throw new TypeError(`${op.name}: dim must be a number, got ${printed(dim)}`);
  const rank = x.shape.length;
  const axis = normalizeDim(op.name, dim, rank);
  if (axis >= rank - 1) return apply(op, [contiguous(x)], null)[0]!;
  const order = x.shape.map((_, i) => i).filter((i) => i !== axis);
  const last = permute(x, [...order, axis]);
  const back = x.shape.map((_, i) => (i === axis ? rank - 1 : order.indexOf(i)));
  return permute(apply(op, [contiguous(last)], null)[0]!, back);
}

/**
 * exp(x) / sum(exp(x)) along `dim`, for f32. Stable for any finite x; NaN, +inf, or nothing but -inf along `dim` gives NaN.
 * Source: torch.nn.functional.softmax.
 *
 * @throws RangeError for a dimension out of range, TypeError for another dtype
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const p = F.softmax(tensor([[1, 1], [1000, 0]]), 1).data();
 * if (p.join() !== '0.5,0.5,1,0') throw new Error('wrong');
 * ```
 */
export function softmax(x: Tensor, dim: number): Tensor {
  return alongDim(softmaxOp, x, dim);
}

/**
 * log(softmax(x)) along `dim`, without the loss of precision of the two steps. Source: torch.nn.functional.log_softmax.
 *
 * @throws as `softmax`
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * if (F.logSoftmax(tensor([[0, 1000]]), 1).data().join() !== '-1000,0') throw new Error('wrong');
 * ```
 */
export function logSoftmax(x: Tensor, dim: number): Tensor {
  return alongDim(logSoftmaxOp, x, dim);
}
