// How a convolution is cut for the kernels: phases of outputs, the taps that reach them, and the runs that neighbouring taps form.
import * as kernels from '../generated/kernels.ts';
import type { Emitter } from '../runtime/command.ts';
import { channelsLastStrides } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Conv2dGeometry, Four } from './conv2d-geometry.ts';
import { temporaryCopy } from './product.ts';
import type { WindowAxis } from './window.ts';

/**
 * Whether the rows of x are brought channels inside while zeros are put around them, tile by tile, instead of by a copy: pictures, as
 * the first layer of a network finds them.
 */
export function isPlanar(x: Tensor, groups: number): boolean {
  const channels = x.shape[1]!;
  return groups === 1 && channels > 1 && channels <= kernels.MOST_PLANES && x.strides[1] !== 1 && x.strides[3] === 1;
}

/** An operand whose channels are neighbours in memory: itself, or a copy. */
export function withChannelsInside(emit: Emitter, x: Tensor): Tensor {
  if (x.shape[1] === 1 || x.strides[1] === 1) return x;
  return temporaryCopy(emit, x, channelsLastStrides(x.shape));
}

/** An operand as rows of it are read: planar as it is, or channels inside. */
export function readByRows(emit: Emitter, x: Tensor, groups: number): Tensor {
  return isPlanar(x, groups) ? x : withChannelsInside(emit, x);
}

/** A tap of the kernel: where it reads, relative to the first tap of an unpadded window, and its place in the weight. */
export interface Tap {
  readonly dy: number;
  readonly dx: number;
  readonly offset: number;
}

export function tapOffset(weight: Tensor, r: number, s: number): number {
  return r * weight.strides[2]! + s * weight.strides[3]!;
}

export function forwardTaps({ rows, columns }: Conv2dGeometry, offset: (r: number, s: number) => number): Tap[] {
  const taps: Tap[] = [];
  for (let r = 0; r < rows.kernel; r++)
    for (let s = 0; s < columns.kernel; s++)
      taps.push({
        dy: r * rows.dilation - rows.before,
        dx: s * columns.dilation - columns.before,
        offset: offset(r, s),
      });
  return taps;
}

/** Taps by which outputs reach inputs at `phase` of the stride, nearest output first, with the distance of that output. */
function reachingTaps(
  { kernel, stride, dilation, before }: WindowAxis,
  phase: number,
): [tap: number, distance: number][] {
  const taps: [number, number][] = [];
  for (let tap = kernel - 1; tap >= 0; tap--) {
    const distance = (phase + before - tap * dilation) / stride;
    if (Number.isInteger(distance)) taps.push([tap, distance]);
  }
  return taps;
}

/** Output pixels that one set of taps computes: a grid of rows x columns, first at element `offset` of the output. */
export interface Phase {
  readonly rows: number;
  readonly columns: number;
  readonly offset: number;
  readonly taps: readonly Tap[];
}

/** The input gradient by residues of the input position modulo the stride: each is a convolution of dy with the taps that reach it. */
export function gradientPhases({ x, rows, columns }: Conv2dGeometry, weight: Tensor): Phase[] {
  const [, channels, height, width] = x;
  const phases: Phase[] = [];
  for (let i = 0; i < Math.min(rows.stride, height); i++)
    for (let j = 0; j < Math.min(columns.stride, width); j++) {
      const taps = reachingTaps(rows, i).flatMap(([r, dy]) =>
        reachingTaps(columns, j).map(([s, dx]) => ({ dy, dx, offset: tapOffset(weight, r, s) })),
      );
      phases.push({
        rows: Math.ceil((height - i) / rows.stride),
        columns: Math.ceil((width - j) / columns.stride),
        offset: (i * width + j) * channels,
        taps,
      });
    }
  return phases;
}

/** Taps as runs (dy, first dx, count): neighbours in a row whose channels follow one another in memory are one run. */
export function runsOf(taps: readonly Tap[], adjacent: boolean): [dy: number, dx: number, taps: number][] {
  const runs: [number, number, number][] = [];
  for (const { dy, dx } of taps) {
    const last = runs.at(-1);
    if (adjacent && last && last[0] === dy && last[1] + last[2] === dx) last[2]++;
    else runs.push([dy, dx, 1]);
  }
  return runs;
}

/** Source of patches in the words of the kernels; `channels` are those of a group. */
export function sourceOf(
  x: Tensor,
  groups: number,
): Record<'height' | 'width' | 'xImage' | 'xRow' | 'xColumn' | 'channels', number> {
  const [, channels, height, width] = x.shape as Four;
  const [xImage, , xRow, xColumn] = x.strides as Four;
  return { height, width, xImage, xRow, xColumn, channels: channels / groups };
}

/** Whether the channels of neighbouring pixels follow one another without a gap. */
export function isAdjacent(source: { xColumn: number; channels: number }): boolean {
  return source.xColumn === source.channels;
}

/** Outputs per row below which patches of several rows make better strips. */
export const LEAST_ROW = 4;

/** A phase whose patches are `runs` runs of `taps` taps each, one in every dilation-th source row. */
export interface RowPhase {
  readonly rows: number;
  readonly columns: number;
  readonly offset: number;
  readonly depth: number;
  readonly runs: number;
  readonly taps: number;
  readonly dy: number;
  readonly dx: number;
  readonly dilation: number;
}

/** The phase in that form, if it has it. */
export function rowPhase({ rows, columns, offset, taps }: Phase, channels: number): RowPhase | null {
  const runs = runsOf(taps, true);
  const [dy, dx, length] = runs[0] ?? [0, 0, 0];
  const dilation = runs.length > 1 ? runs[1]![0] - dy : 0;
  const regular = runs.every(([y, x, count], r) => y === dy + r * dilation && x === dx && count === length);
  const depth = taps.length * channels;
  return regular ? { rows, columns, offset, depth, runs: runs.length, taps: length, dy, dx, dilation } : null;
}
