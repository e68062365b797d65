// y = x with a change of type, between any two layouts of one shape.
//
//   f32 -> i32   truncates, saturates at the ends of i32, NaN -> 0
//   f32 -> u8    as through i32, then the low 8 bits: -1 -> 255, 256.5 -> 0
//   i32 -> u8    the low 8 bits
//   others       the value, i32 -> f32 rounded to nearest
//
// PyTorch leaves f32 values outside the range of an integer type to the machine; inside it the results are the same.
import { CopyArgs } from './copy';
import { Input, Output, Table } from './record';
import { walk } from './strided';
import { storeLanes } from './vector';


@unmanaged
export class ScaleArgs {
  y: Output;
  x: Input;
  /** As in CopyArgs. */
  dims: Table;
  rank: i32;
  count: i32;
  scale: f32;
  shift: f32;
}

/** One row, element by element. */
@unmanaged
class Convert<X, Y> {
  run(y: usize, x: usize, b: usize, c: usize, n: i32, sy: usize, sx: usize, sb: usize, sc: usize): void {
    for (; n > 0; n--) {
      if (isFloat<X>() && sizeof<Y>() == 1) store<Y>(y, <Y>(<i32>load<X>(x)));
      else store<Y>(y, <Y>load<X>(x));
      y += sy;
      x += sx;
    }
  }
}


@unmanaged
class FloatToInt {
  run(y: usize, x: usize, b: usize, c: usize, n: i32, sy: usize, sx: usize, sb: usize, sc: usize): void {
    if (sy == 4 && sx == 4) {
      for (; n >= 4; n -= 4) {
        v128.store(y, i32x4.trunc_sat_f32x4_s(v128.load(x)));
        y += 16;
        x += 16;
      }
    }
    changetype<Convert<f32, i32>>(0).run(y, x, 0, 0, n, sy, sx, 0, 0);
  }
}


@unmanaged
class IntToFloat {
  run(y: usize, x: usize, b: usize, c: usize, n: i32, sy: usize, sx: usize, sb: usize, sc: usize): void {
    if (sy == 4 && sx == 4) {
      for (; n >= 4; n -= 4) {
        v128.store(y, f32x4.convert_i32x4_s(v128.load(x)));
        y += 16;
        x += 16;
      }
    }
    changetype<Convert<i32, f32>>(0).run(y, x, 0, 0, n, sy, sx, 0, 0);
  }
}

/** Bytes to floats, x scale + shift; b and c are the addresses of scale and shift. */
@unmanaged
class Rescale {
  run(y: usize, x: usize, b: usize, c: usize, n: i32, sy: usize, sx: usize, sb: usize, sc: usize): void {
    const scale = v128.load32_splat(b);
    const shift = v128.load32_splat(c);
    if (sy == 4 && sx == 1) {
      for (; n > 0; n -= 4) {
        const words = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(x)));
        storeLanes(y, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(words), scale), shift), n);
        y += 16;
        x += 4;
      }
    }
    for (; n > 0; n--) {
      store<f32>(y, <f32>load<u8>(x) * load<f32>(b) + load<f32>(c));
      y += sy;
      x += sx;
    }
  }
}

// @ts-ignore: decorator
@inline
function cast<Row>(args: CopyArgs, first: i32, last: i32): void {
  walk<Row>(args.y, args.x, 0, 0, 2, args.dims, args.rank, args.count, first, last);
}

/** y = i32(x), x f32. */
export function castF32ToI32(args: CopyArgs, first: i32, last: i32, lane: i32): void {
  cast<FloatToInt>(args, first, last);
}

/** y = u8(x), x f32. */
export function castF32ToU8(args: CopyArgs, first: i32, last: i32, lane: i32): void {
  cast<Convert<f32, u8>>(args, first, last);
}

/** y = f32(x), x i32. */
export function castI32ToF32(args: CopyArgs, first: i32, last: i32, lane: i32): void {
  cast<IntToFloat>(args, first, last);
}

/** y = u8(x), x i32. */
export function castI32ToU8(args: CopyArgs, first: i32, last: i32, lane: i32): void {
  cast<Convert<i32, u8>>(args, first, last);
}

/** y = i32(x), x u8. */
export function castU8ToI32(args: CopyArgs, first: i32, last: i32, lane: i32): void {
  cast<Convert<u8, i32>>(args, first, last);
}

/** y = f32(x) scale + shift, x u8: a cast with scale 1 and shift 0, pixels to [0, 1] with scale 1 / 255. */
export function scaleBytes(args: ScaleArgs, first: i32, last: i32, lane: i32): void {
  const record = changetype<usize>(args);
  const scale = record + offsetof<ScaleArgs>('scale');
  const shift = record + offsetof<ScaleArgs>('shift');
  walk<Rescale>(args.y, args.x, scale, shift, 2, args.dims, args.rank, args.count, first, last);
}
