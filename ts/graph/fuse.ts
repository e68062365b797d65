// A pass over op calls: an activation that only clamps moves into the epilogue of the convolution or dense layer before it.
// The clamp happens in registers either way, so the bits do not change.
import type { OpCall } from '../tensor/op.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Geometry of ops whose epilogue clamps. */
interface Clamping {
  readonly lo: number;
  readonly hi: number;
}

function hasClampEpilogue(call: OpCall): boolean {
  return call.op.name === 'conv2d' || call.op.name === 'linear';
}

/** The bounds that an activation clamps to, or null if it does something else. */
function clampOf(call: OpCall): Clamping | null {
  if (call.op.name === 'relu') return { lo: 0, hi: Number.POSITIVE_INFINITY };
  if (call.op.name === 'clamp') {
    const { lo, hi } = call.geometry as Clamping;
    return { lo, hi };
  }
  return null;
}

/** Returns the calls with clamps fused. `outputs` are the tensors that must survive. */
export function fuse(calls: readonly OpCall[], outputs: readonly Tensor[]): OpCall[] {
  const readers = new Map<object, number>();
  const count = (tensor: Tensor | null): void => {
    if (tensor) readers.set(tensor.storage, (readers.get(tensor.storage) ?? 0) + 1);
  };
  for (const call of calls) call.inputs.forEach(count);
  outputs.forEach(count);
  const fused: OpCall[] = [];
  for (const call of calls) {
    const bounds = clampOf(call);
    const before = fused.at(-1);
    const x = call.inputs[0];
    if (bounds && before && hasClampEpilogue(before) && before.outputs[0] === x && readers.get(x!.storage) === 1) {
      const inner = before.geometry as Clamping;
      const geometry = {
        ...inner,
        lo: Math.min(Math.max(inner.lo, bounds.lo), bounds.hi),
        hi: Math.min(Math.max(inner.hi, bounds.lo), bounds.hi),
      };
      fused[fused.length - 1] = { ...before, geometry, outputs: call.outputs };
    } else fused.push(call);
  }
  return fused;
}
