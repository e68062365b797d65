// Arithmetic of two tensors with NumPy's broadcasting: add, sub, mul, div, minimum, maximum; and neg, the gradient of sub.
import * as kernels from '../generated/kernels.ts';
import type { Kernel } from '../runtime/command.ts';
import { apply } from '../tensor/apply.ts';
import type { BackwardContext, Op, Operand } from '../tensor/op.ts';
import { broadcastShapes, broadcastStrides } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { operandPair, type TensorOrNumber } from './broadcast.ts';
import { eq, gt, lt, where } from './compare.ts';
import { elementGrid, resultStrides, walkOf } from './loops.ts';
import { sumTo } from './sum.ts';
import { applyUnary, unaryOp } from './unary-op.ts';

/** The shapes of the operands: where their gradients go back to. */
export interface BinaryGeometry {
  readonly a: readonly number[];
  readonly b: readonly number[];
}

/** What the partial derivatives are written in. */
export interface Terms {
  readonly dy: Tensor;
  readonly a: Tensor;
  readonly b: Tensor;
  readonly y: Tensor;
}

/** The gradient of one operand, before it is summed to the operand's shape. */
type Partial = (terms: Terms) => Tensor;

interface BinaryRule {
  readonly name: string;
  readonly kernel: Kernel<kernels.BinaryArgs>;
  /** Estimated nanoseconds per element. */
  readonly cost: number;
  readonly da: Partial;
  readonly db: Partial;
  readonly saves: Op<null, BinaryGeometry>['saves'];
}

/** The op of a rule. */
export function binaryOp({ name, kernel, cost, da, db, saves }: BinaryRule): Op<null, BinaryGeometry> {
  return {
    name,
    infer([a, b]) {
      for (const x of [a!, b!])
        if (x.dtype !== 'f32')
          throw new TypeError(`${name}: expected f32 tensors, got ${a!.dtype} and ${b!.dtype}; convert with to('f32')`);
      const shape = broadcastShapes(name, a!.shape, b!.shape);
      const outputs = [{ shape, dtype: 'f32' as const, strides: resultStrides(shape, [a!, b!]) }];
      return { geometry: { a: a!.shape, b: b!.shape }, outputs };
    },
    lower(emit, _geometry, [a, b], [y]) {
      const operands = [a!, b!].map((x) => ({
        strides: broadcastStrides(x.shape, x.strides, y!.shape),
        dtype: x.dtype,
      }));
      const walk = walkOf(emit, y!.shape, [y!, ...operands]);
      emit.command(
        kernel,
        { y: locationOf(y!), a: locationOf(a!), b: locationOf(b!), ...walk },
        { ...elementGrid(walk.count, cost), inPlace: inPlaceOperands(y!, operands) },
      );
    },
    backward: (context) => binaryBackward(context, da, db),
    saves,
  };
}

/** The operands whose elements lie as those of y do. */
function inPlaceOperands({ shape, strides }: Tensor, operands: readonly { strides: readonly number[] }[]): string[] {
  const alike = (own: readonly number[]): boolean => shape.every((extent, i) => extent === 1 || own[i] === strides[i]);
  return ['a', 'b'].filter((_, i) => alike(operands[i]!.strides));
}

function binaryBackward(context: BackwardContext<BinaryGeometry>, da: Partial, db: Partial): Operand[] {
  const { geometry, inputs, outputs, gradients, needs } = context;
  const terms = { dy: gradients[0]!, a: inputs[0]!, b: inputs[1]!, y: outputs[0]! };
  return [needs[0] ? sumTo(da(terms), geometry.a) : null, needs[1] ? sumTo(db(terms), geometry.b) : null];
}

const NOTHING = {};
const OPERANDS = { inputs: [0, 1] };

const addOp = binaryOp({
  name: 'add',
  kernel: kernels.add,
  cost: 0.4,
  da: ({ dy }) => dy,
  db: ({ dy }) => dy,
  saves: NOTHING,
});

const subOp = binaryOp({
  name: 'sub',
  kernel: kernels.sub,
  cost: 0.4,
  da: ({ dy }) => dy,
  db: ({ dy }) => neg(dy),
  saves: NOTHING,
});

const negOp = unaryOp({ name: 'neg', kernel: kernels.neg, cost: 0.3, gradient: (dy) => neg(dy) });

const mulOp = binaryOp({
  name: 'mul',
  kernel: kernels.mul,
  cost: 0.4,
  da: ({ dy, b }) => mul(dy, b),
  db: ({ dy, a }) => mul(dy, a),
  saves: OPERANDS,
});

const divOp = binaryOp({
  name: 'div',
  kernel: kernels.div,
  cost: 0.6,
  da: ({ dy, b }) => div(dy, b),
  db: ({ dy, a, b }) => neg(div(mul(dy, div(a, b)), b)),
  saves: OPERANDS,
});

/** dy where the operand won, half of it where both are equal. */
function share(dy: Tensor, lost: Tensor, tied: Tensor): Tensor {
  return where(tied, mul(dy, 0.5), where(lost, 0, dy));
}

const minimumOp = binaryOp({
  name: 'minimum',
  kernel: kernels.minimum,
  cost: 0.5,
  da: ({ dy, a, b }) => share(dy, gt(a, b), eq(a, b)),
  db: ({ dy, a, b }) => share(dy, gt(b, a), eq(a, b)),
  saves: OPERANDS,
});

const maximumOp = binaryOp({
  name: 'maximum',
  kernel: kernels.maximum,
  cost: 0.5,
  da: ({ dy, a, b }) => share(dy, lt(a, b), eq(a, b)),
  db: ({ dy, a, b }) => share(dy, lt(b, a), eq(a, b)),
  saves: OPERANDS,
});

/** Calls the op of a rule. */
export function binary(op: Op<null, BinaryGeometry>, a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return apply(op, operandPair(op.name, a, b), null)[0]!;
}

/**
 * a + b, element by element; shapes broadcast as in NumPy, a number stands for shape []. Source: torch.add.
 *
 * @throws RangeError if the shapes do not broadcast, TypeError unless both are f32
 * @example
 * ```ts
 * import { add, init, tensor } from 'feathermap';
 * await init();
 * if (add(tensor([[1], [2]]), tensor([10, 20])).data().join() !== '11,21,12,22') throw new Error('wrong');
 * ```
 */
export function add(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return binary(addOp, a, b);
}

/**
 * a - b, broadcast as `add`. Source: torch.sub.
 *
 * @throws as `add`
 * @example
 * ```ts
 * import { init, sub, tensor } from 'feathermap';
 * await init();
 * if (sub(1, tensor([1, 2])).data().join() !== '0,-1') throw new Error('wrong');
 * ```
 */
export function sub(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return binary(subOp, a, b);
}

/**
 * -x. Source: torch.neg.
 *
 * @throws TypeError unless x is f32
 * @example
 * ```ts
 * import { init, neg, tensor } from 'feathermap';
 * await init();
 * if (neg(tensor([1, -2])).data().join() !== '-1,2') throw new Error('wrong');
 * ```
 */
export function neg(x: Tensor): Tensor {
  return applyUnary(negOp, x);
}

/**
 * a b, element by element, broadcast as `add`. Source: torch.mul.
 *
 * @throws as `add`
 * @example
 * ```ts
 * import { init, mul, tensor } from 'feathermap';
 * await init();
 * if (mul(tensor([1, 2]), 3).data().join() !== '3,6') throw new Error('wrong');
 * ```
 */
export function mul(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return binary(mulOp, a, b);
}

/**
 * a / b, broadcast as `add`. Source: torch.div.
 *
 * @throws as `add`
 * @example
 * ```ts
 * import { div, init, tensor } from 'feathermap';
 * await init();
 * if (div(tensor([3, 6]), 3).data().join() !== '1,2') throw new Error('wrong');
 * ```
 */
export function div(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return binary(divOp, a, b);
}

/**
 * The smaller of a and b, NaN if either is; broadcast as `add`. Where both are equal each gets half the gradient. Source: torch.minimum.
 *
 * @throws as `add`
 * @example
 * ```ts
 * import { init, minimum, tensor } from 'feathermap';
 * await init();
 * if (minimum(tensor([1, 5]), 3).data().join() !== '1,3') throw new Error('wrong');
 * ```
 */
export function minimum(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return binary(minimumOp, a, b);
}

/**
 * The larger of a and b, NaN if either is; broadcast as `add`. Where both are equal each gets half the gradient. Source: torch.maximum.
 *
 * @throws as `add`
 * @example
 * ```ts
 * import { init, maximum, tensor } from 'feathermap';
 * await init();
 * if (maximum(tensor([1, 5]), 3).data().join() !== '3,5') throw new Error('wrong');
 * ```
 */
export function maximum(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return binary(maximumOp, a, b);
}
