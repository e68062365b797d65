// y[i] = bits, over contiguous 32-bit words.
import { Output } from './record';


@unmanaged
export class FillArgs {
  y: Output;
  /** The 32-bit pattern: float bits for f32, the value for i32. */
  bits: i32;
  /** Number of 32-bit words, or of bytes. */
  count: i32;
}

/** Words per tile. */
export const FILL_TILE: i32 = 16384;

/** Fills `count` 32-bit words. */
export function fill(args: FillArgs, first: i32, last: i32, lane: i32): void {
  const end = min(args.count, last * FILL_TILE);
  const bits = i32x4.splat(args.bits);
  let i = first * FILL_TILE;
  for (; i + 4 <= end; i += 4) v128.store(args.y + ((<usize>i) << 2), bits);
  for (; i < end; i++) store<i32>(args.y + ((<usize>i) << 2), args.bits);
}

/** Fills `count` bytes with the lowest byte of `bits`. A tile is as many bytes as `fill` has words. */
export function fillBytes(args: FillArgs, first: i32, last: i32, lane: i32): void {
  const start = first * FILL_TILE;
  memory.fill(args.y + <usize>start, <u8>args.bits, <usize>(min(args.count, last * FILL_TILE) - start));
}


@unmanaged
export class IotaArgs {
  y: Output;
  start: f64;
  step: f64;
  /** Number of elements, of 32 bits each. */
  count: i32;
}

/** y[i] = start + i step, computed in f64. */
export function iota(args: IotaArgs, first: i32, last: i32, lane: i32): void {
  const end = min(args.count, last * FILL_TILE);
  for (let i = first * FILL_TILE; i < end; i++)
    store<f32>(args.y + ((<usize>i) << 2), <f32>(args.start + <f64>i * args.step));
}

/** The same for i32; every value is a whole number in range. */
export function iotaIntegers(args: IotaArgs, first: i32, last: i32, lane: i32): void {
  const end = min(args.count, last * FILL_TILE);
  for (let i = first * FILL_TILE; i < end; i++)
    store<i32>(args.y + ((<usize>i) << 2), <i32>(args.start + <f64>i * args.step));
}
