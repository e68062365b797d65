// Adaptive average pooling over channels-last planes: x [N, H, W, C] -> y [N, OH, OW, C] for any OH and OW, vectors over channels.
//
// Window oh covers the rows floor(oh H / OH) to ceil((oh + 1) H / OH) - 1, columns alike: windows overlap where OH does not
// divide H, and repeat rows where OH > H. Row h lies in the windows floor(h OH / H) to ceil((h + 1) OH / H) - 1.
import { PlanesArgs } from './pool-windows';
import { madd, storeLanes } from './vector';

// @ts-ignore: decorator
@inline
function windowStart(index: i32, inputs: i32, outputs: i32): i32 {
  return <i32>((<i64>index * <i64>inputs) / <i64>outputs);
}

// @ts-ignore: decorator
@inline
function windowEnd(index: i32, inputs: i32, outputs: i32): i32 {
  return <i32>((<i64>(index + 1) * <i64>inputs + <i64>(outputs - 1)) / <i64>outputs);
}

/** y = mean of each window. A tile is an output pixel. */
export function adaptiveAvgPool2d(args: PlanesArgs, first: i32, last: i32, lane: i32): void {
  const bytes = (<usize>args.C) << 2;
  for (let pixel = first; pixel < last; pixel++) {
    const line = pixel / args.OW;
    const n = line / args.OH;
    const y = args.y + <usize>pixel * bytes;
    const image = args.x + <usize>(n * args.H * args.W) * bytes;
    meanOfWindow(args, y, image, line - n * args.OH, pixel - line * args.OW);
  }
}

function meanOfWindow(args: PlanesArgs, y: usize, image: usize, oh: i32, ow: i32): void {
  const top = windowStart(oh, args.H, args.OH);
  const bottom = windowEnd(oh, args.H, args.OH);
  const left = windowStart(ow, args.W, args.OW);
  const right = windowEnd(ow, args.W, args.OW);
  const area = f32x4.splat(<f32>((bottom - top) * (right - left)));
  const pixelBytes = (<usize>args.C) << 2;
  for (let c = 0; c < args.C; c += 4) {
    let sum = i32x4.splat(0);
    for (let h = top; h < bottom; h++) {
      let x = image + <usize>(h * args.W + left) * pixelBytes + ((<usize>c) << 2);
      for (let w = left; w < right; w++, x += pixelBytes) sum = f32x4.add(sum, v128.load(x));
    }
    storeLanes(y + ((<usize>c) << 2), f32x4.div(sum, area), args.C - c);
  }
}

/** The transpose: y [N, H, W, C] gets its share of every window of x [N, OH, OW, C] that covers it. A tile is a pixel of y. */
export function adaptiveAvgPool2dGrad(args: PlanesArgs, first: i32, last: i32, lane: i32): void {
  const bytes = (<usize>args.C) << 2;
  for (let pixel = first; pixel < last; pixel++) {
    const line = pixel / args.W;
    const n = line / args.H;
    const y = args.y + <usize>pixel * bytes;
    const image = args.x + <usize>(n * args.OH * args.OW) * bytes;
    sharesOfWindows(args, y, image, line - n * args.H, pixel - line * args.W);
  }
}

function sharesOfWindows(args: PlanesArgs, y: usize, image: usize, h: i32, w: i32): void {
  const top = windowStart(h, args.OH, args.H);
  const bottom = windowEnd(h, args.OH, args.H);
  const left = windowStart(w, args.OW, args.W);
  const right = windowEnd(w, args.OW, args.W);
  const pixelBytes = (<usize>args.C) << 2;
  for (let c = 0; c < args.C; c += 4) {
    let sum = i32x4.splat(0);
    for (let oh = top; oh < bottom; oh++) {
      const rows = windowEnd(oh, args.H, args.OH) - windowStart(oh, args.H, args.OH);
      let x = image + <usize>(oh * args.OW + left) * pixelBytes + ((<usize>c) << 2);
      for (let ow = left; ow < right; ow++, x += pixelBytes) {
        const columns = windowEnd(ow, args.W, args.OW) - windowStart(ow, args.W, args.OW);
        sum = madd(v128.load(x), f32x4.splat(<f32>1 / <f32>(rows * columns)), sum);
      }
    }
    storeLanes(y + ((<usize>c) << 2), sum, args.C - c);
  }
}
