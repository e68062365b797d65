// A captured list of op calls, lowered, placed and written: one call into wasm replays it.
import { checkCanary, paintCanary } from '../runtime/canary.ts';
import type { Command } from '../runtime/command.ts';
import { engine, type RunFailure } from '../runtime/engine.ts';
import { CaptureError } from '../runtime/errors.ts';
import { blockBytes } from '../runtime/heap.ts';
import type { LinearMemory } from '../runtime/memory.ts';
import { patch, programBytes, type Use, usesOf, writeProgram } from '../runtime/program.ts';
import { Storage } from '../runtime/storage.ts';
import { activeRecorder, CommandList, checkReadable, runError } from '../tensor/apply.ts';
import { elementBytes } from '../tensor/dtype.ts';
import { discard, materialise, track } from '../tensor/lifetime.ts';
import type { OpCall } from '../tensor/op.ts';
import { Tensor } from '../tensor/tensor.ts';
import { enter, leave, type Tenant } from './arena.ts';
import { type Constant, hoistConstants } from './constants.ts';
import { lifetimes, type Placement, place, placedBytes, shareInPlace } from './planner.ts';

/** Options of `Program`. */
export interface ProgramOptions {
  /** Computes what depends on parameters only (packed weights) once per version of them. For inference. */
  readonly hoist?: boolean;
  /** With `hoist`: gives the memory of parameters back that are not read any more once that is done. */
  readonly releaseWeights?: boolean;
  /** Takes no memory until it first runs, so that its plan can be looked at before. */
  readonly deferred?: boolean;
}

/** An op call with its commands. */
export interface CallCommands {
  readonly call: OpCall;
  readonly commands: readonly Command[];
}

/** A replayable program over fixed shapes. */
export class Program implements Tenant {
  readonly arenaBytes: number;
  /** What it does, call by call. Calls that are computed beforehand have no commands. */
  readonly calls: readonly CallCommands[];
  /** Persistent storages it names. While it exists they cannot be disposed. */
  readonly pinned: readonly Storage[];
  /** Storages from outside, inputs apart, that results lie in: they are not the program's to release. */
  readonly handedBack: ReadonlySet<Storage>;
  /** The call of each command. */
  readonly #owners: readonly OpCall[];
  readonly #commands: readonly Command[];
  readonly #inputs: readonly Tensor[];
  readonly #outputs: readonly Tensor[];
  readonly #scratch: number;
  readonly #releaseWeights: boolean;
  #constants: readonly Constant[];
  readonly #written: readonly Storage[];
  /** Per input, whether a command writes to it. */
  readonly #changed: readonly boolean[];
  readonly #results: readonly Result[];
  readonly #placement: Placement;
  #uses: ReadonlyMap<Storage, readonly Use[]> = new Map();
  #address = 0;
  #arena = 0;
  #loaded = false;
  readonly #engine = engine();

  constructor(
    calls: readonly OpCall[],
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    { hoist = false, releaseWeights = false, deferred = false }: ProgramOptions = {},
  ) {
    const lowered = calls.map(lower);
    const ends = endsOf(inputs, outputs);
    const { constants, rest } = hoist ? hoisted(lowered, ends) : { constants: [], rest: lowered };
    this.calls = rest;
    this.#owners = rest.flatMap(({ call, commands }) => commands.map(() => call));
    this.#commands = rest.flatMap(({ commands }) => commands);
    this.#inputs = inputs;
    this.#outputs = outputs;
    this.handedBack = new Set(outputs.flatMap(({ storage }) => (storage.state === 'planned' ? [] : [storage])));
    this.#scratch = Math.max(0, ...this.#commands.map(({ grid }) => grid.scratch ?? 0));
    // The largest first: what it was packed from leaves the largest hole for all that follows.
    this.#constants = constants.sort((a, b) => b.bytes - a.bytes);
    const named = namedStorages(this.#commands);
    const persistent = [...named.keys()].filter(({ state }) => state === 'live' || state === 'lazy');
    this.#written = persistent.filter((storage) => named.get(storage));
    this.#changed = inputs.map(({ storage }) => named.get(storage) ?? false);
    this.#results = resultsOf(inputs, outputs);
    // Parameters that it was packed from are pinned like those it reads, unless they shall go.
    const roots = releaseWeights ? [] : constants.flatMap(({ roots }) => roots);
    this.pinned = [...new Set([...persistent, ...roots])];
    const inArena = (storage: Storage): boolean => storage.state === 'planned' && !ends.has(storage);
    const alive = lifetimes(this.#commands, inArena);
    const { debug } = engine();
    this.#placement = place(debug ? alive : shareInPlace(alive, this.#commands), debug);
    this.arenaBytes = this.#placement.bytes;
    this.#releaseWeights = releaseWeights;
    for (const storage of this.pinned) storage.pins++;
    for (const constant of constants) constant.hold();
    if (deferred) return;
    try {
      this.#load();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Takes memory and writes the program. If memory runs out, what was taken goes back. */
  #load(): void {
    if (engine() !== this.#engine) return;
    try {
      this.#prepare();
      for (const storage of this.pinned) materialise(storage);
      this.#address = engine().heap.allocate(programBytes(this.#commands));
      enter(this);
      this.#uses = groupBy(writeProgram(engine().memory, this.#address, this.#commands));
      this.#loaded = true;
    } catch (error) {
      this.#unload();
      throw error;
    }
  }

  /** Computes the constants, and lets go of each parameter as soon as nothing reads it any more. */
  #prepare(): void {
    const readers = new Map<Storage, number>();
    for (const { roots } of this.#constants) for (const root of roots) readers.set(root, (readers.get(root) ?? 0) + 1);
    for (const constant of this.#constants) {
      constant.refresh();
      for (const root of constant.roots) {
        const left = readers.get(root)! - 1;
        readers.set(root, left);
        if (this.#releaseWeights && !left && !root.pins && root.state === 'live') discard(root, WEIGHTS_RELEASED);
      }
    }
  }

  moved(address: number): void {
    this.#arena = address;
    for (const [storage, offset] of this.#placement.offsets) {
      storage.address = address + offset;
      this.#bind(storage, storage.address);
    }
  }

  /** Whether it has given its memory back. */
  get disposed(): boolean {
    return this.#loaded && this.#address === 0;
  }

  /** Bytes besides the arena and what it pins. */
  get ownBytes(): number {
    const ends = [...endsOf(this.#inputs, this.#outputs)].filter((storage) => storage.state === 'planned');
    return blocksOf(ends) + blockBytes(programBytes(this.#commands));
  }

  get scratchBytes(): number {
    return this.#scratch;
  }

  /** Runs on these inputs, whose specs are those of the capture, and returns fresh outputs. */
  run(inputs: readonly Tensor[]): Tensor[] {
    return this.#perform(inputs, replay);
  }

  /** Runs on these inputs and returns, per command, when it started, and last when all was over, in milliseconds. */
  time(inputs: readonly Tensor[]): Float64Array {
    let times: Float64Array = new Float64Array();
    const outputs = this.#perform(inputs, (address, count) => {
      const timed = engine().runTimed(address, count);
      times = timed.times;
      return timed.failure;
    });
    for (const { storage } of outputs)
      if (!inputs.some((input) => input.storage === storage) && !this.handedBack.has(storage))
        discard(storage, 'not returned');
    return times;
  }

  #perform(inputs: readonly Tensor[], run: (address: number, count: number) => RunFailure | null): Tensor[] {
    if (!this.#loaded) this.#load();
    if (!this.#address) throw new Error('run: this program was disposed, or made before shutdown()');
    if (activeRecorder())
      throw new CaptureError('run: a compiled model or captured step cannot run inside a step that is being captured');
    for (const input of inputs) {
      checkReadable('run', input);
      materialise(input.storage);
    }
    for (const constant of this.#constants) constant.refresh();
    engine().reserveScratch(this.#scratch);
    const fresh: Storage[] = [];
    try {
      const outputs = this.#bindEnds(inputs, fresh);
      this.#eachGap(paintCanary);
      const failure = run(this.#address, this.#commands.length);
      this.#eachGap(checkCanary);
      if (failure) {
        const { op, module } = this.#owners[failure.command]!;
        throw runError(failure, op.name, module);
      }
      return outputs;
    } catch (error) {
      for (const storage of fresh) discard(storage, 'never written: its run failed');
      throw error;
    } finally {
      for (const storage of this.#written) storage.version++;
      for (let i = 0; i < inputs.length; i++) if (this.#changed[i]) inputs[i]!.storage.version++;
    }
  }

  #bind(storage: Storage, address: number): void {
    const uses = this.#uses.get(storage);
    if (uses) patch(engine().memory, this.#address, uses, address);
  }

  /** Visits the room behind each intermediate. Only with `debug`, where none shares its place with another. */
  #eachGap(visit: (memory: LinearMemory, start: number, end: number, size: number) => void): void {
    if (!engine().debug) return;
    for (const [{ bytes }, offset] of this.#placement.offsets) {
      const address = this.#arena + offset;
      visit(engine().memory, address + bytes, address + placedBytes(bytes), bytes);
    }
  }

  /** Points the program at these inputs and at fresh outputs. An output that is an input or a parameter is handed back as it is. */
  #bindEnds(inputs: readonly Tensor[], fresh: Storage[]): Tensor[] {
    for (let i = 0; i < inputs.length; i++) {
      const { storage, offset, dtype } = inputs[i]!;
      this.#bind(this.#inputs[i]!.storage, storage.address + offset * elementBytes(dtype));
    }
    const results: Tensor[] = [];
    for (const { tensor, input, first } of this.#results) {
      const { shape, dtype, strides, offset } = tensor;
      const given = input === null ? null : inputs[input]!;
      const storage = given?.storage ?? (first === null ? this.#owned(tensor.storage, fresh) : results[first]!.storage);
      results.push(new Tensor({ storage, shape, dtype, strides, offset: offset + (given?.offset ?? 0) }));
    }
    return results;
  }

  /** Where a result lies that is no input: in fresh memory, or in a storage from outside. */
  #owned(storage: Storage, fresh: Storage[]): Storage {
    if (storage.state !== 'planned') return storage;
    const target = new Storage(storage.bytes);
    target.computed = true;
    engine().allocate(target);
    track(target);
    fresh.push(target);
    this.#bind(storage, target.address);
    return target;
  }

  lost(): void {
    this.#constants = [];
    this.#address = 0;
    (this as { pinned: readonly Storage[] }).pinned = [];
  }

  /** Gives its memory back and unpins what it named. */
  dispose(): void {
    this.#unload();
    this.#loaded = true;
    for (const storage of this.pinned) storage.pins--;
    (this as { pinned: readonly Storage[] }).pinned = [];
    for (const constant of this.#constants) constant.release();
    this.#constants = [];
  }

  #unload(): void {
    leave(this);
    if (this.#address) engine().heap.free(this.#address);
    this.#address = 0;
  }
}

/** An output, and where it lies: in the storage of an input, of an earlier output, or else in one of its own. */
interface Result {
  readonly tensor: Tensor;
  readonly input: number | null;
  readonly first: number | null;
}

function resultsOf(inputs: readonly Tensor[], outputs: readonly Tensor[]): Result[] {
  const place = (among: readonly Tensor[], storage: Storage): number | null => {
    const index = among.findIndex((tensor) => tensor.storage === storage);
    return index < 0 ? null : index;
  };
  return outputs.map((tensor, i) => ({
    tensor,
    input: place(inputs, tensor.storage),
    first: place(outputs.slice(0, i), tensor.storage),
  }));
}

function replay(address: number, count: number): RunFailure | null {
  return engine().run(address, count);
}

const WEIGHTS_RELEASED =
  "released once compile had packed it, as releaseWeights or memory 'small' ask for; compile without them to go on using the parameters";

/** Bytes of the heap that storages take. */
export function blocksOf(storages: Iterable<Storage>): number {
  let sum = 0;
  for (const { bytes } of storages) sum += blockBytes(bytes);
  return sum;
}

function endsOf(inputs: readonly Tensor[], outputs: readonly Tensor[]): Set<Storage> {
  return new Set([...inputs, ...outputs].map((tensor) => tensor.storage));
}

/** Asks an op for its commands. */
function lower(call: OpCall): CallCommands {
  const list = new CommandList();
  call.op.lower(list, call.geometry, call.inputs, call.outputs);
  return { call, commands: list.commands };
}

/** Splits calls into constants and what is left to run. */
function hoisted(
  calls: readonly CallCommands[],
  fixed: ReadonlySet<Storage>,
): { constants: Constant[]; rest: CallCommands[] } {
  const { constants, rest } = hoistConstants(
    calls.flatMap(({ commands }) => commands),
    fixed,
  );
  const kept = calls.map(({ call, commands }) => ({
    call,
    commands: commands.flatMap((command) => rest.get(command) ?? []),
  }));
  return { constants, rest: kept };
}

/** All storages that commands name, and whether any command writes them. */
function namedStorages(commands: readonly Command[]): Map<Storage, boolean> {
  const named = new Map<Storage, boolean>();
  for (const command of commands)
    for (const { storage, access } of usesOf(command))
      named.set(storage, (named.get(storage) ?? false) || access !== 'read');
  return named;
}

function groupBy(uses: readonly Use[]): Map<Storage, Use[]> {
  const groups = new Map<Storage, Use[]>();
  for (const use of uses) {
    const group = groups.get(use.storage);
    if (group) group.push(use);
    else groups.set(use.storage, [use]);
  }
  return groups;
}
