// A single convolution of a captured list, run on its own: to see how long an algorithm takes, or how exact it is.
import { engine } from '../runtime/engine.ts';
import { Storage } from '../runtime/storage.ts';
import { discard } from '../tensor/lifetime.ts';
import type { OpCall } from '../tensor/op.ts';
import { Tensor } from '../tensor/tensor.ts';
import { Mover } from './passes/places.ts';
import { Program } from './program.ts';

/** The calls that compute operands of a call from parameters alone, then the call itself. */
export type Chain = readonly OpCall[];

/** The program of one call, and inputs to run it on. Its packed weights are those that every program shares. */
export class Trial {
  readonly #program: Program;
  readonly #inputs: Tensor[] = [];

  /** `images` are the operands of the last call that vary; `weights` whether packed weights are kept until `dispose`. */
  constructor(chain: Chain, images: readonly Tensor[]) {
    const mover = new Mover(ownStorages(chain));
    const calls = chain.map((call) => mover.call(call));
    const standIns = images.map((image) => mover.tensor(image));
    this.#program = new Program(calls, standIns, [calls.at(-1)!.outputs[0]!], { hoist: true });
    try {
      for (const image of images) this.#inputs.push(filled(image));
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Runs once and returns the milliseconds. */
  time(): number {
    const start = performance.now();
    const [y] = this.#program.run(this.#inputs);
    const time = performance.now() - start;
    discard(y!.storage, 'measured');
    return time;
  }

  /** Runs once and returns what is in the result's memory. */
  result(): Float32Array {
    const [y] = this.#program.run(this.#inputs);
    const { address, bytes } = y!.storage;
    const values = engine().memory.f32.slice(address >>> 2, (address + bytes) >>> 2);
    discard(y!.storage, 'measured');
    return values;
  }

  /** Gives the memory of inputs and program back. */
  dispose(): void {
    for (const { storage } of this.#inputs) discard(storage, 'measured');
    this.#program.dispose();
  }
}

/** Storages that belong to the captured list, each with one that takes its place. */
function ownStorages(chain: Chain): Map<Storage, Storage> {
  const own = new Map<Storage, Storage>();
  for (const { inputs, outputs } of chain)
    for (const tensor of [...inputs, ...outputs])
      if (tensor?.storage.state === 'planned') own.set(tensor.storage, new Storage(tensor.storage.bytes));
  return own;
}

/** Values between -1 and 1, the same for everyone; no denormals, which would cost time. */
const PATTERN = Float32Array.from({ length: 4093 }, (_, i) => ((i * 1009) % 4093) / 2046.5 - 1);

/** A tensor of this shape and layout, filled with the pattern. */
function filled({ shape, strides, dtype, storage: { bytes } }: Tensor): Tensor {
  const storage = new Storage(bytes);
  engine().allocate(storage);
  const { f32 } = engine().memory;
  const [first, end] = [storage.address >>> 2, (storage.address + bytes) >>> 2];
  for (let at = first; at < end; at += PATTERN.length) f32.set(PATTERN.subarray(0, end - at), at);
  return new Tensor({ storage, shape, dtype, strides });
}
