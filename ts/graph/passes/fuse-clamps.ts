// A pass over op calls: an activation that only clamps moves into the epilogue of the convolution or dense layer before it, also
// where views lie between the two. The clamp happens in registers either way, so the bits do not change.
import type { OpCall } from '../../tensor/op.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { Flow } from './flow.ts';
import { activationBounds, type Bounds } from './operands.ts';
import { fillsStorage, inStorage, samePlaces } from './places.ts';

/** Ops that clamp what they write. */
const CLAMPING = new Set(['conv2d', 'linear', 'matmul', 'batchNormEval']);

/** The bounds that a call clamps to, or null if it does something else. */
function clampOf(call: OpCall): Bounds | null {
  return call.op.name === 'clamp' ? (call.geometry as Bounds) : activationBounds(call);
}

/** One clamp after the other, as a single one. */
function compose(inner: Bounds, { lo, hi }: Bounds): Bounds {
  return { lo: Math.min(Math.max(inner.lo, lo), hi), hi: Math.min(Math.max(inner.hi, lo), hi) };
}

/** The calls with clamps fused. */
export function fuseClamps(calls: readonly OpCall[], outputs: readonly Tensor[]): OpCall[] {
  const flow = new Flow(calls, outputs);
  /** What became of calls that took in others. */
  const fused = new Map<OpCall, OpCall>();
  const gone = new Map<OpCall, OpCall>();
  for (const call of calls) {
    const bounds = clampOf(call);
    const x = call.inputs[0];
    if (!bounds || !x || flow.soleReader(x) !== call || !samePlaces(x, call.outputs[0]!)) continue;
    const maker = flow.maker(x);
    const root = maker && (gone.get(maker) ?? maker);
    if (!root || !CLAMPING.has(root.op.name)) continue;
    const before = fused.get(root) ?? root;
    const [y] = before.outputs;
    if (!fillsStorage(y!)) continue;
    const geometry = { ...(before.geometry as Bounds), ...compose(before.geometry as Bounds, bounds) };
    fused.set(root, { ...before, geometry, outputs: [inStorage(y!, call.outputs[0]!.storage)] });
    gone.set(call, root);
  }
  return calls.filter((call) => !gone.has(call)).map((call) => fused.get(call) ?? call);
}
