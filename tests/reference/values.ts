// Numbers from a formula, so that inputs need not be stored: the twin of tests/golden/values.py.
// Element i of the tensor named `key` depends on (key, i) alone. Every value is exact in float32.

/** The kinds of numbers a case may ask for; `uniform` unless it says otherwise. */
export type Fill = 'uniform' | 'positive' | 'ties' | 'nan' | 'infinite';

/** Numbers, by index: what every oracle and comparison accepts. */
export type Numbers = ArrayLike<number>;

export type Shape = readonly number[];

/** Extents of [N, C, H, W] or [O, C, KH, KW]. */
export type Four = readonly [number, number, number, number];

/** Number of elements of a tensor of this shape. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** FNV-1a, 32 bit, over the UTF-8 bytes. */
function keyHash(key: string): number {
  let state = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(key)) state = Math.imul(state ^ byte, 0x01000193);
  return state;
}

/** `count` uniform 32-bit numbers: MurmurHash3's finaliser over a Weyl sequence. */
export function hashes(key: string, count: number): Uint32Array {
  const start = keyHash(key);
  const all = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    let state = (start + Math.imul(i, 0x9e3779b9)) | 0;
    state = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    state = Math.imul(state ^ (state >>> 13), 0xc2b2ae35);
    all[i] = state ^ (state >>> 16);
  }
  return all;
}

/** A number of each hash. `Float32Array.from(hashes, number)` is ten times slower, and the networks have 138 million. */
function fromHashes(key: string, count: number, number: (hash: number) => number): Float32Array {
  const all = new Float32Array(count);
  hashes(key, count).forEach((hash, i) => {
    all[i] = number(hash);
  });
  return all;
}

/** Small whole numbers from `low` to `high`, both included: sums of their products are exact in float32. */
export function integers(key: string, count: number, low: number, high: number): Float32Array {
  return fromHashes(key, count, (hash) => low + (hash % (high - low + 1)));
}

/** Multiples of 2^-23 in [-1, 1). */
export function uniform(key: string, count: number): Float32Array {
  return fromHashes(key, count, (hash) => (hash >>> 8) * 2 ** -23 - 1);
}

/** Small integers, every fifth (on average) replaced by one of `specials`. */
function withSpecials(key: string, count: number, specials: number[]): Float32Array {
  const choice = integers(`${key}/special`, count, 0, 5 * specials.length - 1);
  return integers(key, count, -1, 1).map((number, i) => specials[choice[i] as number] ?? number);
}

const fills: Record<Fill, (key: string, count: number) => Float32Array> = {
  uniform,
  positive: (key, count) => uniform(key, count).map((number) => 1 + 0.5 * number),
  ties: (key, count) => integers(key, count, -1, 1),
  nan: (key, count) => withSpecials(key, count, [Number.NaN]),
  infinite: (key, count) => withSpecials(key, count, [-Infinity, Infinity]),
};

/** How a case describes the numbers of one input. */
export interface FillOptions {
  fill?: Fill | undefined;
  scale?: number | undefined;
  shift?: number | undefined;
}

/** The numbers of the tensor `key`: float32(fill(key) * scale + shift). */
export function values(
  key: string,
  shape: Shape,
  { fill = 'uniform', scale = 1, shift = 0 }: FillOptions = {},
): Float32Array {
  return fills[fill](key, sizeOf(shape)).map((number) => number * scale + shift);
}

/** Makes the numbers of one input: `values`, or `smallIntegers` where a test wants exact answers. */
export type Draw = (key: string, shape: Shape, options?: FillOptions) => Float32Array;

/** Whole numbers from -3 to 3 in place of the case's own fill. */
export function smallIntegers(key: string, shape: Shape): Float32Array {
  return integers(key, sizeOf(shape), -3, 3);
}

/** The upstream gradient of the case `name` ('conv2d/3x3') whose output has this shape. */
export function upstream(name: string, shape: Shape, draw: Draw = values): Float32Array {
  return draw(`${name}/dy`, shape);
}
