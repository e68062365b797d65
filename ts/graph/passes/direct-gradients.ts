// A pass over training steps whose gradients start absent: what would be copied into a gradient's buffer is computed there.
// `accumulateGrad` on an absent gradient is a copy, so the bits stay.
import { accumulateGradOp, markGradientsOp } from '../../autograd/gradient.ts';
import type { Storage } from '../../runtime/storage.ts';
import type { OpCall } from '../../tensor/op.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { Mover } from './places.ts';
import { type Touches, touchesOf } from './touches.ts';

/** Whether a call adds to a gradient: inputs are its buffer, its flag, and what is added. */
export function isAccumulation(call: OpCall): boolean {
  return call.op === (accumulateGradOp as OpCall['op']);
}

/**
 * Returns the calls with gradients written in place where that is possible. `absent` are the buffers that hold nothing when
 * the program starts, `ends` what comes from outside or must come out.
 */
export function writeGradientsInPlace(
  calls: readonly OpCall[],
  absent: ReadonlySet<Storage>,
  ends: readonly Tensor[],
): OpCall[] {
  const touches = touchesOf(calls);
  const fixed = new Set(ends.map(({ storage }) => storage));
  const moves = new Map<Storage, Storage>();
  const replaced = new Map<number, OpCall | null>();
  const flags: Tensor[] = [];
  calls.forEach((call, position) => {
    if (!isAccumulation(call)) return;
    const [buffer, flag, gradient] = call.inputs as [Tensor, Tensor, Tensor];
    if (!absent.has(buffer.storage) || fixed.has(gradient.storage) || moves.has(gradient.storage)) return;
    const before = touches.get(buffer.storage)!;
    if (!canMove(gradient.storage, touches.get(gradient.storage)!, buffer.storage, before, position)) return;
    moves.set(gradient.storage, buffer.storage);
    const addsMore = before.all.at(-1)! > position;
    replaced.set(position, addsMore ? marking([flag], call) : null);
    if (!addsMore) flags.push(flag);
  });
  const mover = new Mover(moves);
  const kept = calls.flatMap((call, position) => {
    const other = replaced.get(position);
    return other === null ? [] : [mover.call(other ?? call)];
  });
  return flags.length ? [...kept, marking(flags, kept.at(-1)!)] : kept;
}

/**
 * Whether a gradient can be computed in the buffer that the call at `position` copies it to: a call of this list makes all of it,
 * nothing has used the buffer before, and nobody reads the one after the other has changed.
 */
function canMove(from: Storage, gradient: Touches, to: Storage, buffer: Touches, position: number): boolean {
  if (from.state !== 'planned' || from.bytes !== to.bytes || gradient.maker === null) return false;
  if (buffer.all[0]! < position || gradient.changes.some((change) => change > position)) return false;
  const nextChange = buffer.changes.find((change) => change > position) ?? Number.POSITIVE_INFINITY;
  return gradient.all.at(-1)! < nextChange;
}

function marking(flags: readonly Tensor[], like: OpCall): OpCall {
  return {
    op: markGradientsOp(flags.length) as OpCall['op'],
    options: null,
    geometry: null,
    inputs: flags,
    outputs: [],
    module: like.module,
  };
}
