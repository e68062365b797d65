// The products by which 256-bit mode is tried out: large ones for the clock, and every shape of the micro-kernels for the bits.
import * as kernels from '../generated/kernels.ts';
import { type Command, type Kernel, type Location, NOWHERE, Table } from './command.ts';
import type { LinearMemory } from './memory.ts';
import { Storage } from './storage.ts';

/** What a trial needs of an engine. */
export interface TrialEngine {
  readonly memory: LinearMemory;
  allocate(storage: Storage): void;
  execute(commands: readonly Command[]): unknown;
}

/** How long V8 gets to compile the kernels with all optimisations, at least and at most. */
const WARM_MILLISECONDS = 30;
export const PATIENCE_MILLISECONDS = 400;

/** The product that is timed: 60 rows x 64 columns. */
const TIMED = { m: 60, n: 64, k: 256 };
/** Those that are compared: strips of every height, k that ends inside a turn of the loop, a pair of panels, its rest, and the rest of one. */
const HEIGHTS = [1, 2, 3, 4, 5, 6];
const WIDTHS = [15, 23, 31];
const DEPTH = 83;
/** A convolution with three runs of k. */
const RUNS = 3;
const CHANNELS = 9;

/** Numbers of both signs that need rounding when they are multiplied and added; the same in every run. */
function numbers(count: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

function table(words: readonly number[]): Location {
  return { storage: new Table(words), byteOffset: 0, bytes: 4 * words.length };
}

/** The trial's products on one engine. */
export class Contestant {
  readonly #engine: TrialEngine;
  readonly #timed: Command;
  readonly #compared: Command[] = [];
  readonly #outputs: Storage[] = [];
  #best: number = Number.POSITIVE_INFINITY;

  constructor(engine: TrialEngine) {
    this.#engine = engine;
    const a = this.#store(numbers(TIMED.m * TIMED.k));
    this.#timed = this.#product(a, this.#packed(TIMED.n, TIMED.k), TIMED);
    for (const n of WIDTHS) {
      const panels = this.#packed(n, DEPTH);
      for (const m of HEIGHTS) this.#compared.push(this.#product(a, panels, { m, n, k: DEPTH }));
      const weights = this.#packed(n, RUNS * CHANNELS);
      for (const columns of HEIGHTS) this.#compared.push(this.#convolution(a, weights, columns, n));
    }
  }

  /** Runs until the time has stopped falling for a while: the kernels are compiled with all optimisations. */
  warmUp(): void {
    const end = performance.now() + PATIENCE_MILLISECONDS;
    let settled = performance.now() + WARM_MILLISECONDS;
    while (performance.now() < Math.min(settled, end)) {
      const before = this.#best;
      for (let i = 0; i < 10; i++) {
        this.#engine.execute(this.#compared);
        this.time();
      }
      if (this.#best < 0.9 * before) settled = performance.now() + WARM_MILLISECONDS;
    }
  }

  /** Runs the timed product and returns the shortest time so far. */
  time(): number {
    const start = performance.now();
    this.#engine.execute([this.#timed]);
    this.#best = Math.min(this.#best, performance.now() - start);
    return this.#best;
  }

  /** The bits of all compared results. */
  results(): number[] {
    this.#engine.execute(this.#compared);
    const { u32 } = this.#engine.memory;
    return this.#outputs.flatMap(({ address, bytes }) => [...u32.subarray(address >>> 2, (address + bytes) >>> 2)]);
  }

  #buffer(floats: number): Location {
    const storage = new Storage(4 * floats);
    this.#engine.allocate(storage);
    return { storage, byteOffset: 0, bytes: storage.bytes };
  }

  #store(values: Float32Array): Location {
    const location = this.#buffer(values.length);
    this.#engine.memory.f32.set(values, (location.storage as Storage).address >>> 2);
    return location;
  }

  #output(floats: number): Location {
    const location = this.#buffer(floats);
    this.#outputs.push(location.storage as Storage);
    return location;
  }

  #command<Args>(kernel: Kernel<Args>, args: Args, tiles = 1): Command {
    return { kernel, args: args as Command['args'], grid: { tiles, work: 0 } };
  }

  /** B [k][n] in panels. */
  #packed(n: number, k: number): Location {
    const panels = this.#buffer(8 * Math.ceil(n / 8) * (k + 1));
    const args = {
      panels,
      b: this.#store(numbers(n * k)),
      bias: this.#store(numbers(n)),
      scale: NOWHERE,
      taps: table([0]),
      tapCount: 1,
      channels: k,
      n,
      strideChannel: n,
      strideN: 1,
      strideMatrix: 0,
      panelsPerTile: n,
    };
    this.#engine.execute([this.#command(kernels.pack, args)]);
    return panels;
  }

  #product(a: Location, panels: Location, { m, n, k }: typeof TIMED): Command {
    return this.#command(kernels.gemm, {
      c: this.#output(m * n),
      a,
      panels,
      batches: table([0, 0, 0]),
      m,
      n,
      k,
      lda: k,
      transposed: 0,
      ldc: n,
      mc: m,
      nc: 8 * Math.ceil(n / 8),
      kc: k,
      lo: -1,
      hi: Number.POSITIVE_INFINITY,
    });
  }

  /** A kernel of three rows and one column, on an image as wide as its output. */
  #convolution(x: Location, panels: Location, columns: number, n: number): Command {
    return this.#command(kernels.convolveRows, {
      y: this.#output(columns * n),
      x,
      panels,
      residual: NOWHERE,
      phases: table([1, columns, 0, 0, RUNS, 1, 0, 0]),
      phaseCount: 1,
      images: 1,
      groups: 1,
      xGroup: 0,
      height: RUNS,
      width: columns,
      channels: CHANNELS,
      xChannel: 1,
      xImage: 0,
      xRow: columns * CHANNELS,
      xColumn: CHANNELS,
      stepY: 1,
      stepX: 1,
      dilation: 1,
      n,
      yImage: 0,
      yRow: 0,
      yColumn: n,
      k: RUNS * CHANNELS,
      tileRows: 1,
      tileColumns: columns,
      nc: 8 * Math.ceil(n / 8),
      kc: 640,
      dots: 0,
      lo: Number.NEGATIVE_INFINITY,
      hi: 1,
    });
  }
}
