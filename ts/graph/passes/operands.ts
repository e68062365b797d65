// What passes know about ops with an epilogue: the operands x, weight, bias, residual of conv2d and batchNorm, the scale of conv2d, and
// the bounds that either clamps to.
import type { OpCall } from '../../tensor/op.ts';

export const RESIDUAL = 3;
export const SCALE = 4;

/** Geometry of ops whose epilogue clamps. */
export interface Bounds {
  readonly lo: number;
  readonly hi: number;
}

/** The bounds of relu and hardtanh (relu6 is one), null for other ops; clamp is apart, since it passes the gradient of a number at a bound. */
export function activationBounds({ op, geometry }: OpCall): Bounds | null {
  if (op.name === 'relu') return { lo: 0, hi: Number.POSITIVE_INFINITY };
  return op.name === 'hardtanh' ? (geometry as Bounds) : null;
}

/** Whether a clamp has been fused into a call. */
export function isBounded({ geometry }: OpCall): boolean {
  const { lo, hi } = geometry as Bounds;
  return lo !== Number.NEGATIVE_INFINITY || hi !== Number.POSITIVE_INFINITY;
}
