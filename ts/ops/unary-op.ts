// The ops of functions of one tensor, and of their gradients where those have a kernel of their own.
import type * as kernels from '../generated/kernels.ts';
import type { Kernel } from '../runtime/command.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import type { Op } from '../tensor/op.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { dense, relayout } from './copy.ts';
import { elementGrid } from './loops.ts';

/** A function of one tensor: its kernel and its gradient. */
export interface UnaryRule {
  readonly name: string;
  readonly kernel: Kernel<kernels.UnaryArgs>;
  /** Estimated nanoseconds per element. */
  readonly cost: number;
  /** Whether the result must not lie where the argument lies. */
  readonly apart?: boolean;
  /** What `gradient` is written in: the argument, the result, or neither. */
  readonly saved?: 'x' | 'y';
  /** dx from dy and the saved tensor. */
  readonly gradient: (dy: Tensor, saved: Tensor) => Tensor;
}

const SAVES = { x: { inputs: [0] }, y: { outputs: [0] } };

/** Throws unless the tensor is f32. */
export function checkFloat(name: string, x: Tensor): void {
  if (x.dtype !== 'f32') throw new TypeError(`${name}: expected an f32 tensor, got ${x.dtype}; convert with to('f32')`);
}

/** The op of a rule. Its operand is dense; the result has the same layout. */
export function unaryOp({ name, kernel, cost, apart = false, saved, gradient }: UnaryRule): Op<null, null> {
  return {
    name,
    infer([x]) {
      checkFloat(name, x!);
      return { geometry: null, outputs: [{ shape: x!.shape, dtype: 'f32', strides: x!.strides }] };
    },
    lower(emit, _geometry, [x], [y]) {
      const grid = { ...elementGrid(x!.size, cost), inPlace: apart ? [] : ['x'] };
      emit.command(kernel, { y: locationOf(y!), x: locationOf(x!), count: x!.size }, grid);
    },
    backward: ({ gradients: [dy], inputs: [x], outputs: [y] }) => [gradient(dy!, (saved === 'y' ? y : x)!)],
    saves: saved ? SAVES[saved] : {},
  };
}

/** Calls the op of a rule. */
export function applyUnary(op: Op<null, null>, x: Tensor): Tensor {
  checkReadable(op.name, x);
  return apply(op, [dense(x)], null)[0]!;
}

/** A gradient kernel as an op of its own, dx = f(dy, saved), with the derivatives that second gradients need. */
export interface UnaryBackwardRule {
  readonly name: string;
  readonly kernel: Kernel<kernels.UnaryBackwardArgs>;
  /** The gradient of the saved tensor, from that of dx; null where it is 0 almost everywhere. */
  readonly second: ((gradient: Tensor, dy: Tensor, saved: Tensor) => Tensor) | null;
}

/** dx = f(dy, saved) as a function on tensors. */
export function unaryBackward({ name, kernel, second }: UnaryBackwardRule): (dy: Tensor, saved: Tensor) => Tensor {
  const op: Op<null, null> = {
    name,
    infer: ([, saved]) => ({
      geometry: null,
      outputs: [{ shape: saved!.shape, dtype: 'f32', strides: saved!.strides }],
    }),
    lower(emit, _geometry, [dy, saved], [dx]) {
      const args = { dx: locationOf(dx!), dy: locationOf(dy!), saved: locationOf(saved!), count: dx!.size };
      emit.command(kernel, args, elementGrid(dx!.size, 0.5));
    },
    backward: ({ gradients: [g], inputs: [dy, saved], needs }) => [
      needs[0] ? run(g!, saved!) : null,
      needs[1] && second ? second(g!, dy!, saved!) : null,
    ],
    saves: { inputs: [0, 1] },
  };
  const run = (dy: Tensor, saved: Tensor): Tensor => apply(op, [relayout(dy, saved.strides), saved], null)[0]!;
  return run;
}
