// What passes over lists of op calls share: who touches which memory, and moving tensors to other memory.
import type { Storage } from '../runtime/storage.ts';
import type { OpCall, Operand } from '../tensor/op.ts';
import { Tensor } from '../tensor/tensor.ts';

/** What the calls of a list do with one storage; numbers are positions in the list, ascending. */
export interface Touches {
  /** The call that made it: the first one that has it among its outputs and not among its inputs. */
  maker: number | null;
  /** Calls that read or write it. */
  readonly all: number[];
  /** Calls that change it in place. */
  readonly changes: number[];
}

/** The storages that calls touch. */
export function touchesOf(calls: readonly OpCall[]): Map<Storage, Touches> {
  const found = new Map<Storage, Touches>();
  const touch = (storage: Storage, position: number): Touches => {
    let touches = found.get(storage);
    if (!touches) found.set(storage, (touches = { maker: null, all: [], changes: [] }));
    if (touches.all.at(-1) !== position) touches.all.push(position);
    return touches;
  };
  calls.forEach(({ op, inputs, outputs }, position) => {
    const read = new Set<Storage>();
    for (const input of inputs) if (input) read.add(input.storage);
    for (const storage of read) touch(storage, position);
    for (const { storage } of outputs) {
      const touches = touch(storage, position);
      if (!read.has(storage)) touches.maker ??= position;
    }
    for (const i of op.mutates ?? []) found.get(inputs[i]!.storage)!.changes.push(position);
  });
  return found;
}

/** Copies calls, with tensors that lie in these storages moved to others of the same size. */
export class Mover {
  readonly #moves: ReadonlyMap<Storage, Storage>;
  readonly #moved = new Map<Tensor, Tensor>();

  constructor(moves: ReadonlyMap<Storage, Storage>) {
    this.#moves = moves;
  }

  /** The tensor where it lies now; one moved tensor for each that there was. */
  tensor(tensor: Tensor): Tensor {
    const storage = this.#moves.get(tensor.storage);
    if (!storage) return tensor;
    let moved = this.#moved.get(tensor);
    if (!moved) {
      const { shape, dtype, strides, offset } = tensor;
      this.#moved.set(tensor, (moved = new Tensor({ storage, shape, dtype, strides, offset })));
    }
    return moved;
  }

  call(call: OpCall): OpCall {
    const moves = (operand: Operand): boolean => operand !== null && this.#moves.has(operand.storage);
    if (!call.inputs.some(moves) && !call.outputs.some(moves)) return call;
    return {
      ...call,
      inputs: call.inputs.map((input) => input && this.tensor(input)),
      outputs: call.outputs.map((output) => this.tensor(output)),
    };
  }
}
