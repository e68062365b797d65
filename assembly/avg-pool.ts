// Average pooling. A tile is a block of output rows (forward) or of input rows (avgPool2dGrad), so that no two tiles write the same
// element.
import { WindowsArgs, firstInner, group, lastInner } from './pool-windows';
import { storeLanes } from './vector';

/** Geometry of the windows; PB and PR decide which taps beyond the padding count for the divisor. */
@unmanaged
export class AvgPoolArgs extends WindowsArgs {
  PB: i32;
  PR: i32;
  /** 1: padding counts in the divisor. */
  includePad: i32;
  /** The divisor, or 0: the size of the window. */
  divisor: i32;
  /** Output rows per tile (forward), input rows per tile (gradient). */
  block: i32;
}

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
    if (inner0 > 0) averageEdge(args, y, x, oh, 0, inner0, rows);
    if (inner0 < inner1) averageInner(args, y, x, oh, inner0, inner1, rows);
    if (inner1 < args.OW) averageEdge(args, y, x, oh, inner1, args.OW, rows);
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

/** Sum of the four pixels of a 2 x 2 window, four channels of each. */
// @ts-ignore: decorator
@inline
function sum2x2(x: usize, pixel: usize, down: usize): v128 {
  const b = x + down;
  const top = f32x4.add(v128.load(x), v128.load(x + pixel));
  return f32x4.add(f32x4.add(top, v128.load(b)), v128.load(b + pixel));
}

/** `count` neighbouring windows of 2 x 2. */
function average2x2(y: usize, x: usize, count: i32, C: i32, down: usize, step: usize, divisor: f32): void {
  const d = f32x4.splat(divisor);
  const pixel = (<usize>C) << 2;
  const whole = (<usize>(C & ~3)) << 2;
  for (; count > 0; count--) {
    let from = x;
    const end = y + whole;
    for (let to = y; to < end; to += 16, from += 16) v128.store(to, f32x4.div(sum2x2(from, pixel, down), d));
    y += pixel;
    x += step;
    if (C > 4 && C & 3) {
      const last = from - ((<usize>(4 - (C & 3))) << 2);
      v128.store(y - 16, f32x4.div(sum2x2(last, pixel, down), d));
    } else if (C < 4) storeLanes(y - pixel, f32x4.div(sum2x2(from, pixel, down), d), C);
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
