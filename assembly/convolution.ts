// Convolution as a matrix product that never writes the whole patch matrix:
//
//   y[pixel, oc] = clamp(bias[oc] + residual[pixel, oc] + sum_k patch[pixel, k] * w[k, oc], lo, hi)         k = (tap, channel)
//
// x is channels-last. A tile gathers the patches of its own pixels into scratch, mc x kc floats that stay in the second-level
// cache, and multiplies them there.
//
// The input gradient is the same kernel with dy as the source. With stride s, input pixels fall into s * s phases, and in each
// the taps that reach it form an ordinary convolution of step 1; a phase without taps is filled with zeros. Hence the list of
// phases: forward has one (Dukhan, "The Indirect Convolution Algorithm", 2019, for the row-by-row view; XNNPACK's subconvolutions
// for the phases).
import { scratch } from './control';
import {
  isFar,
  multiplyBlock,
  multiplyPanels,
  NO_RESIDUAL,
  panelColumns,
  residualDistance,
  scratchRowBytes,
} from './gemm';
import { panelBytes } from './pack';
import { gatherPatches, RUN_WORDS, Source } from './patches';
import { Input, Output, Table } from './record';


@unmanaged
export class Conv2dArgs {
  y: Output;
  x: Input;
  /** Weights of every group as `pack` writes them; k runs over the taps of all phases, phase by phase. */
  panels: Input;
  /** As y; address 0: none. */
  residual: Input;
  /** PHASE_WORDS words per phase: rows, columns, offset in y (elements), first run, runs, first k, k. */
  phases: Table;
  /** RUN_WORDS words per run: dy, dx of its first tap, taps. */
  runs: Table;
  phaseCount: i32;
  images: i32;
  /** Source: its extent, and the elements between neighbours. */
  height: i32;
  width: i32;
  xImage: i32;
  xRow: i32;
  xColumn: i32;
  stepY: i32;
  stepX: i32;
  groups: i32;
  /** Source channels and output channels of a group. */
  channels: i32;
  n: i32;
  /** Elements between neighbouring images, rows and columns of a phase in y. */
  yImage: i32;
  yRow: i32;
  yColumn: i32;
  /** k of all phases together. */
  k: i32;
  /** Pixels and columns of y per tile (nc is a multiple of 8), length of a k block. */
  mc: i32;
  nc: i32;
  kc: i32;
  lo: f32;
  hi: f32;
}

export const PHASE_WORDS: i32 = 7;

/** One phase as read from the table. */
@unmanaged
class Phase {
  rows: i32;
  columns: i32;
  offset: i32;
  firstRun: i32;
  runs: i32;
  firstK: i32;
  k: i32;
}

/**
 * Tiles: for every phase groups x ceil(pixels / mc) x ceil(n / nc), columns fastest.
 * Scratch per lane, floats: mc x (kc rounded up to 4, + SCRATCH_ROW_SLACK) + LINE_FLOATS + 4.
 */
export function conv2d(args: Conv2dArgs, first: i32, last: i32, lane: i32): void {
  const columnBlocks = (args.n + args.nc - 1) / args.nc;
  let start = 0;
  for (let p = 0; p < args.phaseCount; p++) {
    const phase = changetype<Phase>(args.phases + <usize>(p * PHASE_WORDS) * 4);
    const rowBlocks = (args.images * phase.rows * phase.columns + args.mc - 1) / args.mc;
    const tiles = args.groups * rowBlocks * columnBlocks;
    const end = min(last, start + tiles);
    for (let tile = max(first, start); tile < end; tile++) {
      const block = (tile - start) / columnBlocks;
      convolveTile(
        args,
        phase,
        block / rowBlocks,
        (block % rowBlocks) * args.mc,
        ((tile - start) % columnBlocks) * args.nc,
        lane,
      );
    }
    start += tiles;
  }
}

/** Pixels m0 .. and columns n0 .. of one group and phase. */
function convolveTile(args: Conv2dArgs, phase: Phase, group: i32, m0: i32, n0: i32, lane: i32): void {
  const rows = min(args.mc, args.images * phase.rows * phase.columns - m0);
  const size = panelBytes(args.k);
  const panels = args.panels + <usize>(group * ((args.n + 7) >> 3) + (n0 >> 3)) * size;
  const source = args.x + ((<usize>(group * args.channels)) << 2);
  const block = scratch(lane);
  let k0 = 0;
  do {
    const k = min(args.kc, phase.k - k0);
    gatherPatches(
      changetype<Source>(changetype<usize>(args) + offsetof<Conv2dArgs>('height')),
      source,
      args.runs + <usize>(phase.firstRun * RUN_WORDS) * 4,
      phase.runs,
      phase.rows,
      phase.columns,
      m0,
      rows,
      k0,
      k0 + k,
      block,
      scratchRowBytes(k),
      block + <usize>args.mc * scratchRowBytes(args.kc),
    );
    multiplyPatches(args, phase, group, m0, n0, rows, k0, k, block, panels);
    k0 += args.kc;
  } while (k0 < phase.k);
}

/** Multiplies gathered patches with the panels of the tile's columns, output row by output row where y has gaps between them. */
function multiplyPatches(
  args: Conv2dArgs,
  phase: Phase,
  group: i32,
  m0: i32,
  n0: i32,
  rows: i32,
  k0: i32,
  k: i32,
  block: usize,
  panels: usize,
): void {
  const whole = k0 + k == phase.k;
  const lo: f32 = whole ? args.lo : -Infinity;
  const hi: f32 = whole ? args.hi : Infinity;
  const lda = scratchRowBytes(k);
  const size = panelBytes(args.k);
  const ldc = (<usize>args.yColumn) << 2;
  const columns = min(args.nc, args.n - n0);
  const y = args.y + ((<usize>(phase.offset + group * args.n + n0)) << 2);
  const steps = phase.firstK + k0;
  const residual = residualDistance(args.residual, args.y);
  if (args.yRow == phase.columns * args.yColumn && args.yImage == phase.rows * args.yRow) {
    const c = y + <usize>m0 * ldc;
    const far = isFar(<usize>args.k * args.n);
    multiplyBlock(rows, columns, k0 == 0, k, block, lda, panels, size, steps, far, residual, c, ldc, lo, hi);
    return;
  }
  const width = panelColumns();
  for (let column = 0; column < columns; column += width) {
    let a = block;
    let m = m0;
    while (m < m0 + rows) {
      const j = m % phase.columns;
      const row = m / phase.columns;
      const count = min(phase.columns - j, m0 + rows - m);
      const offset = (row / phase.rows) * args.yImage + (row % phase.rows) * args.yRow + j * args.yColumn + column;
      const c = y + ((<usize>offset) << 2);
      multiplyPanels(
        count,
        k,
        a,
        lda,
        panels + panelBytes(steps),
        size,
        k0 ? c : panels,
        k0 ? ldc : 0,
        k0 ? 32 : size,
        k0 ? NO_RESIDUAL : residual,
        c,
        ldc,
        min(width, columns - column),
        lo,
        hi,
      );
      a += <usize>count * lda;
      m += count;
    }
    panels += <usize>(width >> 3) * size;
  }
}
