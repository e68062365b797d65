// Tensors whose values wait in ordinary memory: they get linear memory when something first reads them, and none if a model takes
// the values over.
import { Storage } from '../runtime/storage.ts';
import { type DType, elementBytes, type TypedArray } from './dtype.ts';
import { writeValues } from './read.ts';
import { isDense, sizeOf } from './shape.ts';
import { Tensor } from './tensor.ts';

/** Values in row-major order of storages that have no memory yet. */
const waiting = new WeakMap<Storage, () => TypedArray>();

/** A row-major tensor with the values that `values` will return when they are needed. */
export function lazyTensor(shape: readonly number[], dtype: DType, values: () => TypedArray): Tensor {
  const storage = new Storage(sizeOf(shape) * elementBytes(dtype));
  storage.state = 'lazy';
  const tensor = new Tensor({ storage, shape, dtype });
  storage.initialise = () => writeValues(tensor, values());
  waiting.set(storage, values);
  return tensor;
}

/**
 * Lets `target` start with the values of `source`, if neither has memory yet; false if that cannot be. Both have one shape.
 */
export function startWith(target: Tensor, source: Tensor): boolean {
  const values = waiting.get(source.storage);
  const untouched = [target, source].every(({ storage, size, dtype, shape, strides }) => {
    return storage.state === 'lazy' && storage.bytes === size * elementBytes(dtype) && isDense(shape, strides);
  });
  if (!values || !untouched || target.dtype !== source.dtype || target.storage === source.storage) return false;
  target.storage.initialise = () => writeValues(target, values());
  return true;
}
