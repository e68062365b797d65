// The machine's peak without the engine: the loops of assembly/peak-loops.ts as functions of their own. Call them often and shortly:
// V8 changes from its baseline compiler to the optimising one between calls, never inside one.
import { FUSED_CHAINS, fused, SEPARATE_CHAINS, separate } from '../../assembly/peak-loops';

/** Vector multiply-adds in one iteration of {@link mulAdd}. */
export function mulAddPerIteration(): i32 {
  return SEPARATE_CHAINS;
}

/** Products and sums, each an instruction. */
export function mulAdd(iterations: i32, factor: f32): f32 {
  return f32x4.extract_lane(separate(iterations, f32x4.splat(factor)), 0);
}

/** Vector multiply-adds in one iteration of {@link fusedMulAdd}. */
export function fusedMulAddPerIteration(): i32 {
  return FUSED_CHAINS;
}

/** Fused multiply-adds. Without relaxed SIMD it answers with its factor. */
export function fusedMulAdd(iterations: i32, factor: f32): f32 {
  return f32x4.extract_lane(fused(iterations, f32x4.splat(factor)), 0);
}
