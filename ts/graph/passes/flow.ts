// What passes over lists of op calls ask: who makes a storage, who reads it, and whether one tensor takes another's place.
import type { Storage } from '../../runtime/storage.ts';
import type { OpCall } from '../../tensor/op.ts';
import { isDense } from '../../tensor/shape.ts';
import { Tensor } from '../../tensor/tensor.ts';

/** A pass: the calls rewritten. `outputs` are the tensors that must come out as they were. */
export type Pass = (calls: readonly OpCall[], outputs: readonly Tensor[]) => readonly OpCall[];

/** What a list does with one storage; numbers are positions in the list, ascending. */
interface Traffic {
  /** Calls that write it, as a fresh output or in place. */
  readonly writers: number[];
  /** Calls that read it, once per operand. */
  readonly readers: number[];
  /** Whether it must come out of the list. */
  wanted: boolean;
}

/** The traffic of a list of calls. */
export class Flow {
  readonly #calls: readonly OpCall[];
  readonly #traffic = new Map<Storage, Traffic>();

  constructor(calls: readonly OpCall[], outputs: readonly Tensor[]) {
    this.#calls = calls;
    calls.forEach((call, position) => {
      for (const output of call.outputs) this.#of(output).writers.push(position);
      for (const i of call.op.mutates ?? []) this.#of(call.inputs[i]!).writers.push(position);
      for (const input of call.inputs) if (input) this.#of(input).readers.push(position);
    });
    for (const output of outputs) this.#of(output).wanted = true;
  }

  #of({ storage }: Tensor): Traffic {
    let traffic = this.#traffic.get(storage);
    if (!traffic) this.#traffic.set(storage, (traffic = { writers: [], readers: [], wanted: false }));
    return traffic;
  }

  /** The only call that writes where the tensor lies, null if none or several do. */
  maker(tensor: Tensor): OpCall | null {
    const { writers } = this.#of(tensor);
    return writers.length === 1 ? this.#calls[writers[0]!]! : null;
  }

  /** The calls that read where the tensor lies, once per operand; null if it must come out of the list. */
  readers(tensor: Tensor): readonly OpCall[] | null {
    const { readers, wanted } = this.#of(tensor);
    return wanted ? null : readers.map((position) => this.#calls[position]!);
  }

  /** The one call that reads where the tensor lies, by one operand; null if there is more to it. */
  soleReader(tensor: Tensor): OpCall | null {
    const readers = this.readers(tensor);
    return readers?.length === 1 ? readers[0]! : null;
  }

  /** Whether a call between two positions, these included, writes where the tensor lies. */
  changes(tensor: Tensor, from: number, to: number): boolean {
    return this.#of(tensor).writers.some((position) => position >= from && position <= to);
  }
}

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

/** `tensor`, with its shape and layout, in the storage of another. */
export function inStorageOf(tensor: Tensor, other: Tensor): Tensor {
  const { shape, dtype, strides, offset } = tensor;
  return new Tensor({ storage: other.storage, shape, dtype, strides, offset });
}
