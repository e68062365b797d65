// The weight gradient of a convolution, a product over all pixels of the output:
//
//   dw[oc, k] = sum_pixel dy[pixel, oc] * patch[pixel, k]         k = (tap, channel)
//
// The pixels may be split; then each split writes a sum of its own, and `sumPartials` adds them.
import { scratch } from './control';
import { multiplyPanels, NO_RESIDUAL, panelColumns, scratchRowBytes } from './gemm';
import { transposeBlock } from './pack';
import { gatherPatches, Source, zero } from './patches';
import { Input, Output, Table } from './record';
import { storePair } from './vector';


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
