// What passes over lists of op calls ask: who makes a storage, who reads it, and who changes it.
import type { Storage } from '../../runtime/storage.ts';
import type { OpCall } from '../../tensor/op.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Touches, touchesOf } from './touches.ts';

/** A pass: the calls rewritten. `outputs` are the tensors that must come out as they were. */
export type Pass = (calls: readonly OpCall[], outputs: readonly Tensor[]) => readonly OpCall[];

/** The traffic of a list of calls. */
export class Flow {
  readonly #calls: readonly OpCall[];
  readonly #touches: ReadonlyMap<Storage, Touches>;
  /** What must come out of the list. */
  readonly #wanted: ReadonlySet<Storage>;

  constructor(calls: readonly OpCall[], outputs: readonly Tensor[]) {
    this.#calls = calls;
    this.#touches = touchesOf(calls);
    this.#wanted = new Set(outputs.map(({ storage }) => storage));
  }

  /** The only call that writes where the tensor lies, null if none or several do. */
  maker({ storage }: Tensor): OpCall | null {
    const writers = this.#touches.get(storage)?.writers;
    return writers?.length === 1 ? this.#calls[writers[0]!]! : null;
  }

  /** The calls that read where the tensor lies, once per operand; null if it must come out of the list. */
  readers({ storage }: Tensor): readonly OpCall[] | null {
    if (this.#wanted.has(storage)) return null;
    return (this.#touches.get(storage)?.readers ?? []).map((position) => this.#calls[position]!);
  }

  /** The one call that reads where the tensor lies, by one operand; null if there is more to it. */
  soleReader(tensor: Tensor): OpCall | null {
    const readers = this.readers(tensor);
    return readers?.length === 1 ? readers[0]! : null;
  }

  /** Whether a call between two positions, these included, writes where the tensor lies. */
  changes({ storage }: Tensor, from: number, to: number): boolean {
    const writers = this.#touches.get(storage)?.writers ?? [];
    return writers.some((position) => position >= from && position <= to);
  }
}
