// Between the bytes of a weight file and the arrays that tensors are made of.

import type { DType, TypedArray } from '../tensor/dtype.ts';
import { fromBfloat, fromHalf, toBfloat, toHalf } from './half.ts';
import type { SafetensorsDtype } from './safetensors-format.ts';

interface Element {
  /** The tensor type that holds it. */
  readonly dtype: DType;
  readonly read: (bytes: Uint8Array, name: string) => TypedArray;
  readonly write: (values: TypedArray) => TypedArray | Uint16Array | Float64Array | BigInt64Array;
}

/** Files are little-endian, and so is every machine that runs WebAssembly in practice; the copy also aligns. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  // Not bytes.slice(): that of Node's Buffer is a view of the same memory.
  return Uint8Array.from(bytes).buffer;
}

const itself = (values: TypedArray): TypedArray => values;

/** How each type of a file becomes a tensor and goes back. */
export const elements: Readonly<Record<SafetensorsDtype, Element>> = {
  F32: { dtype: 'f32', read: (bytes) => new Float32Array(aligned(bytes)), write: itself },
  F64: {
    dtype: 'f32',
    read: (bytes) => Float32Array.from(new Float64Array(aligned(bytes))),
    write: (values) => Float64Array.from(values),
  },
  F16: {
    dtype: 'f32',
    read: (bytes) => Float32Array.from(new Uint16Array(aligned(bytes)), fromHalf),
    write: (values) => Uint16Array.from(values, toHalf),
  },
  BF16: {
    dtype: 'f32',
    read: (bytes) => Float32Array.from(new Uint16Array(aligned(bytes)), fromBfloat),
    write: (values) => Uint16Array.from(values, toBfloat),
  },
  I32: { dtype: 'i32', read: (bytes) => new Int32Array(aligned(bytes)), write: itself },
  I64: { dtype: 'i32', read: narrow, write: (values) => BigInt64Array.from(values as Int32Array, BigInt) },
  U8: { dtype: 'u8', read: (bytes) => Uint8Array.from(bytes), write: itself },
  BOOL: {
    dtype: 'u8',
    read: (bytes) => Uint8Array.from(bytes),
    write: (values) => Uint8Array.from(values, (value) => +(value !== 0)),
  },
};

function narrow(bytes: Uint8Array, name: string): Int32Array {
  const wide = new BigInt64Array(aligned(bytes));
  const bad = wide.findIndex((value) => BigInt.asIntN(32, value) !== value);
  if (bad >= 0)
    throw new RangeError(`loadSafetensors: '${name}' element ${bad} is ${wide[bad]}, which does not fit i32`);
  return Int32Array.from(wide, Number);
}
