// From linear memory to ordinary arrays. What people read back is row-major, whatever the layout in memory.
import { engine } from '../runtime/engine.ts';
import { CaptureError } from '../runtime/errors.ts';
import { checkReadable, currentModulePath } from './apply.ts';
import { type DType, type TypedArray, typedArray } from './dtype.ts';
import { materialise } from './lifetime.ts';
import { coalesce, contiguousStrides, isContiguous, show } from './shape.ts';
import type { Tensor } from './tensor.ts';

/** The memory of a dtype, from address 0. */
export function memoryView(dtype: DType): TypedArray {
  const { memory } = engine();
  return dtype === 'f32' ? memory.f32 : dtype === 'i32' ? memory.i32 : memory.u8;
}

/** Index of a tensor's first element in `memoryView`. */
export function firstElement(tensor: Tensor): number {
  return (tensor.dtype === 'u8' ? tensor.storage.address : tensor.storage.address >>> 2) + tensor.offset;
}

/** Throws unless the tensor's values exist now. */
function checkValues(op: string, tensor: Tensor): void {
  checkReadable(op, tensor);
  if (tensor.storage.state === 'planned')
    throw new CaptureError(
      `${op}: ${tensor} has no value while a step is being captured${moduleSuffix()}; return it from the step and read it there`,
    );
  materialise(tensor.storage);
}

function moduleSuffix(): string {
  const path = currentModulePath();
  return path ? ` (in ${path})` : '';
}

/** Copies the elements in row-major order into `target`, which has exactly as many. */
export function copyTo(tensor: Tensor, target: TypedArray): void {
  checkValues('copyTo', tensor);
  if (target.length !== tensor.size)
    throw new RangeError(
      `copyTo: array of length ${target.length} for a tensor ${show(tensor.shape)} of ${tensor.size} elements`,
    );
  const expected = typedArray(tensor.dtype, 0).constructor.name;
  if (target.constructor.name !== expected)
    throw new TypeError(`copyTo: a ${tensor.dtype} tensor goes into a ${expected}, got ${target?.constructor?.name}`);
  const first = firstElement(tensor);
  if (isContiguous(tensor.shape, tensor.strides)) {
    target.set(memoryView(tensor.dtype).subarray(first, first + tensor.size));
    return;
  }
  const source = asIntegers(memoryView(tensor.dtype));
  const integers = asIntegers(target);
  eachRun(tensor, (at, index, { size, strides: [inOrder, inMemory] }) => {
    for (let i = 0; i < size; i++) integers[index + i * inOrder] = source[first + at + i * inMemory]!;
  });
}

/** The same bits as integers: until a loop over floats is compiled, V8 puts each number that it reads into an object of its own. */
function asIntegers(array: TypedArray): Int32Array | Uint8Array {
  return array instanceof Uint8Array ? array : new Int32Array(array.buffer, array.byteOffset, array.length);
}

/** A run of elements with even steps in memory and in row-major order. */
interface Run {
  readonly size: number;
  readonly strides: readonly [inOrder: number, inMemory: number];
}

/** Visits the elements by runs, in row-major order: offset in memory and row-major index of each run's first element. */
function eachRun(tensor: Tensor, visit: (offset: number, index: number, run: Run) => void): void {
  const loops = coalesce(tensor.shape, [contiguousStrides(tensor.shape), tensor.strides]) as Run[];
  const run = loops.pop()!;
  const level = (depth: number, offset: number, index: number): void => {
    const loop = loops[depth];
    if (!loop) {
      visit(offset, index, run);
      return;
    }
    for (let i = 0; i < loop.size; i++) level(depth + 1, offset + i * loop.strides[1], index + i * loop.strides[0]);
  };
  level(0, 0, 0);
}

/** A fresh typed array with the elements in row-major order. */
export function data(tensor: Tensor): TypedArray {
  checkValues('data', tensor);
  if (isContiguous(tensor.shape, tensor.strides)) {
    const first = firstElement(tensor);
    return memoryView(tensor.dtype).slice(first, first + tensor.size);
  }
  const result = typedArray(tensor.dtype, tensor.size);
  copyTo(tensor, result);
  return result;
}

/** The single element of a tensor of size 1. */
export function item(tensor: Tensor): number {
  checkValues('item', tensor);
  if (tensor.size !== 1)
    throw new RangeError(`item: the tensor ${show(tensor.shape)} has ${tensor.size} elements, expected 1`);
  return memoryView(tensor.dtype)[firstElement(tensor)]!;
}

/** Writes row-major values into a tensor's memory, whatever its layout, now: without the tape, and also while a step is captured. */
export function writeValues(tensor: Tensor, values: ArrayLike<number>): void {
  checkValues('write', tensor);
  const memory = memoryView(tensor.dtype);
  const first = firstElement(tensor);
  if (isContiguous(tensor.shape, tensor.strides)) memory.set(values, first);
  else
    eachRun(tensor, (at, index, { size, strides: [inOrder, inMemory] }) => {
      for (let i = 0; i < size; i++) memory[first + at + i * inMemory] = values[index + i * inOrder]!;
    });
  tensor.storage.version++;
}
