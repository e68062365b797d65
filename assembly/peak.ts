// The arithmetic peak of 128-bit SIMD as a kernel, to compare other kernels with.
import { FUSED_CHAINS, SEPARATE_CHAINS, fused, separate } from './peak-loops';
import { Output } from './record';


@unmanaged
export class PeakArgs {
  /** Four floats, so that the loop has a result. */
  y: Output;
  /** Times PEAK_ROUND vector multiply-adds. */
  rounds: i32;
  factor: f32;
}

/** Vector multiply-adds in a round, a multiple of the chains of either loop. */
export const PEAK_ROUND: i32 = 84;

export function peak(args: PeakArgs, first: i32, last: i32, lane: i32): void {
  const factor = f32x4.splat(args.factor);
  if (ASC_FEATURE_RELAXED_SIMD) v128.store(args.y, fused(args.rounds * (PEAK_ROUND / FUSED_CHAINS), factor));
  else v128.store(args.y, separate(args.rounds * (PEAK_ROUND / SEPARATE_CHAINS), factor));
}
