// Comparisons (u8 results, 0 or 1) and the choice between two tensors by such a result.
import * as kernels from '../generated/kernels.ts';
import type { Kernel } from '../runtime/command.ts';
import { apply } from '../tensor/apply.ts';
import type { DType } from '../tensor/dtype.ts';
import type { Op } from '../tensor/op.ts';
import { broadcastShapes, broadcastStrides } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { commonDType, operandPair, type TensorOrNumber } from './broadcast.ts';
import { to } from './copy.ts';
import { elementGrid, resultStrides, walkOf } from './loops.ts';
import { sumTo } from './sum.ts';

type ComparisonKernels = Record<DType, Kernel<kernels.BinaryArgs>>;

function comparisonOp(name: string, byDType: ComparisonKernels): Op<null, null> {
  return {
    name,
    infer([a, b]) {
      const shape = broadcastShapes(name, a!.shape, b!.shape);
      return { geometry: null, outputs: [{ shape, dtype: 'u8', strides: resultStrides(shape, [a!, b!]) }] };
    },
    lower(emit, _geometry, [a, b], [y]) {
      const operands = [a!, b!].map((x) => ({
        strides: broadcastStrides(x.shape, x.strides, y!.shape),
        dtype: x.dtype,
      }));
      const walk = walkOf(emit, y!.shape, [y!, ...operands]);
      const args = { y: locationOf(y!), a: locationOf(a!), b: locationOf(b!), ...walk };
      emit.command(byDType[a!.dtype], args, elementGrid(walk.count, 0.5));
    },
    backward: { notDifferentiable: `${name} is constant almost everywhere` },
    saves: {},
  };
}

const eqOp = comparisonOp('eq', { f32: kernels.eqF32, i32: kernels.eqI32, u8: kernels.eqU8 });
const neOp = comparisonOp('ne', { f32: kernels.neF32, i32: kernels.neI32, u8: kernels.neU8 });
const ltOp = comparisonOp('lt', { f32: kernels.ltF32, i32: kernels.ltI32, u8: kernels.ltU8 });
const leOp = comparisonOp('le', { f32: kernels.leF32, i32: kernels.leI32, u8: kernels.leU8 });

function compare(name: string, op: Op<null, null>, left: TensorOrNumber, right: TensorOrNumber): Tensor {
  const [a, b] = operandPair(name, left, right);
  const dtype = commonDType(a, b);
  return apply(op, [to(a, dtype), to(b, dtype)], null)[0]!;
}

/**
 * 1 where a = b, else 0, as u8; shapes broadcast, different dtypes are compared in the wider one. Source: torch.eq.
 *
 * @throws RangeError if the shapes do not broadcast
 * @example
 * ```ts
 * import { eq, init, tensor } from 'feathermap';
 * await init();
 * if (eq(tensor([1, 2, 3]), 2).data().join() !== '0,1,0') throw new Error('wrong');
 * ```
 */
export function eq(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return compare('eq', eqOp, a, b);
}

/**
 * 1 where a differs from b (NaN differs from everything), else 0; as `eq`. Source: torch.ne.
 *
 * @throws as `eq`
 * @example
 * ```ts
 * import { init, ne, tensor } from 'feathermap';
 * await init();
 * if (ne(tensor([1, NaN]), 1).data().join() !== '0,1') throw new Error('wrong');
 * ```
 */
export function ne(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return compare('ne', neOp, a, b);
}

/**
 * 1 where a > b, else 0; as `eq`. Source: torch.gt.
 *
 * @throws as `eq`
 * @example
 * ```ts
 * import { init, gt, tensor } from 'feathermap';
 * await init();
 * if (gt(tensor([1, 2, 3]), 2).data().join() !== '0,0,1') throw new Error('wrong');
 * ```
 */
export function gt(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return compare('gt', ltOp, b, a);
}

/**
 * 1 where a >= b, else 0; as `eq`. Source: torch.ge.
 *
 * @throws as `eq`
 * @example
 * ```ts
 * import { init, ge, tensor } from 'feathermap';
 * await init();
 * if (ge(tensor([1, 2, 3]), 2).data().join() !== '0,1,1') throw new Error('wrong');
 * ```
 */
export function ge(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return compare('ge', leOp, b, a);
}

/**
 * 1 where a < b, else 0; as `eq`. Source: torch.lt.
 *
 * @throws as `eq`
 * @example
 * ```ts
 * import { init, lt, tensor } from 'feathermap';
 * await init();
 * if (lt(tensor([1, 2, 3]), 2).data().join() !== '1,0,0') throw new Error('wrong');
 * ```
 */
export function lt(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return compare('lt', ltOp, a, b);
}

/**
 * 1 where a <= b, else 0; as `eq`. Source: torch.le.
 *
 * @throws as `eq`
 * @example
 * ```ts
 * import { init, le, tensor } from 'feathermap';
 * await init();
 * if (le(tensor([1, 2, 3]), 2).data().join() !== '1,1,0') throw new Error('wrong');
 * ```
 */
export function le(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return compare('le', leOp, a, b);
}

interface WhereGeometry {
  readonly a: readonly number[];
  readonly b: readonly number[];
}

/** inputs: condition, a, b. */
const whereOp: Op<null, WhereGeometry> = {
  name: 'where',
  infer([condition, a, b]) {
    if (condition!.dtype !== 'u8') throw new TypeError(`where: the condition must be u8, got ${condition!.dtype}`);
    if (a!.dtype !== b!.dtype || a!.dtype === 'u8')
      throw new TypeError(`where: expected two f32 or two i32 tensors, got ${a!.dtype} and ${b!.dtype}`);
    const shape = broadcastShapes('where', broadcastShapes('where', condition!.shape, a!.shape), b!.shape);
    const outputs = [{ shape, dtype: a!.dtype, strides: resultStrides(shape, [a!, b!, condition!]) }];
    return { geometry: { a: a!.shape, b: b!.shape }, outputs };
  },
  lower(emit, _geometry, inputs, [y]) {
    const operands = inputs.map((x) => ({
      strides: broadcastStrides(x!.shape, x!.strides, y!.shape),
      dtype: x!.dtype,
    }));
    const [condition, a, b] = inputs.map((x) => locationOf(x!));
    const walk = walkOf(emit, y!.shape, [y!, ...operands]);
    const args = { y: locationOf(y!), condition: condition!, a: a!, b: b!, ...walk };
    emit.command(kernels.where, args, elementGrid(walk.count, 0.6));
  },
  backward({ geometry, inputs: [condition], gradients: [dy], needs }) {
    return [
      null,
      needs[1] ? sumTo(where(condition!, dy!, 0), geometry.a) : null,
      needs[2] ? sumTo(where(condition!, 0, dy!), geometry.b) : null,
    ];
  },
  saves: { inputs: [0] },
};

/**
 * a where the condition (u8) is not 0, else b; all three broadcast. Source: torch.where.
 *
 * @throws RangeError if the shapes do not broadcast, TypeError for a condition that is not u8 or for different dtypes
 * @example
 * ```ts
 * import { gt, init, tensor, where } from 'feathermap';
 * await init();
 * const x = tensor([-1, 2]);
 * if (where(gt(x, 0), x, 0).data().join() !== '0,2') throw new Error('wrong');
 * ```
 */
export function where(condition: Tensor, a: TensorOrNumber, b: TensorOrNumber): Tensor {
  return apply(whereOp, [condition, ...operandPair('where', a, b)], null)[0]!;
}
