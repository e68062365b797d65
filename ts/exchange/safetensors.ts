import { checkOptions, tensor } from '../tensor/create.ts';
import type { TypedArray } from '../tensor/dtype.ts';
import { lazyTensor } from '../tensor/lazy.ts';
import { data } from '../tensor/read.ts';
import { Tensor } from '../tensor/tensor.ts';
import { elements } from './elements.ts';
import {
  elementSizes,
  parseSafetensors,
  type SafetensorsDtype,
  type SafetensorsEntry,
  serializeSafetensors,
} from './safetensors-format.ts';

export {
  parseSafetensors,
  type SafetensorsDtype,
  type SafetensorsEntry,
  SafetensorsError,
  type SafetensorsFile,
  serializeSafetensors,
} from './safetensors-format.ts';

/** What else goes into a file. */
export interface SaveSafetensorsOptions {
  /** Texts by name. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Element types by tensor name, where they differ from F32, I32 and U8: `F16`, `BF16`, `F64`, `I64` or `BOOL`. */
  readonly dtypes?: Readonly<Record<string, SafetensorsDtype>>;
}

const naturalDtype = { f32: 'F32', i32: 'I32', u8: 'U8' } as const;

/**
 * Reads the tensors of a safetensors file, in the order of their data. F16, BF16 and F64 become f32, I64 becomes i32
 * (checked), BOOL becomes u8. For the metadata use `parseSafetensors`. Numbers are read from `bytes`, which must not change, and get
 * linear memory when they are first used; a model that loads them before takes them over.
 *
 * @throws {SafetensorsError} with the byte offset for a damaged file or an unsupported type; {RangeError} for an I64 value
 * beyond i32.
 *
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import { loadSafetensors, saveSafetensors } from 'feathermap/safetensors';
 * await init();
 * const bytes = saveSafetensors({ weight: tensor([[1, 2], [3, 4]]) });
 * const { weight } = loadSafetensors(bytes);
 * if (weight.data().join() !== '1,2,3,4') throw new Error('round trip');
 * ```
 */
export function loadSafetensors(bytes: Uint8Array): Record<string, Tensor> {
  checkBytes(bytes);
  const loaded: [string, Tensor][] = [];
  for (const [name, entry] of parseSafetensors(bytes).entries) {
    const { dtype, read } = elements[entry.dtype];
    const values = (): TypedArray => read(entry.bytes, name);
    const { shape } = entry;
    // Whole numbers are checked now; nothing can be wrong with the others.
    loaded.push([name, dtype === 'f32' ? lazyTensor(shape, dtype, values) : tensor(values(), { shape, dtype })]);
  }
  // Not by assignment: a tensor may be called __proto__.
  return Object.fromEntries(loaded);
}

function checkBytes(bytes: unknown): void {
  if (!(bytes instanceof Uint8Array)) throw new TypeError('loadSafetensors: the file must be given as a Uint8Array');
}

/**
 * Writes tensors as a safetensors file, such as `saveSafetensors(net.stateDict())`. Equal tensors give equal bytes,
 * whatever their order in the record.
 *
 * @throws {TypeError} for a value that is no tensor, or a type in `dtypes` that cannot hold the tensor.
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * import { loadSafetensors, saveSafetensors } from 'feathermap/safetensors';
 * await init();
 * const net = new nn.Linear(2, 1);
 * const half = saveSafetensors(net.stateDict(), { dtypes: { weight: 'F16' } });
 * net.loadStateDict(loadSafetensors(half));
 * ```
 */
export function saveSafetensors(
  record: Readonly<Record<string, Tensor>> | ReadonlyMap<string, Tensor>,
  options: SaveSafetensorsOptions = {},
): Uint8Array {
  checkOptions('saveSafetensors', options, ['metadata', 'dtypes']);
  const named = record instanceof Map ? [...record] : Object.entries(record as Record<string, Tensor>);
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, value] of named) entries.set(name, entryOf(name, value, options.dtypes?.[name]));
  return serializeSafetensors({ metadata: options.metadata ?? {}, entries });
}

function entryOf(name: string, value: Tensor, asked: SafetensorsDtype | undefined): SafetensorsEntry {
  if (!(value instanceof Tensor)) throw new TypeError(`saveSafetensors: '${name}' is not a tensor`);
  const dtype = asked ?? naturalDtype[value.dtype];
  if (!Object.hasOwn(elementSizes, dtype) || elements[dtype].dtype !== value.dtype) {
    throw new TypeError(`saveSafetensors: '${name}' is ${value.dtype} and cannot be written as ${dtype}`);
  }
  const { buffer, byteOffset, byteLength } = elements[dtype].write(data(value));
  return { dtype, shape: value.shape, bytes: new Uint8Array(buffer, byteOffset, byteLength) };
}
