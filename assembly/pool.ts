// Max and average pooling over channels-last planes: x [N, H, W, C] -> y [N, OH, OW, C], vectors run over channels.
//
// A window starts at (oh SH - PT, ow SW - PL) and takes KH x KW taps, DH and DW apart; taps outside the input count as -inf
// (max) or as nothing (average). A tile is a block of output rows (forward), of input rows (avgPool2dGrad), or of channels of
// one image (maxPool2dGrad, which scatters), so that no two tiles write the same element.
//
// Channels come in groups of 4. Where C is not a multiple of 4 but at least 4, the last group overlaps the one before it: the same
// values are computed twice, and no partial stores are needed.
import { Input, Output } from './record';
import { select, storeLanes } from './vector';


@unmanaged
export class PoolArgs {
  y: Output;
  x: Input;
  N: i32;
  C: i32;
  H: i32;
  W: i32;
  OH: i32;
  OW: i32;
  KH: i32;
  KW: i32;
  SH: i32;
  SW: i32;
  /** Padding at the top and on the left. */
  PT: i32;
  PL: i32;
  DH: i32;
  DW: i32;
  /** Output rows per tile, counted over all images. */
  block: i32;
}

/** PoolArgs and where the indices go. */
@unmanaged
export class PoolIndicesArgs {
  y: Output;
  x: Input;
  N: i32;
  C: i32;
  H: i32;
  W: i32;
  OH: i32;
  OW: i32;
  KH: i32;
  KW: i32;
  SH: i32;
  SW: i32;
  PT: i32;
  PL: i32;
  DH: i32;
  DW: i32;
  block: i32;
  /** i32, as y: h W + w of the maximum in its input plane, -1 where a window holds no element. */
  indices: Output;
}


@unmanaged
export class MaxPoolGradArgs {
  dx: Output;
  dy: Input;
  indices: Input;
  N: i32;
  C: i32;
  /** Elements of an input plane and of an output plane. */
  inputs: i32;
  outputs: i32;
  /** Channels per tile. */
  block: i32;
}

/** PoolArgs without dilation; PB and PR decide which taps beyond the padding count for the divisor. */
@unmanaged
export class AvgPoolArgs {
  y: Output;
  x: Input;
  N: i32;
  C: i32;
  H: i32;
  W: i32;
  OH: i32;
  OW: i32;
  KH: i32;
  KW: i32;
  SH: i32;
  SW: i32;
  PT: i32;
  PL: i32;
  PB: i32;
  PR: i32;
  /** 1: padding counts in the divisor. */
  includePad: i32;
  /** The divisor, or 0: the size of the window. */
  divisor: i32;
  /** Output rows per tile (forward), input rows per tile (gradient). */
  block: i32;
}

// ---- Windows ------------------------------------------------------------------------------------------------------------

/** First tap that lies in the input, for a window that starts at `start`. */
// @ts-ignore: decorator
@inline
function firstTap(start: i32, dilation: i32): i32 {
  return start < 0 ? (dilation - 1 - start) / dilation : 0;
}

/** Number of taps before the first one at or beyond `extent`, at most K. */
// @ts-ignore: decorator
@inline
function lastTap(start: i32, dilation: i32, K: i32, extent: i32): i32 {
  if (start + (K - 1) * dilation < extent) return K;
  return max(0, (extent - start + dilation - 1) / dilation);
}

/** First window that starts inside the input; `windows` if none does. */
// @ts-ignore: decorator
@inline
function firstInner(pad: i32, S: i32, windows: i32): i32 {
  return min(windows, (pad + S - 1) / S);
}

/** One more than the last window that ends inside the input, at least `first`. */
// @ts-ignore: decorator
@inline
function lastInner(pad: i32, K: i32, S: i32, extent: i32, windows: i32, first: i32): i32 {
  const room = extent - K + pad;
  return room < 0 ? first : max(first, min(windows, room / S + 1));
}

/** Where the group of channels at `c` starts: the last one is moved back so that it ends at C. */
// @ts-ignore: decorator
@inline
function group(c: i32, C: i32): usize {
  return (<usize>(c + 4 <= C || C < 4 ? c : C - 4)) << 2;
}

// ---- Maximum ------------------------------------------------------------------------------------------------------------

/** Max pooling without indices. NaN wins. */
export function maxPool2d(args: PoolArgs, first: i32, last: i32, lane: i32): void {
  maxRows(args, 0, first, last);
}

/** Max pooling with indices: the first of equal values, the last of several NaN, as PyTorch's `value > max || isnan(value)`. */
export function maxPool2dIndices(args: PoolIndicesArgs, first: i32, last: i32, lane: i32): void {
  maxRows(changetype<PoolArgs>(args), args.indices, first, last);
}

function maxRows(args: PoolArgs, indices: usize, first: i32, last: i32): void {
  const rowBytes = (<usize>(args.OW * args.C)) << 2;
  const end = min(args.N * args.OH, last * args.block);
  const plain = args.KH == 2 && args.KW == 2 && args.DH == 1 && args.DW == 1;
  for (let row = first * args.block; row < end; row++) {
    const n = row / args.OH;
    const h = (row - n * args.OH) * args.SH - args.PT;
    const image = args.x + ((<usize>(n * args.H * args.W * args.C)) << 2);
    const y = args.y + <usize>row * rowBytes;
    const at = indices ? indices + <usize>row * rowBytes : 0;
    if (plain && h >= 0 && h + 2 <= args.H) maxRow2x2(args, y, at, image, h);
    else maxRow(args, y, at, image, h, 0, args.OW);
  }
}

/** Windows ow .. end - 1 of one output row whose windows start at input row `h`. */
function maxRow(args: PoolArgs, y: usize, indices: usize, image: usize, h: i32, ow: i32, end: i32): void {
  const C = args.C;
  const pixel = (<usize>C) << 2;
  const tapDown = args.DH * args.W;
  const kh0 = firstTap(h, args.DH);
  const down = lastTap(h, args.DH, args.KH, args.H) - kh0;
  y += <usize>ow * pixel;
  if (indices) indices += <usize>ow * pixel;
  for (; ow < end; ow++, y += pixel) {
    const w = ow * args.SW - args.PL;
    const kw0 = firstTap(w, args.DW);
    const across = lastTap(w, args.DW, args.KW, args.W) - kw0;
    if (down <= 0 || across <= 0) {
      emptyWindow(y, indices, C);
    } else {
      const corner = (h + kh0 * args.DH) * args.W + w + kw0 * args.DW;
      const x = image + <usize>corner * pixel;
      if (indices) indexWindow(y, indices, x, C, corner, down, across, tapDown, args.DW);
      else maxWindow(y, x, C, down, across, <usize>tapDown * pixel, <usize>args.DW * pixel);
    }
    if (indices) indices += pixel;
  }
}

/** A window without elements, which only dilation beyond the input can make: -inf, index -1. */
function emptyWindow(y: usize, indices: usize, C: i32): void {
  for (let c = 0; c < C; c++) {
    store<f32>(y + ((<usize>c) << 2), -Infinity);
    if (indices) store<i32>(indices + ((<usize>c) << 2), -1);
  }
}

/** Lanes where x replaces best: where it is larger, or NaN. */
// @ts-ignore: decorator
@inline
function takes(x: v128, best: v128): v128 {
  return v128.or(f32x4.gt(x, best), f32x4.ne(x, x));
}

/** Maximum over down x across taps, for all channels of one pixel. */
function maxWindow(y: usize, x: usize, C: i32, down: i32, across: i32, tapDown: usize, tapAcross: usize): void {
  let c = 0;
  for (; c + 8 <= C; c += 8, x += 32, y += 32) {
    let best0 = v128.load(x);
    let best1 = v128.load(x, 16);
    let line = x;
    for (let kh = 0; kh < down; kh++, line += tapDown) {
      let tap = line;
      for (let kw = 0; kw < across; kw++, tap += tapAcross) {
        const x0 = v128.load(tap);
        const x1 = v128.load(tap, 16);
        best0 = select(takes(x0, best0), x0, best0);
        best1 = select(takes(x1, best1), x1, best1);
      }
    }
    v128.store(y, best0);
    v128.store(y, best1, 16);
  }
  for (let rest = C - c; rest > 0; rest -= 4, x += 16, y += 16) {
    const back: usize = rest < 4 && C >= 4 ? (<usize>(4 - rest)) << 2 : 0;
    let line = x - back;
    let best = v128.load(line);
    for (let kh = 0; kh < down; kh++, line += tapDown) {
      let tap = line;
      for (let kw = 0; kw < across; kw++, tap += tapAcross) {
        const value = v128.load(tap);
        best = select(takes(value, best), value, best);
      }
    }
    storeLanes(y - back, best, C);
  }
}

/** The same with the index of each maximum; `corner` is the index of the first tap. */
function indexWindow(
  y: usize,
  indices: usize,
  x: usize,
  C: i32,
  corner: i32,
  down: i32,
  across: i32,
  tapDown: i32,
  tapAcross: i32,
): void {
  const pixel = (<usize>C) << 2;
  for (let c = 0; c < C; c += 4) {
    const at = group(c, C);
    let best = v128.load(x + at);
    let index = i32x4.splat(corner);
    for (let kh = 0; kh < down; kh++) {
      let here = corner + kh * tapDown;
      let tap = x + at + <usize>(kh * tapDown) * pixel;
      for (let kw = 0; kw < across; kw++, here += tapAcross, tap += <usize>tapAcross * pixel) {
        const value = v128.load(tap);
        const mask = takes(value, best);
        best = select(mask, value, best);
        index = select(mask, i32x4.splat(here), index);
      }
    }
    storeLanes(y + at, best, C);
    storeLanes(indices + at, index, C);
  }
}

/** One output row of 2 x 2 windows: the ones inside the input without loops over taps, the ones at the edges as maxRow does. */
function maxRow2x2(args: PoolArgs, y: usize, indices: usize, image: usize, h: i32): void {
  const pixel = (<usize>args.C) << 2;
  const inner0 = firstInner(args.PL, args.SW, args.OW);
  const inner1 = lastInner(args.PL, 2, args.SW, args.W, args.OW, inner0);
  if (inner0 > 0) maxRow(args, y, indices, image, h, 0, inner0);
  const corner = h * args.W + inner0 * args.SW - args.PL;
  const x = image + <usize>corner * pixel;
  const at = <usize>inner0 * pixel;
  if (indices) indices2x2(y + at, indices + at, x, inner1 - inner0, args.C, args.W, args.SW, corner);
  else max2x2(y + at, x, inner1 - inner0, args.C, <usize>args.W * pixel, <usize>args.SW * pixel);
  if (inner1 < args.OW) maxRow(args, y, indices, image, h, inner1, args.OW);
}

function max2x2(y: usize, x: usize, count: i32, C: i32, down: usize, step: usize): void {
  const pixel = (<usize>C) << 2;
  for (; count > 0; count--, x += step, y += pixel) {
    for (let c = 0; c < C; c += 4) {
      const at = group(c, C);
      const a = x + at;
      const b = a + down;
      let best = v128.load(a);
      let value = v128.load(a + pixel);
      best = select(takes(value, best), value, best);
      value = v128.load(b);
      best = select(takes(value, best), value, best);
      value = v128.load(b + pixel);
      best = select(takes(value, best), value, best);
      storeLanes(y + at, best, C);
    }
  }
}

function indices2x2(y: usize, indices: usize, x: usize, count: i32, C: i32, W: i32, SW: i32, corner: i32): void {
  const pixel = (<usize>C) << 2;
  const down = <usize>W * pixel;
  const step = <usize>SW * pixel;
  for (; count > 0; count--, x += step, y += pixel, indices += pixel, corner += SW) {
    for (let c = 0; c < C; c += 4) {
      const at = group(c, C);
      const a = x + at;
      const b = a + down;
      let best = v128.load(a);
      let index = i32x4.splat(corner);
      let value = v128.load(a + pixel);
      let mask = takes(value, best);
      best = select(mask, value, best);
      index = select(mask, i32x4.splat(corner + 1), index);
      value = v128.load(b);
      mask = takes(value, best);
      best = select(mask, value, best);
      index = select(mask, i32x4.splat(corner + W), index);
      value = v128.load(b + pixel);
      mask = takes(value, best);
      best = select(mask, value, best);
      index = select(mask, i32x4.splat(corner + W + 1), index);
      storeLanes(y + at, best, C);
      storeLanes(indices + at, index, C);
    }
  }
}

/** dx = 0, then dx[index] += dy in the order of the outputs. Tile: one image, one block of channels. */
export function maxPool2dGrad(args: MaxPoolGradArgs, first: i32, last: i32, lane: i32): void {
  const C = args.C;
  const across = (C + args.block - 1) / args.block;
  for (let tile = first; tile < last; tile++) {
    const n = tile / across;
    const c = (tile - n * across) * args.block;
    const count = min(args.block, C - c);
    const dx = args.dx + ((<usize>(n * args.inputs * C + c)) << 2);
    const at = (<usize>(n * args.outputs * C + c)) << 2;
    if (count == C) memory.fill(dx, 0, (<usize>(args.inputs * C)) << 2);
    else clearColumns(dx, args.inputs, (<usize>C) << 2, (<usize>count) << 2);
    for (let o = 0; o < args.outputs; o++) {
      const offset = at + ((<usize>(o * C)) << 2);
      scatter(dx, args.dy + offset, args.indices + offset, count, C, args.inputs);
    }
  }
}

function clearColumns(dx: usize, rows: i32, stride: usize, bytes: usize): void {
  for (; rows > 0; rows--, dx += stride) memory.fill(dx, 0, bytes);
}

/** One output pixel. Indices outside the plane get nothing. */
function scatter(dx: usize, dy: usize, indices: usize, count: i32, C: i32, inputs: i32): void {
  for (let c = 0; c < count; c++, dx += 4, dy += 4, indices += 4) {
    const index = load<i32>(indices);
    if (<u32>index >= <u32>inputs) continue;
    const target = dx + ((<usize>(index * C)) << 2);
    store<f32>(target, load<f32>(target) + load<f32>(dy));
  }
}

// ---- Average ------------------------------------------------------------------------------------------------------------

/** Average pooling: sum of the taps inside the input, divided as PyTorch does. */
export function avgPool2d(args: AvgPoolArgs, first: i32, last: i32, lane: i32): void {
  const rowBytes = (<usize>(args.OW * args.C)) << 2;
  const end = min(args.N * args.OH, last * args.block);
  const inner0 = firstInner(args.PL, args.SW, args.OW);
  const inner1 = lastInner(args.PL, args.KW, args.SW, args.W, args.OW, inner0);
  for (let row = first * args.block; row < end; row++) {
    const n = row / args.OH;
    const oh = row - n * args.OH;
    const h0 = max(0, oh * args.SH - args.PT);
    const rows = min(args.H, oh * args.SH - args.PT + args.KH) - h0;
    const x = args.x + ((<usize>((n * args.H + h0) * args.W * args.C)) << 2);
    const y = args.y + <usize>row * rowBytes;
    averageEdge(args, y, x, oh, 0, inner0, rows);
    averageInner(args, y, x, oh, inner0, inner1, rows);
    averageEdge(args, y, x, oh, inner1, args.OW, rows);
  }
}

/** Windows ow .. end - 1 of one row, which may reach into the padding on the left or right. */
function averageEdge(args: AvgPoolArgs, y: usize, x: usize, oh: i32, ow: i32, end: i32, rows: i32): void {
  const pixel = (<usize>args.C) << 2;
  for (; ow < end; ow++) {
    const w = ow * args.SW - args.PL;
    const w0 = max(0, w);
    const columns = min(args.W, w + args.KW) - w0;
    const from = x + <usize>w0 * pixel;
    averageWindow(
      y + <usize>ow * pixel,
      from,
      args.C,
      rows,
      columns,
      <usize>args.W * pixel,
      windowDivisor(args, oh, ow),
    );
  }
}

/** Windows ow .. end - 1 of one row, which all have their full width, hence one divisor. */
function averageInner(args: AvgPoolArgs, y: usize, x: usize, oh: i32, ow: i32, end: i32, rows: i32): void {
  if (ow >= end) return;
  const pixel = (<usize>args.C) << 2;
  const down = <usize>args.W * pixel;
  const step = <usize>args.SW * pixel;
  const divisor = windowDivisor(args, oh, ow);
  y += <usize>ow * pixel;
  x += <usize>(ow * args.SW - args.PL) * pixel;
  if (rows == 2 && args.KW == 2) {
    average2x2(y, x, end - ow, args.C, down, step, divisor);
  } else {
    for (; ow < end; ow++, y += pixel, x += step) averageWindow(y, x, args.C, rows, args.KW, down, divisor);
  }
}

/** What the sum of window (oh, ow) is divided by: `divisor`, or its size with or without the padding it covers. */
function windowDivisor(args: AvgPoolArgs, oh: i32, ow: i32): f32 {
  if (args.divisor) return <f32>args.divisor;
  const h = oh * args.SH - args.PT;
  const w = ow * args.SW - args.PL;
  if (args.includePad)
    return <f32>((min(h + args.KH, args.H + args.PB) - h) * (min(w + args.KW, args.W + args.PR) - w));
  return <f32>((min(h + args.KH, args.H) - max(h, 0)) * (min(w + args.KW, args.W) - max(w, 0)));
}

function average2x2(y: usize, x: usize, count: i32, C: i32, down: usize, step: usize, divisor: f32): void {
  const d = f32x4.splat(divisor);
  const pixel = (<usize>C) << 2;
  for (; count > 0; count--, x += step, y += pixel) {
    for (let c = 0; c < C; c += 4) {
      const at = group(c, C);
      const a = x + at;
      const b = a + down;
      let sum = f32x4.add(v128.load(a), v128.load(a + pixel));
      sum = f32x4.add(f32x4.add(sum, v128.load(b)), v128.load(b + pixel));
      storeLanes(y + at, f32x4.div(sum, d), C);
    }
  }
}

function averageWindow(y: usize, x: usize, C: i32, rows: i32, columns: i32, down: usize, divisor: f32): void {
  const d = f32x4.splat(divisor);
  const pixel = (<usize>C) << 2;
  let c = 0;
  for (; c + 8 <= C; c += 8, x += 32, y += 32) {
    let sum0 = i32x4.splat(0);
    let sum1 = sum0;
    let line = x;
    for (let kh = 0; kh < rows; kh++, line += down) {
      let tap = line;
      for (let kw = 0; kw < columns; kw++, tap += pixel) {
        sum0 = f32x4.add(sum0, v128.load(tap));
        sum1 = f32x4.add(sum1, v128.load(tap, 16));
      }
    }
    v128.store(y, f32x4.div(sum0, d));
    v128.store(y, f32x4.div(sum1, d), 16);
  }
  for (let rest = C - c; rest > 0; rest -= 4, x += 16, y += 16) {
    const back: usize = rest < 4 && C >= 4 ? (<usize>(4 - rest)) << 2 : 0;
    let sum = i32x4.splat(0);
    let line = x - back;
    for (let kh = 0; kh < rows; kh++, line += down) {
      let tap = line;
      for (let kw = 0; kw < columns; kw++, tap += pixel) sum = f32x4.add(sum, v128.load(tap));
    }
    storeLanes(y - back, f32x4.div(sum, d), C);
  }
}

/** Gradient of avgPool2d: y is dx and x is dy here. */
export function avgPool2dGrad(args: AvgPoolArgs, first: i32, last: i32, lane: i32): void {
  const rowBytes = (<usize>(args.W * args.C)) << 2;
  const end = min(args.N * args.H, last * args.block);
  const apart = args.SH >= args.KH && args.SW >= args.KW;
  for (let row = first * args.block; row < end; row++) {
    const n = row / args.H;
    const h = row - n * args.H + args.PT;
    const oh0 = firstWindow(h, args.KH, args.SH);
    const oh1 = min(args.OH, h / args.SH + 1);
    const dx = args.y + <usize>row * rowBytes;
    if (oh0 >= oh1) memory.fill(dx, 0, rowBytes);
    else if (apart) spreadRow(args, dx, n, oh0);
    else gatherRow(args, dx, n, oh0, oh1);
  }
}

/** One input row under windows that do not overlap: each covers its pixels alone. */
function spreadRow(args: AvgPoolArgs, dx: usize, n: i32, oh: i32): void {
  const pixel = (<usize>args.C) << 2;
  if (args.SW > args.KW || args.OW * args.SW < args.W + args.PL) memory.fill(dx, 0, <usize>args.W * pixel);
  const inner0 = firstInner(args.PL, args.SW, args.OW);
  const inner1 = lastInner(args.PL, args.KW, args.SW, args.W, args.OW, inner0);
  const inner = <f32>1 / windowDivisor(args, oh, inner0);
  let dy = args.x + <usize>((n * args.OH + oh) * args.OW) * pixel;
  for (let ow = 0; ow < args.OW; ow++, dy += pixel) {
    const w = ow * args.SW - args.PL;
    const w0 = max(0, w);
    const factor = ow >= inner0 && ow < inner1 ? inner : <f32>1 / windowDivisor(args, oh, ow);
    spread(dx + <usize>w0 * pixel, dy, args.C, min(args.W, w + args.KW) - w0, factor);
  }
}

/** Writes factor dy to `count` neighbouring pixels. */
function spread(dx: usize, dy: usize, C: i32, count: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  const pixel = (<usize>C) << 2;
  for (let c = 0; c < C; c += 4) {
    const at = group(c, C);
    const value = f32x4.mul(v128.load(dy + at), f);
    let to = dx + at;
    for (let i = 0; i < count; i++, to += pixel) storeLanes(to, value, C);
  }
}

/** One input row: each pixel gathers from the windows that cover it, in their order. */
function gatherRow(args: AvgPoolArgs, dx: usize, n: i32, oh0: i32, oh1: i32): void {
  const pixel = (<usize>args.C) << 2;
  for (let w = args.PL; w < args.PL + args.W; w++, dx += pixel) {
    const ow0 = firstWindow(w, args.KW, args.SW);
    const ow1 = min(args.OW, w / args.SW + 1);
    if (ow0 >= ow1) memory.fill(dx, 0, pixel);
    else gather(args, dx, n, oh0, oh1, ow0, ow1);
  }
}

/** First window that covers position `at`, which counts from the edge of the padding. */
// @ts-ignore: decorator
@inline
function firstWindow(at: i32, K: i32, S: i32): i32 {
  return at < K ? 0 : (at - K) / S + 1;
}

/** dx of one pixel = sum of dy / divisor over the windows [oh0, oh1) x [ow0, ow1). The first one stores, the others add. */
function gather(args: AvgPoolArgs, dx: usize, n: i32, oh0: i32, oh1: i32, ow0: i32, ow1: i32): void {
  const pixel = (<usize>args.C) << 2;
  for (let oh = oh0; oh < oh1; oh++) {
    for (let ow = ow0; ow < ow1; ow++) {
      const dy = args.x + <usize>((n * args.OH + oh) * args.OW + ow) * pixel;
      const factor: f32 = <f32>1 / windowDivisor(args, oh, ow);
      if (oh == oh0 && ow == ow0) storeScaled(dx, dy, args.C, factor);
      else addScaled(dx, dy, args.C, factor);
    }
  }
}

function storeScaled(dx: usize, dy: usize, C: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  for (let c = 0; c < C; c += 4) {
    const at = group(c, C);
    storeLanes(dx + at, f32x4.mul(v128.load(dy + at), f), C);
  }
}

function addScaled(dx: usize, dy: usize, C: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  for (; C > 0; C -= 4, dx += 16, dy += 16) {
    storeLanes(dx, f32x4.add(v128.load(dx), f32x4.mul(v128.load(dy), f)), C);
  }
}
