// What passes know about the op conv2d: its operands x, weight, bias, residual, scale, and its bounds.
import type { OpCall } from '../../tensor/op.ts';

export const RESIDUAL = 3;
export const SCALE = 4;

/** Geometry of ops whose epilogue clamps. */
export interface Bounds {
  readonly lo: number;
  readonly hi: number;
}

/** Whether a clamp has been fused into a call. */
export function isBounded({ geometry }: OpCall): boolean {
  const { lo, hi } = geometry as Bounds;
  return lo !== Number.NEGATIVE_INFINITY || hi !== Number.POSITIVE_INFINITY;
}
