// Where tensors lie: whether one takes another's place, and moving them to other memory.
import type { Storage } from '../../runtime/storage.ts';
import type { OpCall, Operand } from '../../tensor/op.ts';
import { isDense } from '../../tensor/shape.ts';
import { Tensor } from '../../tensor/tensor.ts';

/** Whether the elements are all of the tensor's storage, without gaps. */
export function fillsStorage({ shape, strides, offset, storage, size }: Tensor): boolean {
  return offset === 0 && storage.bytes === 4 * size && isDense(shape, strides);
}

/** Whether equal indices of both are equal places in their storages, and nothing else lies there. */
export function samePlaces(a: Tensor, b: Tensor): boolean {
  return (
    fillsStorage(a) &&
    fillsStorage(b) &&
    a.shape.length === b.shape.length &&
    a.shape.every((extent, i) => extent === b.shape[i] && (extent === 1 || a.strides[i] === b.strides[i]))
  );
}

/** `tensor`, with its shape and layout, in another storage. */
export function inStorage({ shape, dtype, strides, offset }: Tensor, storage: Storage): Tensor {
  return new Tensor({ storage, shape, dtype, strides, offset });
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
    if (!moved) this.#moved.set(tensor, (moved = inStorage(tensor, storage)));
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
