// How the kernels of batch normalisation walk x, and what their grids are.
import * as kernels from '../generated/kernels.ts';
import { type Grid, type Location, NOWHERE } from '../runtime/command.ts';
import type { Operand } from '../tensor/op.ts';
import { isChannelsLast, sizeOf } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';

/** How the kernels walk x; see assembly/batch-norm-blocks.ts. */
export interface BatchNormGeometry {
  /** Channels innermost, or one channel at a time. */
  readonly columns: boolean;
  readonly C: number;
  /** Rows, or elements of a plane. */
  readonly length: number;
  /** Planes; 1 for columns. */
  readonly planes: number;
  /** Rows or elements of a plane that statistics sum up at once. */
  readonly block: number;
  /** Elements per channel. */
  readonly count: number;
  readonly eps: number;
  /** The output is clamped to these: -Infinity and Infinity unless a pass moved an activation in here. */
  readonly lo: number;
  readonly hi: number;
}

/** Elements that a block of rows holds: it stays in the second-level cache for its second pass. */
const ROW_BLOCK_ELEMENTS = 16384;
/** Rows that one f32 sum runs over at most: with 5461 of them (three channels) the variance was 4e-6 off, with these 3e-7. */
const MOST_ROWS = 256;

export function geometryOf(x: Tensor, eps: number): BatchNormGeometry {
  const [, C] = x.shape as [number, number];
  const count = x.size / Math.max(1, C);
  const columns = C > 1 && (x.shape.length === 2 || isChannelsLast(x.shape, x.strides));
  const planes = columns ? 1 : C === 1 ? 1 : x.shape[0]! * C;
  const length = columns || C === 1 ? count : sizeOf(x.shape.slice(2));
  const rows = Math.min(MOST_ROWS, Math.max(4, Math.floor(ROW_BLOCK_ELEMENTS / Math.max(1, C))));
  const bounds = { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY };
  return { columns, C, length, planes, block: columns ? rows : kernels.PLANE_BLOCK, count, eps, ...bounds };
}

/** Fields that the records share. */
export function walkOf({ C, length, block }: BatchNormGeometry): { C: number; length: number; block: number } {
  return { C, length, block };
}

export function boundsOf({ lo, hi }: BatchNormGeometry): { lo: number; hi: number } {
  return { lo, hi };
}

function tilesOf({ planes, length, block }: BatchNormGeometry): number {
  return planes * Math.ceil(length / block);
}

/** Blocks of statistics per channel. */
export function blocksOf(geometry: BatchNormGeometry): number {
  return tilesOf(geometry) / (geometry.columns ? 1 : geometry.C);
}

/** The grid of a kernel over all elements that takes `nanoseconds` for each; `sums` rows of C floats of scratch. */
export function elementGrid(geometry: BatchNormGeometry, nanoseconds: number, sums = 0): Grid {
  const { columns, C, count } = geometry;
  const scratch = columns ? 4 * sums * 8 * Math.ceil(C / 8) : 0;
  return { tiles: tilesOf(geometry), work: C * count * nanoseconds, scratch };
}

/** The grid of a kernel over groups of four channels. */
export function channelGrid(geometry: BatchNormGeometry): Grid {
  return { tiles: Math.ceil(geometry.C / 4), work: geometry.C * blocksOf(geometry) };
}

export function optional(x: Operand | undefined): Location {
  return x ? locationOf(x) : NOWHERE;
}
