import { printed } from './printed.ts';

/** Element types of tensors: f32 for arithmetic, i32 for labels and indices, u8 for images and comparisons. */
export type DType = 'f32' | 'i32' | 'u8';

/** Typed arrays that hold tensor elements in ordinary memory. */
export type TypedArray = Float32Array | Int32Array | Uint8Array;

/** Bytes per element. */
export function elementBytes(dtype: DType): number {
  return dtype === 'u8' ? 1 : 4;
}

/** The typed array of a dtype, with `length` zeros. */
export function typedArray(dtype: DType, length: number): TypedArray {
  return dtype === 'f32' ? new Float32Array(length) : dtype === 'i32' ? new Int32Array(length) : new Uint8Array(length);
}

/** Throws TypeError unless `dtype` names an element type. */
export function checkDType(op: string, dtype: unknown): asserts dtype is DType {
  if (dtype !== 'f32' && dtype !== 'i32' && dtype !== 'u8')
    throw new TypeError(`${op}: dtype is 'f32', 'i32' or 'u8', got ${printed(dtype)}`);
}
