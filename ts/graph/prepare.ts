// Commands that depend on parameters alone, such as packing weights, are taken out of a program and run once per version of
// what they read.
import type { Command } from '../runtime/command.ts';
import { engine } from '../runtime/engine.ts';
import { blockBytes } from '../runtime/heap.ts';
import { programBytes, usesOf, writeProgram } from '../runtime/program.ts';
import type { Storage } from '../runtime/storage.ts';
import { discard, materialise } from '../tensor/lifetime.ts';
import type { OpCall } from '../tensor/op.ts';

/** An op call with its commands. */
export interface CallCommands {
  readonly call: OpCall;
  readonly commands: readonly Command[];
  readonly macs: number;
}

/** Splits off the constant commands. `fixed` are inputs and outputs, which change from run to run. */
export function hoistConstants(
  calls: readonly CallCommands[],
  fixed: ReadonlySet<Storage>,
): { prepared: Prepared | null; rest: CallCommands[] } {
  const commands = calls.flatMap((call) => call.commands);
  const constant = constantCommands(commands, fixed);
  const hoisted = commands.filter((command) => constant.has(command));
  const rest = calls.map((call) => ({ ...call, commands: call.commands.filter((command) => !constant.has(command)) }));
  return { prepared: hoisted.length ? new Prepared(hoisted) : null, rest };
}

/** Commands whose every operand is a parameter that this program leaves alone, or the result of such commands. */
function constantCommands(commands: readonly Command[], fixed: ReadonlySet<Storage>): Set<Command> {
  const constant = new Set(commands);
  const writers = new Map<Storage, Command[]>();
  for (const command of commands)
    for (const { storage, access } of usesOf(command))
      if (access !== 'read') writers.set(storage, [...(writers.get(storage) ?? []), command]);
  const varies = (command: Command): boolean => {
    for (const { storage, access } of usesOf(command)) {
      if (fixed.has(storage)) return true;
      if (access !== 'read' && storage.state !== 'planned') return true;
      if ((writers.get(storage) ?? []).some((writer) => !constant.has(writer))) return true;
    }
    return false;
  };
  for (let before = -1; before !== constant.size; ) {
    before = constant.size;
    for (const command of constant) if (varies(command)) constant.delete(command);
  }
  return constant;
}

/** The constant part of a program, with the memory of its results. */
export class Prepared {
  /** What it reads. */
  readonly sources: readonly Storage[];
  /** Bytes of its own program. */
  readonly bytes: number;
  readonly #commands: readonly Command[];
  #results: readonly Storage[];
  #versions: number[] | null = null;
  #address = 0;
  #scratch = 0;

  constructor(commands: readonly Command[]) {
    const sources = new Set<Storage>();
    const results = new Set<Storage>();
    for (const command of commands)
      for (const { storage } of usesOf(command)) (storage.state === 'planned' ? results : sources).add(storage);
    this.#commands = commands;
    this.#results = [...results];
    this.sources = [...sources];
    this.bytes = blockBytes(programBytes(commands));
    // To the program around it they are what parameters are: there before it runs, with memory from the first use on.
    for (const storage of this.#results) {
      storage.state = 'lazy';
      storage.persistent = true;
    }
  }

  /** Writes the program. */
  write(): void {
    for (const storage of [...this.sources, ...this.#results]) materialise(storage);
    this.#address = engine().heap.allocate(programBytes(this.#commands));
    for (const source of this.sources) source.pins++;
    writeProgram(engine().memory, this.#address, this.#commands);
    this.#scratch = Math.max(0, ...this.#commands.map(({ grid }) => grid.scratch ?? 0));
  }

  /** Runs it if anything it reads has changed since the last time. */
  refresh(): void {
    const current = this.sources.map((source) => source.version);
    if (this.#versions && current.every((version, i) => version === this.#versions![i])) return;
    engine().reserveScratch(this.#scratch);
    engine().run(this.#address, this.#commands.length);
    this.#versions = current;
  }

  /** Its memory went with the engine. */
  lost(): void {
    this.#address = 0;
    this.#results = [];
  }

  /** Gives its memory back. */
  dispose(): void {
    if (this.#address) engine().heap.free(this.#address);
    if (this.#address) for (const source of this.sources) source.pins--;
    this.#address = 0;
    for (const storage of this.#results) discard(storage, 'released with the program that made it');
  }
}
