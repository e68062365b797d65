// What matrix products and convolutions share when they are lowered: block sizes, packed operands, copies into a layout that the
// kernels take.
import * as kernels from '../generated/kernels.ts';
import { type Emitter, type Location, NOWHERE } from '../runtime/command.ts';
import type { Storage } from '../runtime/storage.ts';
import { contiguousStrides } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { emitCopy } from './copy.ts';

/** Nanoseconds per multiply-add, for estimates: about 40 GFLOP/s. */
export const MAC_NANOSECONDS = 0.05;

/** Rows of a tile: with KC floats each they fill a part of the second-level cache (60 x 640 floats are 150 KB). */
const MC = 60;
/** Length of a k block: eight columns of it (20 KB) stay in the first-level cache. */
export const KC = 640;
/** Strips are at most six rows high, five in the plain build; sixty is a multiple of both, twelve of the taller. */
const ROW_STEP = 12;
/** Columns of a tile come by pairs of panels, which 256-bit mode takes at a time. */
export const PANELS = 16;
/** Multiply-adds of a tile, about: 0.4 ms at full speed. */
export const TILE_MACS = 8e6;
/** For several threads smaller products are cut finer: into so many tiles, but none of fewer multiply-adds than this. */
const WANTED_TILES = 4;
const LEAST_TILE_MACS = 1e6;
/** Narrower tiles would gather or transpose their rows too often for what they multiply. */
export const LEAST_COLUMNS = 64;
/** Floats packed per tile, about; four panels go together where n is innermost. */
const PACK_TILE = 32768;

/** Cuts `extent` into equal blocks of at most `most` and returns their size, a multiple of `step`. */
export function evenBlock(extent: number, most: number, step: number): number {
  const blocks = Math.max(1, Math.ceil(extent / most));
  return Math.max(1, Math.ceil(extent / blocks / step)) * step;
}

/** Multiply-adds of a tile of a product that has `macs`, about. */
export function tileMacs(macs: number): number {
  return Math.min(TILE_MACS, Math.max(LEAST_TILE_MACS, macs / WANTED_TILES));
}

/** Block sizes of a product: rows and columns per tile, length of a k block. */
export interface Blocks {
  readonly mc: number;
  readonly nc: number;
  readonly kc: number;
}

/** Blocks of an m x n x k product. They follow from the sizes alone, and with them the order of every sum. */
export function productBlocks(m: number, n: number, k: number): Blocks {
  const mc = evenBlock(m, MC, ROW_STEP);
  const columns = Math.floor(tileMacs(m * n * k) / (mc * Math.max(1, k)) / 8) * 8;
  return { mc, nc: evenBlock(n, Math.max(LEAST_COLUMNS, columns), PANELS), kc: evenBlock(k, KC, 4) };
}

/** Bytes of a scratch block of rows, each `k` floats. */
export function scratchRows(rows: number, k: number): number {
  return rows * (4 * Math.ceil(k / 4) + kernels.SCRATCH_ROW_SLACK) * 4;
}

/** Floats of one packed k x n matrix. */
export function panelFloats(n: number, k: number): number {
  return Math.ceil(n / 8) * 8 * (k + 1);
}

/** The right operand of a product, k = (tap, channel), as it lies in memory; strides and offsets count elements. */
export interface Packing {
  readonly b: Location;
  readonly bias: Location;
  /** Factors of the columns, n per matrix. Default ones. */
  readonly scale?: Location;
  /** Offset of each tap. */
  readonly taps: readonly number[];
  /** Channels per tap. */
  readonly channels: number;
  readonly n: number;
  readonly strideChannel: number;
  readonly strideN: number;
  readonly matrices: number;
  readonly strideMatrix: number;
}

/** Emits the packing of all matrices and returns where they go. It depends on the operand alone, so compile runs it once. */
export function emitPack(emit: Emitter, { taps, matrices, scale = NOWHERE, ...operand }: Packing): Location {
  const { channels, n } = operand;
  const k = taps.length * channels;
  const floats = matrices * panelFloats(n, k);
  const panels = emit.temporary(4 * floats);
  const panelsPerTile = 4 * Math.max(1, Math.floor(PACK_TILE / (32 * (k + 1))));
  emit.command(
    kernels.pack,
    { panels, ...operand, scale, taps: emit.table(taps.length ? taps : [0]), tapCount: taps.length, panelsPerTile },
    { tiles: matrices * Math.ceil(Math.ceil(n / 8) / panelsPerTile), work: floats * 0.5 },
  );
  return panels;
}

/** A row-major copy (or one with these strides) that lives as long as this op call. */
export function temporaryCopy(
  emit: Emitter,
  x: Tensor,
  strides: readonly number[] = contiguousStrides(x.shape),
): Tensor {
  const { storage } = emit.temporary(4 * x.size);
  const copy = new Tensor({ storage: storage as Storage, shape: x.shape, dtype: x.dtype, strides });
  emitCopy(emit, copy, x);
  return copy;
}

/** Throws TypeError unless every operand that is there is f32. */
export function checkFloat(op: string, operands: Readonly<Record<string, Tensor | null | undefined>>): void {
  for (const [name, tensor] of Object.entries(operands))
    if (tensor && tensor.dtype !== 'f32')
      throw new TypeError(`${op}: ${name} must be f32, got ${tensor.dtype}; cast it with to('f32')`);
}
