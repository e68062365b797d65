// The safetensors file format, without tensors: 8 bytes of header length (little-endian), a JSON header, the data.
// https://github.com/huggingface/safetensors#format; what is refused here is what the reference implementation refuses.

/** Bytes that are no whole safetensors file. `offset` is the byte at which that shows. */
export class SafetensorsError extends Error {
  override readonly name: string = 'SafetensorsError';
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

/** Bytes per element of each supported type; the order, from low to high, is the reference implementation's. */
export const elementSizes = { BOOL: 1, U8: 1, F16: 2, BF16: 2, I32: 4, F32: 4, F64: 8, I64: 8 } as const;

/** Element types that can be read and written. */
export type SafetensorsDtype = keyof typeof elementSizes;

/** One tensor in a file: raw little-endian bytes, row-major. */
export interface SafetensorsEntry {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** The content of a file. */
export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>;
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
}

/** The reference implementation's limit. */
const LONGEST_HEADER = 100_000_000;
const METADATA = '__metadata__';

function fail(message: string, offset: number): never {
  throw new SafetensorsError(`safetensors: ${message}`, offset);
}

/**
 * Takes a file apart and checks all of it: header length, JSON, duplicate names, types, shapes, and that the tensors
 * fill the data without gap or overlap. The entries' bytes are views of `bytes`; entries come in the order of the data.
 *
 * @throws {SafetensorsError} with the byte offset.
 * @example
 * ```ts
 * import { parseSafetensors, serializeSafetensors } from 'feathermap/safetensors';
 * const entry = { dtype: 'U8', shape: [2], bytes: Uint8Array.of(1, 2) };
 * const file = serializeSafetensors({ entries: new Map([['a', entry]]), metadata: { made: 'today' } });
 * if (parseSafetensors(file).metadata.made !== 'today') throw new Error('wrong');
 * ```
 */
export function parseSafetensors(bytes: Uint8Array): SafetensorsFile {
  const { text, dataStart } = readHeader(bytes);
  const header = parseHeader(text);
  const metadata = readMetadata(header[METADATA]);
  const described = Object.entries(header).filter(([name]) => name !== METADATA);
  const places = described.map(([name, value]) => readPlace(name, value));
  places.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkPlaces(places, dataStart, bytes.length - dataStart);
  const entries = new Map<string, SafetensorsEntry>();
  for (const { name, dtype, shape, begin, end } of places) {
    entries.set(name, { dtype, shape, bytes: bytes.subarray(dataStart + begin, dataStart + end) });
  }
  return { metadata, entries };
}

function readHeader(bytes: Uint8Array): { text: string; dataStart: number } {
  if (bytes.length < 8) fail(`truncated at byte ${bytes.length}, the header length takes 8 bytes`, bytes.length);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > LONGEST_HEADER)
    fail(`header length ${length} at byte 0 exceeds the limit of ${LONGEST_HEADER} bytes`, 0);
  const dataStart = 8 + Number(length);
  if (dataStart > bytes.length) {
    fail(`truncated at byte ${bytes.length}, the header of ${length} bytes ends at byte ${dataStart}`, bytes.length);
  }
  const header = bytes.subarray(8, dataStart);
  if (header[0] !== 0x7b) fail('the header does not begin with { at byte 8', 8);
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(header), dataStart };
  } catch {
    return fail('the header at byte 8 is not UTF-8', 8);
  }
}

function parseHeader(text: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    fail(`the header at byte 8 is not JSON: ${(cause as Error).message}`, 8);
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) {
    const offset = 8 + new TextEncoder().encode(text.slice(0, duplicate.index)).length;
    fail(`duplicate key ${duplicate.key} at byte ${offset}`, offset);
  }
  return header as Record<string, unknown>;
}

/** JSON.parse keeps the last of two equal keys in silence; here valid JSON is searched for the second. */
function findDuplicateKey(json: string): { key: string; index: number } | null {
  const open: Set<string>[] = [];
  for (const { 0: token, 1: key, index } of json.matchAll(/("(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (token === '{') open.push(new Set());
    else if (token === '}') open.pop();
    else if (key !== undefined) {
      const name = JSON.parse(key) as string;
      const keys = open.at(-1) as Set<string>;
      if (keys.has(name)) return { key, index };
      keys.add(name);
    }
  }
  return null;
}

function readMetadata(value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isRecord(value) || Object.values(value).some((text) => typeof text !== 'string')) {
    fail(`${METADATA} must map names to strings`, 8);
  }
  return value as Record<string, string>;
}

interface Place {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

function readPlace(name: string, value: unknown): Place {
  const shown = JSON.stringify(name);
  if (!isRecord(value)) fail(`${shown} must be an object with dtype, shape and data_offsets`, 8);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(elementSizes, dtype)) {
    fail(
      `${shown} has the unsupported dtype ${JSON.stringify(dtype)}; supported: ${Object.keys(elementSizes).join(', ')}`,
      8,
    );
  }
  if (!isSizes(shape)) fail(`${shown} has the shape ${JSON.stringify(shape)}, not a list of sizes`, 8);
  if (!isSizes(offsets) || offsets.length !== 2) {
    fail(`${shown} has the data_offsets ${JSON.stringify(offsets)}, not [begin, end]`, 8);
  }
  const [begin = 0, end = 0] = offsets;
  checkBytes(shown, dtype as SafetensorsDtype, shape, begin, end);
  return { name, dtype: dtype as SafetensorsDtype, shape, begin, end };
}

function checkBytes(
  shown: string,
  dtype: SafetensorsDtype,
  shape: readonly number[],
  begin: number,
  end: number,
): void {
  const need = shape.reduce((product, size) => product * size, elementSizes[dtype]);
  if (!Number.isSafeInteger(need)) fail(`${shown} has the shape [${shape}], whose size overflows`, 8);
  if (end - begin !== need) {
    fail(`${shown}: ${dtype} [${shape}] takes ${need} bytes, data_offsets [${begin},${end}] give ${end - begin}`, 8);
  }
}

function checkPlaces(places: readonly Place[], dataStart: number, available: number): void {
  let expected = 0;
  for (const { name, begin, end } of places) {
    if (begin !== expected) {
      const what = begin < expected ? 'overlaps the tensor before it' : 'leaves a gap before it';
      fail(`${JSON.stringify(name)} ${what}: it begins at ${begin}, expected ${expected}`, dataStart + begin);
    }
    expected = end;
  }
  if (expected > available) {
    fail(
      `truncated at byte ${dataStart + available}: the tensors take ${expected} bytes, the file has ${available}`,
      dataStart + available,
    );
  }
  if (expected < available) {
    fail(
      `${available - expected} trailing bytes at byte ${dataStart + expected} belong to no tensor`,
      dataStart + expected,
    );
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/**
 * Writes a file. Equal content gives equal bytes: tensors are sorted as the reference implementation sorts them (wide
 * types first, which aligns all data, then by name), metadata by name; spaces fill the header to a multiple of 8 bytes.
 *
 * @throws {RangeError} if the bytes of an entry do not fit its shape, or an entry is called `__metadata__`.
 * @example
 * ```ts
 * import { parseSafetensors, serializeSafetensors } from 'feathermap/safetensors';
 * const entry = { dtype: 'U8', shape: [2], bytes: Uint8Array.of(1, 2) };
 * const file = serializeSafetensors({ entries: new Map([['a', entry]]), metadata: { made: 'today' } });
 * if (parseSafetensors(file).entries.get('a').bytes.join() !== '1,2') throw new Error('wrong');
 * ```
 */
export function serializeSafetensors(file: SafetensorsFile): Uint8Array {
  const entries = [...file.entries].sort(([aName, a], [bName, b]) => rank(b) - rank(a) || compare(aName, bName));
  const header = new TextEncoder().encode(headerText(file.metadata, entries));
  const dataStart = 8 + Math.ceil(header.length / 8) * 8;
  const total = entries.reduce((sum, [, { bytes }]) => sum + bytes.length, dataStart);
  const result = new Uint8Array(total).fill(0x20, 8, dataStart);
  new DataView(result.buffer).setBigUint64(0, BigInt(dataStart - 8), true);
  result.set(header, 8);
  let at = dataStart;
  for (const [, { bytes }] of entries) {
    result.set(bytes, at);
    at += bytes.length;
  }
  return result;
}

function headerText(
  metadata: Readonly<Record<string, string>>,
  entries: readonly [string, SafetensorsEntry][],
): string {
  const fields: string[] = [];
  const texts = Object.entries(metadata).sort(([a], [b]) => compare(a, b));
  if (texts.length > 0) fields.push(`"${METADATA}":${JSON.stringify(Object.fromEntries(texts))}`);
  let begin = 0;
  for (const [name, { dtype, shape, bytes }] of entries) {
    const need = shape.reduce((product, size) => product * size, elementSizes[dtype]);
    if (name === METADATA) throw new RangeError(`safetensors: a tensor cannot be called ${METADATA}`);
    if (bytes.length !== need) {
      throw new RangeError(`safetensors: '${name}' has ${bytes.length} bytes, ${dtype} [${shape}] takes ${need}`);
    }
    const end = begin + bytes.length;
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`);
    begin = end;
  }
  return `{${fields.join(',')}}`;
}

function rank({ dtype }: SafetensorsEntry): number {
  return Object.keys(elementSizes).indexOf(dtype);
}

/** By code units, which does not depend on a locale. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
