// Which calls of a list touch which memory.
import type { Storage } from '../../runtime/storage.ts';
import type { OpCall } from '../../tensor/op.ts';

/** What the calls of a list do with one storage; numbers are positions in the list, ascending. */
export interface Touches {
  /** The call that made it: the first one that has it among its outputs and not among its inputs. */
  maker: number | null;
  /** Calls that read or write it. */
  readonly all: number[];
  /** Calls that read it, once per operand. */
  readonly readers: number[];
  /** Calls that write it, as an output or in place. */
  readonly writers: number[];
  /** Calls that change it in place. */
  readonly changes: number[];
}

/** The storages that calls touch. */
export function touchesOf(calls: readonly OpCall[]): Map<Storage, Touches> {
  const found = new Map<Storage, Touches>();
  const touch = (storage: Storage, position: number): Touches => {
    let touches = found.get(storage);
    if (!touches) found.set(storage, (touches = { maker: null, all: [], readers: [], writers: [], changes: [] }));
    if (touches.all.at(-1) !== position) touches.all.push(position);
    return touches;
  };
  calls.forEach(({ op, inputs, outputs }, position) => {
    for (const input of inputs) if (input) touch(input.storage, position).readers.push(position);
    for (const { storage } of outputs) {
      const touches = touch(storage, position);
      touches.writers.push(position);
      if (touches.readers.at(-1) !== position) touches.maker ??= position;
    }
    for (const i of op.mutates ?? []) {
      const { writers, changes } = touch(inputs[i]!.storage, position);
      writers.push(position);
      changes.push(position);
    }
  });
  return found;
}
