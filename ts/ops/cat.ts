// Tensors put beside one another: concatenation, stacking. Each is one copy into its place.
import { apply, checkReadable } from '../tensor/apply.ts';
import type { Op } from '../tensor/op.ts';
import { checkSize, normalizeDim, show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { emitCopy } from './copy.ts';
import { part, stridesLike } from './loops.ts';
import { narrow } from './narrow.ts';
import { unsqueeze } from './shape.ts';

interface CatGeometry {
  readonly dim: number;
  /** Extent of each input along `dim`. */
  readonly extents: readonly number[];
}

const catOp: Op<{ readonly dim: number }, CatGeometry> = {
  name: 'cat',
  infer(inputs, { dim }) {
    const first = inputs[0]!;
    const axis = normalizeDim('cat', dim, first.shape.length);
    for (const x of inputs) {
      const fits =
        x!.shape.length === first.shape.length &&
        x!.shape.every((extent, i) => i === axis || extent === first.shape[i]);
      if (!fits)
        throw new RangeError(`cat: shapes ${show(first.shape)} and ${show(x!.shape)} differ outside dimension ${dim}`);
      if (x!.dtype !== first.dtype)
        throw new TypeError(`cat: expected tensors of one dtype, got ${first.dtype} and ${x!.dtype}`);
    }
    const extents = inputs.map((x) => x!.shape[axis]!);
    const shape = first.shape.map((extent, i) => (i === axis ? extents.reduce((a, b) => a + b, 0) : extent));
    checkSize('cat', shape);
    const outputs = [{ shape, dtype: first.dtype, strides: stridesLike(shape, first.strides) }];
    return { geometry: { dim: axis, extents }, outputs };
  },
  lower(emit, { dim, extents }, inputs, [y]) {
    let start = 0;
    inputs.forEach((x, i) => {
      emitCopy(emit, part(y!, x!.shape, y!.strides, start * y!.strides[dim]!), x!, true);
      start += extents[i]!;
    });
  },
  backward({ gradients: [dy], geometry: { dim, extents }, needs }) {
    let start = 0;
    return extents.map((extent, i) => {
      start += extent;
      return needs[i] ? narrow(dy!, dim, start - extent, extent) : null;
    });
  },
  saves: {},
};

function checkList(op: string, tensors: readonly Tensor[]): void {
  if (!Array.isArray(tensors)) throw new TypeError(`${op}: expected an array of tensors, got ${typeof tensors}`);
  if (!tensors.length) throw new RangeError(`${op}: expected at least one tensor`);
}

/**
 * Tensors behind one another along `dim`; all other extents agree. Source: torch.cat.
 *
 * @throws RangeError for an empty list or shapes that differ elsewhere, TypeError for different dtypes
 * @example
 * ```ts
 * import { cat, init, tensor } from 'feathermap';
 * await init();
 * if (cat([tensor([1, 2]), tensor([3])]).data().join() !== '1,2,3') throw new Error('wrong');
 * ```
 */
export function cat(tensors: readonly Tensor[], dim = 0): Tensor {
  checkList('cat', tensors);
  return apply(catOp, tensors, { dim })[0]!;
}

/**
 * Another name of `cat`. Source: torch.concat.
 *
 * @throws as `cat`
 * @example
 * ```ts
 * import { concat, init, tensor } from 'feathermap';
 * await init();
 * if (concat([tensor([1]), tensor([2])]).data().join() !== '1,2') throw new Error('wrong');
 * ```
 */
export const concat: typeof cat = cat;

/**
 * Tensors of one shape side by side along a new dimension. Source: torch.stack.
 *
 * @throws RangeError for an empty list or different shapes
 * @example
 * ```ts
 * import { init, stack, tensor } from 'feathermap';
 * await init();
 * if (stack([tensor([1, 2]), tensor([3, 4])], 1).data().join() !== '1,3,2,4') throw new Error('wrong');
 * ```
 */
export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  checkList('stack', tensors);
  const first = tensors[0]!;
  for (const x of tensors) {
    checkReadable('stack', x);
    if (show(x.shape) !== show(first.shape))
      throw new RangeError(`stack: shapes ${show(first.shape)} and ${show(x.shape)} differ`);
  }
  const axis = normalizeDim('stack', dim, first.shape.length + 1);
  return cat(
    tensors.map((x) => unsqueeze(x, axis)),
    axis,
  );
}
