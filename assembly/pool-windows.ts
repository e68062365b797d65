// Windows of pooling over channels-last planes: x [N, H, W, C] -> y [N, OH, OW, C], vectors run over channels.
//
// A window starts at (oh SH - PT, ow SW - PL) and takes KH x KW taps, DH and DW apart; taps outside the input count as -inf
// (max) or as nothing (average).
//
// Channels come in groups of 4. Where C is not a multiple of 4 but at least 4, the last group overlaps the one before it: the same
// values are computed twice, and no partial stores are needed.

import { Input, Output } from './record';

/** From planes x to planes y. */
@unmanaged
export class PlanesArgs {
  y: Output;
  x: Input;
  N: i32;
  C: i32;
  H: i32;
  W: i32;
  OH: i32;
  OW: i32;
}

/** Planes and the windows over them. */
@unmanaged
export class WindowsArgs extends PlanesArgs {
  KH: i32;
  KW: i32;
  SH: i32;
  SW: i32;
  /** Padding at the top and on the left. */
  PT: i32;
  PL: i32;
}

/** First tap that lies in the input, for a window that starts at `start`. */
// @ts-ignore: decorator
@inline
export function firstTap(start: i32, dilation: i32): i32 {
  return start < 0 ? (dilation - 1 - start) / dilation : 0;
}

/** Number of taps before the first one at or beyond `extent`, at most K. */
// @ts-ignore: decorator
@inline
export function lastTap(start: i32, dilation: i32, K: i32, extent: i32): i32 {
  if (start + (K - 1) * dilation < extent) return K;
  return max(0, (extent - start + dilation - 1) / dilation);
}

/** First window that starts inside the input; `windows` if none does. */
// @ts-ignore: decorator
@inline
export function firstInner(pad: i32, S: i32, windows: i32): i32 {
  return min(windows, (pad + S - 1) / S);
}

/** One more than the last window that ends inside the input, at least `first`. */
// @ts-ignore: decorator
@inline
export function lastInner(pad: i32, K: i32, S: i32, extent: i32, windows: i32, first: i32): i32 {
  const room = extent - K + pad;
  return room < 0 ? first : max(first, min(windows, room / S + 1));
}

/** Where the group of channels at `c` starts: the last one is moved back so that it ends at C. */
// @ts-ignore: decorator
@inline
export function group(c: i32, C: i32): usize {
  return (<usize>(c + 4 <= C || C < 4 ? c : C - 4)) << 2;
}
