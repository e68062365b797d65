// Convolution as a matrix product that never writes the whole patch matrix:
//
//   y[pixel, oc] = clamp(bias[oc] + residual[pixel, oc] + sum_k patch[pixel, k] * w[k, oc], lo, hi)         k = (tap, channel)
//   dw[oc, k]    = sum_pixel dy[pixel, oc] * patch[pixel, k]
//   patch[(image, i, j), (tap, c)] = x[image, i * stepY + dy(tap), j * stepX + dx(tap), c], zero outside the source
//
// x is channels-last. A tile gathers the patches of its own pixels into scratch, mc x kc floats that stay in the second-level
// cache, and multiplies them there. Taps that are neighbours in a row of the source form a *run*: with contiguous channels its
// patch floats are one copy.
//
// The input gradient is the same kernel with dy as the source. With stride s, input pixels fall into s * s phases, and in each
// the taps that reach it form an ordinary convolution of step 1; a phase without taps is filled with zeros. Hence the list of
// phases: forward has one (Dukhan, "The Indirect Convolution Algorithm", 2019, for the row-by-row view; XNNPACK's subconvolutions
// for the phases).
import { Input, Output, Table } from './record';
import { scratch } from './control';
import { multiplyBlock, multiplyPanels, NO_RESIDUAL, panelColumns, residualDistance, scratchRowBytes } from './gemm';
import { panelBytes, transposeBlock } from './pack';
import { storePair } from './vector';


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
export const RUN_WORDS: i32 = 3;
/** Scratch for a row of the source with zeros around it, and the longest run that is cut from it. */
export const LINE_FLOATS: i32 = 1024;
const LINE_RUN: i32 = 128;

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

/** Where patches are cut from; conv2d and conv2dWeightGrad have these fields in common and hand them on. */
@unmanaged
class Source {
  height: i32;
  width: i32;
  xImage: i32;
  xRow: i32;
  xColumn: i32;
  stepY: i32;
  stepX: i32;
  groups: i32;
  channels: i32;
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
    multiplyBlock(rows, columns, k0 == 0, k, block, lda, panels, size, steps, residual, c, ldc, lo, hi);
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

/**
 * Writes patch[m, k] for m0 <= m < m0 + count and k0 <= k < k1 to `to`, rows `stride` bytes apart. Copies go four floats at a time
 * and may run over the end of a row by up to three.
 */
function gatherPatches(
  source: Source,
  x: usize,
  runs: usize,
  runCount: i32,
  rows: i32,
  columns: i32,
  m0: i32,
  count: i32,
  k0: i32,
  k1: i32,
  to: usize,
  stride: usize,
  line: usize,
): void {
  let m = m0;
  while (m < m0 + count) {
    const j = m % columns;
    const row = m / columns;
    const pixels = min(columns - j, m0 + count - m);
    const image = x + ((<usize>((row / rows) * source.xImage)) << 2);
    gatherRow(source, image, runs, runCount, (row % rows) * source.stepY, j, pixels, k0, k1, to, stride, line);
    to += <usize>pixels * stride;
    m += pixels;
  }
}

/** The patches of `pixels` neighbours in one output row, run by run; `y` is the source row of a tap with dy = 0. */
function gatherRow(
  source: Source,
  image: usize,
  runs: usize,
  runCount: i32,
  y: i32,
  j: i32,
  pixels: i32,
  k0: i32,
  k1: i32,
  to: usize,
  stride: usize,
  line: usize,
): void {
  let start = 0;
  for (let r = 0; r < runCount; r++) {
    const run = runs + <usize>(r * RUN_WORDS) * 4;
    const taps = load<i32>(run, 8);
    const length = taps * source.channels;
    const first = max(k0 - start, 0);
    const last = min(k1 - start, length);
    if (first < last) {
      const row = y + load<i32>(run);
      const target = to + ((<usize>(start + first - k0)) << 2);
      if (row < 0 || row >= source.height) {
        zeroPixels(target, stride, pixels, last - first);
      } else {
        const from = image + ((<usize>(row * source.xRow)) << 2);
        gatherRun(source, from, load<i32>(run, 4), taps, first, last, j, pixels, target, stride, line);
      }
    }
    start += length;
  }
}

/**
 * The floats first .. last - 1 of one run, for `pixels` neighbours. Pixels whose whole run lies inside the row are plain copies.
 * Short runs that leave it are cut from a copy of the row with zeros around it.
 */
function gatherRun(
  source: Source,
  row: usize,
  dx: i32,
  taps: i32,
  first: i32,
  last: i32,
  j: i32,
  pixels: i32,
  to: usize,
  stride: usize,
  line: usize,
): void {
  const step = source.stepX;
  const x = j * step + dx;
  const span = (pixels - 1) * step + taps;
  const pixelBytes = (<usize>source.xColumn) << 2;
  const length = last - first;
  if (x >= 0 && x + span <= source.width) {
    copyPixels(
      to,
      stride,
      row + <usize>x * pixelBytes + ((<usize>first) << 2),
      <usize>step * pixelBytes,
      pixels,
      length,
    );
  } else if (source.xColumn == source.channels && span * source.channels <= LINE_FLOATS && length <= LINE_RUN) {
    gatherEdge(source, row, x, 0, span * source.channels, line);
    copyPixels(to, stride, line + ((<usize>first) << 2), <usize>step * pixelBytes, pixels, length);
  } else {
    gatherRagged(source, row, dx, taps, first, last, j, pixels, to, stride);
  }
}

/** Long runs: pixels at the edges one by one, those between them as copies. */
function gatherRagged(
  source: Source,
  row: usize,
  dx: i32,
  taps: i32,
  first: i32,
  last: i32,
  j: i32,
  pixels: i32,
  to: usize,
  stride: usize,
): void {
  const step = source.stepX;
  const end = j + pixels;
  const inside = min(end, max(j, dx < 0 ? (step - 1 - dx) / step : 0));
  const room = source.width - taps - dx;
  const outside = min(end, max(inside, room < 0 ? 0 : room / step + 1));
  for (; j < inside; j++) {
    gatherEdge(source, row, j * step + dx, first, last, to);
    to += stride;
  }
  if (j < outside) {
    const from = row + ((<usize>((j * step + dx) * source.xColumn + first)) << 2);
    copyPixels(to, stride, from, (<usize>(step * source.xColumn)) << 2, outside - j, last - first);
    to += <usize>(outside - j) * stride;
    j = outside;
  }
  for (; j < end; j++) {
    gatherEdge(source, row, j * step + dx, first, last, to);
    to += stride;
  }
}

/** The floats first .. last - 1 counted from source column x, where some of them may lie outside the row: zeros, copy, zeros. */
function gatherEdge(source: Source, row: usize, x: i32, first: i32, last: i32, to: usize): void {
  const low = min(max(first, -x * source.channels), last);
  const high = max(low, min(last, (source.width - x) * source.channels));
  zero(to, low - first);
  copy(to + ((<usize>(low - first)) << 2), row + ((<usize>(x * source.xColumn + low)) << 2), high - low);
  zero(to + ((<usize>(high - first)) << 2), last - high);
}

function copyPixels(to: usize, toStride: usize, from: usize, fromStride: usize, pixels: i32, count: i32): void {
  if (count <= 4) {
    for (let i = 0; i < pixels; i++) {
      v128.store(to, v128.load(from));
      to += toStride;
      from += fromStride;
    }
  } else if (count <= 8) {
    for (let i = 0; i < pixels; i++) {
      storePair(to, v128.load(from), v128.load(from, 16));
      to += toStride;
      from += fromStride;
    }
  } else {
    for (let i = 0; i < pixels; i++) {
      copy(to, from, count);
      to += toStride;
      from += fromStride;
    }
  }
}

function zeroPixels(to: usize, stride: usize, pixels: i32, count: i32): void {
  for (let i = 0; i < pixels; i++) {
    zero(to, count);
    to += stride;
  }
}

/** Copies `count` floats, rounded up to four. */
export function copy(to: usize, from: usize, count: i32): void {
  for (; count > 12; count -= 16) {
    storePair(to, v128.load(from), v128.load(from, 16));
    storePair(to + 32, v128.load(from, 32), v128.load(from, 48));
    to += 64;
    from += 64;
  }
  for (; count > 0; count -= 4) {
    v128.store(to, v128.load(from));
    to += 16;
    from += 16;
  }
}

/** Writes `count` zeros, rounded up to four. */
export function zero(to: usize, count: i32): void {
  const none = i32x4.splat(0);
  for (; count > 0; count -= 4) {
    v128.store(to, none);
    to += 16;
  }
}


@unmanaged
export class Conv2dWeightGradArgs {
  /** [splits][groups * n][k]: a partial sum per split of the pixels; the gradient itself if there is one split. */
  dw: Output;
  x: Input;
  /** Channels-last and dense: pixel m begins at m * groups * n. */
  dy: Input;
  runs: Table;
  runCount: i32;
  images: i32;
  /** Extent of dy. */
  rows: i32;
  columns: i32;
  height: i32;
  width: i32;
  xImage: i32;
  xRow: i32;
  xColumn: i32;
  stepY: i32;
  stepX: i32;
  groups: i32;
  channels: i32;
  n: i32;
  k: i32;
  /** Pixels per split and per block, output channels and k per tile (kc is a multiple of 8). */
  splitPixels: i32;
  mc: i32;
  nc: i32;
  kc: i32;
  /** Pixels gathered at a time before they are spread over the panels: their patches should lie in the first-level cache. */
  patchPixels: i32;
}

/**
 * Tiles: splits x groups x ceil(n / nc) x ceil(k / kc), k fastest.
 * Scratch per lane, floats: 8 + (nc rounded up to 4) x (mc rounded up to 4, + SCRATCH_ROW_SLACK) + kc x mc
 * + patchPixels x (kc + SCRATCH_ROW_SLACK) + LINE_FLOATS + 4.
 */
export function conv2dWeightGrad(args: Conv2dWeightGradArgs, first: i32, last: i32, lane: i32): void {
  const kBlocks = (args.k + args.kc - 1) / args.kc;
  const nBlocks = (args.n + args.nc - 1) / args.nc;
  for (let tile = first; tile < last; tile++) {
    const block = tile / kBlocks;
    const part = block / nBlocks;
    weightGradTile(
      args,
      part / args.groups,
      part % args.groups,
      (block % nBlocks) * args.nc,
      (tile % kBlocks) * args.kc,
      lane,
    );
  }
}

/** Rows n0 .. and columns k0 .. of one group's gradient, summed over the pixels of one split. */
function weightGradTile(args: Conv2dWeightGradArgs, split: i32, group: i32, n0: i32, k0: i32, lane: i32): void {
  const n = min(args.nc, args.n - n0);
  const k = min(args.kc, args.k - k0);
  const pixel = (<usize>(args.groups * args.n)) << 2;
  const dw = args.dw + ((<usize>(((split * args.groups + group) * args.n + n0) * args.k + k0)) << 2);
  const dy = args.dy + ((<usize>(group * args.n + n0)) << 2);
  const zeros = scratch(lane);
  const gradients = zeros + 32;
  const panels = gradients + <usize>((args.nc + 3) & ~3) * scratchRowBytes(args.mc);
  const patches = panels + ((<usize>(args.kc * args.mc)) << 2);
  zero(zeros, 8);
  const start = split * args.splitPixels;
  const end = min(start + args.splitPixels, args.images * args.rows * args.columns);
  let m = start;
  do {
    const count = min(args.mc, end - m);
    transposeBlock(gradients, scratchRowBytes(args.mc), dy + <usize>m * pixel, pixel, count, n);
    gatherPanels(args, group, m, count, k0, k, panels, patches);
    multiplyTransposed(
      n,
      k,
      count,
      gradients,
      scratchRowBytes(args.mc),
      panels,
      m == start ? zeros : 0,
      dw,
      (<usize>args.k) << 2,
    );
    m += args.mc;
  } while (m < end);
}

/** Adds dy (transposed) x patches to a tile of dw, which begins at zero if `zeros` is given. */
function multiplyTransposed(
  n: i32,
  k: i32,
  pixels: i32,
  gradients: usize,
  stride: usize,
  panels: usize,
  zeros: usize,
  dw: usize,
  ldw: usize,
): void {
  const size = (<usize>pixels) << 5;
  const width = panelColumns();
  for (let column = 0; column < k; column += width) {
    multiplyPanels(
      n,
      pixels,
      gradients,
      stride,
      panels,
      size,
      zeros ? zeros : dw,
      zeros ? 0 : ldw,
      zeros ? 0 : 32,
      NO_RESIDUAL,
      dw,
      ldw,
      min(width, k - column),
      -Infinity,
      Infinity,
    );
    panels += <usize>(width >> 3) * size;
    dw += (<usize>width) << 2;
  }
}

/** Writes patch[m, k] for a block of pixels as panels [k / 8][pixel][8]. */
function gatherPanels(
  args: Conv2dWeightGradArgs,
  group: i32,
  m0: i32,
  pixels: i32,
  k0: i32,
  k: i32,
  panels: usize,
  patches: usize,
): void {
  const source = changetype<Source>(changetype<usize>(args) + offsetof<Conv2dWeightGradArgs>('height'));
  const x = args.x + ((<usize>(group * args.channels)) << 2);
  const stride = scratchRowBytes(k);
  const line = patches + <usize>args.patchPixels * stride;
  for (let m = 0; m < pixels; m += args.patchPixels) {
    const count = min(args.patchPixels, pixels - m);
    gatherPatches(
      source,
      x,
      args.runs,
      args.runCount,
      args.rows,
      args.columns,
      m0 + m,
      count,
      k0,
      k0 + k,
      patches,
      stride,
      line,
    );
    spreadPatches(panels + ((<usize>m) << 5), (<usize>pixels) << 5, patches, stride, count, (k + 7) >> 3);
  }
}

/** Patch rows to panels. The last panel's surplus columns take whatever lies behind a row; nothing is stored from them. */
function spreadPatches(to: usize, panelStride: usize, from: usize, stride: usize, pixels: i32, panels: i32): void {
  for (let i = 0; i < pixels; i++) {
    let target = to;
    let patch = from;
    for (let panel = 0; panel < panels; panel++) {
      storePair(target, v128.load(patch), v128.load(patch, 16));
      patch += 32;
      target += panelStride;
    }
    to += 32;
    from += stride;
  }
}


@unmanaged
export class SumPartialsArgs {
  y: Output;
  /** [splits][count] */
  partials: Input;
  splits: i32;
  count: i32;
}

/** Elements of y per tile of `sumPartials`. */
export const PARTIALS_TILE: i32 = 2048;

/** y[i] = partials[0, i] + partials[1, i] + ... Tiles: ceil(count / PARTIALS_TILE). */
export function sumPartials(args: SumPartialsArgs, first: i32, last: i32, lane: i32): void {
  const stride = (<usize>args.count) << 2;
  const end = min(args.count, last * PARTIALS_TILE);
  let i = first * PARTIALS_TILE;
  for (; i + 8 <= end; i += 8) {
    let from = args.partials + ((<usize>i) << 2);
    let s0 = v128.load(from);
    let s1 = v128.load(from, 16);
    for (let split = 1; split < args.splits; split++) {
      from += stride;
      s0 = f32x4.add(s0, v128.load(from));
      s1 = f32x4.add(s1, v128.load(from, 16));
    }
    v128.store(args.y + ((<usize>i) << 2), s0);
    v128.store(args.y + ((<usize>i) << 2), s1, 16);
  }
  for (; i < end; i++) {
    let from = args.partials + ((<usize>i) << 2);
    let sum = load<f32>(from);
    for (let split = 1; split < args.splits; split++) {
      from += stride;
      sum += load<f32>(from);
    }
    store<f32>(args.y + ((<usize>i) << 2), sum);
  }
}
