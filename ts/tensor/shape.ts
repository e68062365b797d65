// Arithmetic of shapes and strides. Strides count elements; the last dimension of a contiguous tensor has stride 1.

/** Most dimensions a tensor may have. */
export const MAX_RANK = 8;
/** Most elements a tensor may have: kernels count them in i32. */
export const MAX_SIZE = 2 ** 31 - 1;

/** Number of elements. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const extent of shape) size *= extent;
  return size;
}

/** `[2,3]`, as errors print it. */
export function show(shape: readonly number[]): string {
  return `[${shape.join(',')}]`;
}

/** Whether two shapes (or two lists of strides) are equal. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Row-major strides. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= Math.max(1, shape[i]!);
  }
  return strides;
}

/** Strides of [N,C,H,W] with channels innermost in memory: PyTorch's channels_last. Only for four dimensions. */
export function channelsLastStrides(shape: readonly number[]): number[] {
  const [, c, h, w] = shape as [number, number, number, number];
  return [h * w * c, 1, w * c, c];
}

/** Whether the strides are row-major without gaps; dimensions of extent 1 do not count. Asked at every reading and writing: nothing is allocated. */
export function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    const extent = shape[i]!;
    if (extent === 1) continue;
    if (strides[i] !== expected) return false;
    expected *= Math.max(1, extent);
  }
  return true;
}

/** Whether the strides are those of a dense channels-last tensor. */
export function isChannelsLast(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.length !== 4) return false;
  const expected = channelsLastStrides(shape);
  return shape.every((extent, i) => extent === 1 || strides[i] === expected[i]);
}

/** Whether the elements fill a range of memory without gaps or overlaps, in any order of dimensions. */
export function isDense(shape: readonly number[], strides: readonly number[]): boolean {
  const order = shape.map((_, i) => i).filter((i) => shape[i]! > 1);
  order.sort((a, b) => strides[a]! - strides[b]!);
  let expected = 1;
  for (const i of order) {
    if (strides[i] !== expected) return false;
    expected *= shape[i]!;
  }
  return true;
}

/** Shape after NumPy broadcasting. Throws RangeError naming both shapes. */
export function broadcastShapes(op: string, a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  const shape = Array.from({ length: rank }, (_, i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1) throw new RangeError(`${op}: shapes ${show(a)} and ${show(b)} do not broadcast`);
    return x === 1 ? y : x;
  });
  checkSize(op, shape);
  return shape;
}

/** Strides of a tensor seen as `shape`: 0 along the dimensions it is repeated in. */
export function broadcastStrides(
  from: readonly number[],
  strides: readonly number[],
  shape: readonly number[],
): number[] {
  const shift = shape.length - from.length;
  return shape.map((extent, i) => (i < shift || (from[i - shift] === 1 && extent !== 1) ? 0 : strides[i - shift]!));
}

/** One loop of a strided walk: how many steps, and the stride of each operand. */
export interface Loop {
  readonly size: number;
  readonly strides: readonly number[];
}

/**
 * The loops of a walk over `shape` by several operands at once, outermost first: dimensions of extent 1 are dropped, the rest
 * ordered by the strides of the first operand, and neighbours that are one run for every operand merged.
 */
export function coalesce(shape: readonly number[], operands: readonly (readonly number[])[]): Loop[] {
  const order = shape.map((_, i) => i).filter((i) => shape[i] !== 1);
  order.sort((a, b) => operands[0]![b]! - operands[0]![a]!);
  const loops: Loop[] = [];
  for (const i of order) {
    const next: Loop = { size: shape[i]!, strides: operands.map((strides) => strides[i]!) };
    const outer = loops.at(-1);
    if (outer?.strides.every((stride, k) => stride === next.strides[k]! * next.size))
      loops[loops.length - 1] = { size: outer.size * next.size, strides: next.strides };
    else loops.push(next);
  }
  return loops.length ? loops : [{ size: 1, strides: operands.map(() => 0) }];
}

/** Turns dimension `dim`, which may count from the end, into 0 .. rank - 1; a tensor of rank 0 has a dimension 0 here. Throws RangeError. */
export function normalizeDim(op: string, dim: number, rank: number): number {
  if (!Number.isInteger(dim) || dim < -Math.max(1, rank) || dim >= Math.max(1, rank))
    throw new RangeError(`${op}: dim ${dim} is out of range for a tensor with ${rank} dimensions`);
  return dim < 0 ? dim + Math.max(1, rank) : dim;
}

/** Throws unless `shape` is an array of whole numbers >= 0 with at most MAX_RANK entries and MAX_SIZE elements. */
export function checkShape(op: string, shape: unknown): asserts shape is readonly number[] {
  if (!Array.isArray(shape)) throw new TypeError(`${op}: shape must be an array of numbers, got ${typeof shape}`);
  if (shape.length > MAX_RANK) throw new RangeError(`${op}: shape ${show(shape)} has more than ${MAX_RANK} dimensions`);
  for (const extent of shape)
    if (!Number.isInteger(extent) || extent < 0)
      throw new RangeError(`${op}: shape ${show(shape)} must hold whole numbers >= 0`);
  checkSize(op, shape);
}

/** Throws RangeError for more elements than a tensor may have. */
export function checkSize(op: string, shape: readonly number[]): void {
  const size = sizeOf(shape);
  if (size > MAX_SIZE)
    throw new RangeError(`${op}: shape ${show(shape)} has ${size} elements, a tensor has at most ${MAX_SIZE}`);
}
