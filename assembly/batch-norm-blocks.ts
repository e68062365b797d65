// Where the numbers of a batch normalisation lie. Two walks over the same geometry:
//   columns   x is [rows, C], channels innermost: a block is `block` rows, all channels of a row side by side
//   planes    x is [N, C, P], one channel at a time: a block is at most `block` elements of a plane
// Blocks follow from geometry alone, so the bits depend on nothing else. What sums find in a block goes to `partials` [blocks, sums, C].
import { storeLanes } from './vector';

/** Elements that one block of a plane covers at most: four f32 sums of a quarter each. */
export const PLANE_BLOCK: i32 = 4096;

// @ts-ignore: decorator
@inline
export function blocksOf(length: i32, block: i32): i32 {
  return (length + block - 1) / block;
}

/** Length of block `index` of a row of blocks that covers `length`. */
// @ts-ignore: decorator
@inline
export function blockLength(index: i32, length: i32, block: i32): i32 {
  return min(block, length - index * block);
}

/** Offset in bytes of element `index` of channel 0 or plane 0. */
// @ts-ignore: decorator
@inline
export function floats(index: i32): usize {
  return (<usize>index) << 2;
}

/** Offset in bytes of block `b` of a plane. */
// @ts-ignore: decorator
@inline
export function planeOffset(plane: i32, b: i32, length: i32, block: i32): usize {
  return <usize>plane * floats(length) + floats(b * block);
}

/** Where the first of the `sums` numbers of block `b` of a plane stands. */
// @ts-ignore: decorator
@inline
export function partialOf(partials: usize, sums: i32, C: i32, plane: i32, b: i32, blocks: i32): usize {
  const n = plane / C;
  return partials + <usize>(sums * (n * blocks + b)) * floats(C) + floats(plane - n * C);
}

/** Copies `count` floats and nothing behind them. */
export function storeFloats(y: usize, x: usize, count: i32): void {
  for (; count > 0; count -= 4, y += 16, x += 16) storeLanes(y, v128.load(x), count);
}

/** 1 / sqrt(variance + eps) */
// @ts-ignore: decorator
@inline
export function inverseDeviation(variance: f32, eps: f32): f64 {
  return 1.0 / sqrt<f64>(<f64>variance + <f64>eps);
}
