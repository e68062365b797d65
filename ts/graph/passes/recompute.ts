// A pass over training steps that trades time for memory: activations that only the backward pass reads again are forgotten and
// computed once more, just before their first use there, by the same calls on the same operands; so the bits stay. Calls that
// change something (running statistics, the generator's counter) are never repeated; a mask of dropout follows from the counter
// that its forward call saved.
// Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
import { Storage } from '../../runtime/storage.ts';
import type { OpCall } from '../../tensor/op.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { Mover } from './places.ts';
import { type Touches, touchesOf } from './touches.ts';

/** A list of op calls seen as forward and backward pass: which activations can be computed again, and what that would need. */
export class Checkpoints {
  readonly calls: readonly OpCall[];
  /** Calls of the forward pass: all up to the last one that makes a result. */
  readonly forward: number;
  readonly touches: ReadonlyMap<Storage, Touches>;
  readonly #fixed: ReadonlySet<Storage>;
  /** Position of the last call that reads an intermediate; what changes later does not matter. */
  readonly #end: number;

  constructor(calls: readonly OpCall[], inputs: readonly Tensor[], results: readonly Tensor[]) {
    this.calls = calls;
    this.touches = touchesOf(calls);
    this.#fixed = new Set([...inputs, ...results].map(({ storage }) => storage));
    const makers = results.map(({ storage }) => this.touches.get(storage)?.maker ?? -1);
    this.forward = 1 + Math.max(-1, ...makers);
    let end = 0;
    for (const [storage, { all }] of this.touches) if (this.isIntermediate(storage)) end = Math.max(end, all.at(-1)!);
    this.#end = end;
  }

  /** Whether a storage belongs to the program alone. */
  isIntermediate(storage: Storage): boolean {
    return storage.state === 'planned' && !this.#fixed.has(storage);
  }

  /** Whether the forward call that made a storage can be repeated in the backward pass. */
  isRepeatable(storage: Storage): boolean {
    const { maker, changes } = this.touches.get(storage)!;
    if (!this.isIntermediate(storage) || maker === null || maker >= this.forward || changes.length) return false;
    const { op, inputs } = this.calls[maker]!;
    if (op.mutates?.length) return false;
    return inputs.every((input) => !input || this.#staysFrom(input.storage, maker));
  }

  #staysFrom(storage: Storage, position: number): boolean {
    return !this.touches.get(storage)!.changes.some((change) => change > position && change <= this.#end);
  }

  /** Activations that could be forgotten, in the order of the forward pass: repeatable, and read by the backward pass. */
  candidates(): Storage[] {
    return [...this.touches].flatMap(([storage, { all }]) =>
      all.at(-1)! >= this.forward && this.isRepeatable(storage) ? [storage] : [],
    );
  }

  /** Whether only the forward pass uses a storage: repeated calls make it again rather than keep it. */
  isPassing(storage: Storage): boolean {
    return this.touches.get(storage)!.all.at(-1)! < this.forward && this.isRepeatable(storage);
  }

  /** The list with these activations computed again in the backward pass. */
  without(forgotten: ReadonlySet<Storage>): OpCall[] {
    const list = this.calls.slice(0, this.forward);
    const moves = new Map<Storage, Storage>();
    const ensure = (storage: Storage): void => {
      if (moves.has(storage) || !(forgotten.has(storage) || this.#isGone(storage))) return;
      const call = this.calls[this.touches.get(storage)!.maker!]!;
      for (const input of call.inputs) if (input) ensure(input.storage);
      list.push(repeated(call, moves));
    };
    for (const call of this.calls.slice(this.forward)) {
      for (const input of call.inputs) if (input && forgotten.has(input.storage)) ensure(input.storage);
      list.push(new Mover(moves).call(call));
    }
    return list;
  }

  #isGone(storage: Storage): boolean {
    return this.isIntermediate(storage) && this.isPassing(storage);
  }
}

/** A call once more, on operands as they lie now, with outputs of its own, which are entered as moves. */
function repeated(call: OpCall, moves: Map<Storage, Storage>): OpCall {
  const { inputs } = new Mover(moves).call({ ...call, outputs: [] });
  for (const { storage } of call.outputs) {
    const again = new Storage(storage.bytes);
    again.computed = true;
    moves.set(storage, again);
  }
  const mover = new Mover(moves);
  return { ...call, inputs, outputs: call.outputs.map((output) => mover.tensor(output)) };
}
