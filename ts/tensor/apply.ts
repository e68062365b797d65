// The only place where an op call happens. Autograd and capture register here.
import { INDEX_OUT_OF_RANGE } from '../generated/kernels.ts';
import type { Access, Command, Emitter, Grid, Kernel, Location, TableAddress } from '../runtime/command.ts';
import { Table } from '../runtime/command.ts';
import { engine, type RunFailure, whenShutDown } from '../runtime/engine.ts';
import { CaptureError } from '../runtime/errors.ts';
import { Storage } from '../runtime/storage.ts';
import { elementBytes } from './dtype.ts';
import { currentStep, discard, materialise, track } from './lifetime.ts';
import type { Op, OpCall, Operand, OutputSpec } from './op.ts';
import { sizeOf } from './shape.ts';
import { Tensor } from './tensor.ts';

/** Whoever collects op calls instead of running them. */
export interface Recorder {
  record(call: OpCall): void;
  /** Told of every tensor that a call reads, also of calls that only make views and are not recorded. */
  read(tensor: Tensor): void;
}

/** Autograd's view of op calls. */
export interface Tape {
  /** Before a call runs: may refuse it. */
  before(op: OpCall['op'], inputs: readonly Operand[]): void;
  /** After it ran or was recorded. */
  after(call: OpCall): void;
}

let recorder: Recorder | null = null;
let tape: Tape = { before() {}, after() {} };
let modulePath: () => string = () => '';

/** Puts a recorder in place of running (null: run again) and returns the one before. */
export function setRecorder(next: Recorder | null): Recorder | null {
  const before = recorder;
  recorder = next;
  return before;
}

/** The recorder in place, if any. */
export function activeRecorder(): Recorder | null {
  return recorder;
}

/** Registers the tape. */
export function setTape(next: Tape): void {
  tape = next;
}

/** Registers who knows the path of the module whose forward is running. */
export function setModulePath(path: () => string): void {
  modulePath = path;
}

/** Path of the module whose forward is running, '' outside of modules. */
export function currentModulePath(): string {
  return modulePath();
}

/** Checks the operands, infers the outputs, runs or records the call, tells the tape. */
export function apply<Options, Geometry>(
  op: Op<Options, Geometry>,
  inputs: readonly Operand[],
  options: Options,
): readonly Tensor[] {
  for (const input of inputs) if (input !== null) checkReadable(op.name, input);
  const { geometry, outputs: specs } = op.infer(inputs, options);
  tape.before(op as OpCall['op'], inputs);
  const outputs = specs.map((spec) => outputTensor(spec, inputs));
  const call = { op, options, geometry, inputs, outputs, module: modulePath() } as unknown as OpCall;
  for (const input of inputs) {
    if (!input) continue;
    input.storage.usedAt = currentStep();
    recorder?.read(input);
  }
  if (!specs.length || specs.some((spec) => !spec.view)) {
    if (recorder) recorder.record(call);
    else execute(call, specs);
  }
  for (const i of op.mutates ?? []) inputs[i]!.storage.version++;
  tape.after(call);
  return outputs;
}

/** Throws unless the operand is a tensor whose memory is still there. */
export function checkReadable(op: string, operand: unknown): asserts operand is Tensor {
  if (!(operand instanceof Tensor)) throw new TypeError(`${op}: expected a Tensor, got ${describe(operand)}`);
  const { storage } = operand;
  if (storage.state === 'released') throw new Error(`${op}: this ${operand} was ${storage.releasedBy}`);
  if (storage.owner && storage.owner !== engine()) throw new Error(`${op}: this ${operand} was made before shutdown()`);
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value)
    ? 'an array (use tensor(...))'
    : typeof value === 'object'
      ? 'an object'
      : `a ${typeof value}`;
}

function outputTensor(spec: OutputSpec, inputs: readonly Operand[]): Tensor {
  const { shape, dtype, strides, view } = spec;
  if (view) return new Tensor({ storage: inputs[view.input]!.storage, shape, dtype, strides, offset: view.offset });
  const storage = new Storage(sizeOf(shape) * elementBytes(dtype));
  storage.computed = true;
  return new Tensor({ storage, shape, dtype, strides });
}

/** Runs one call now: a program that is one op call long. */
function execute(call: OpCall, specs: readonly OutputSpec[]): void {
  const { op, geometry, inputs, outputs } = call;
  const emitter = new CommandList();
  for (const input of inputs) {
    if (input?.storage.state === 'planned')
      throw new CaptureError(
        `${op.name}: ${input} stands for a value inside a captured step and has none outside of it`,
      );
    if (input) materialise(input.storage);
  }
  const fresh = outputs.filter((_, i) => !specs[i]!.view).map((output) => output.storage);
  try {
    for (const storage of fresh) engine().allocate(storage);
    op.lower(emitter, geometry, inputs, outputs);
    for (const storage of emitter.temporaries) engine().allocate(storage);
    const failure = engine().execute(emitter.commands);
    if (failure) throw runError(failure, op.name, call.module);
  } catch (error) {
    for (const storage of fresh) discard(storage, 'never written: its op failed');
    throw error;
  } finally {
    for (const storage of emitter.temporaries) discard(storage, 'temporary');
  }
  for (const storage of fresh) track(storage);
}

/** The error for a value that only the kernel could see. */
export function runError(failure: RunFailure, op: string, module: string): Error {
  const where = module ? `${op} (in ${module})` : op;
  if (failure.code === INDEX_OUT_OF_RANGE)
    return new RangeError(
      `${where}: index or label ${failure.detail} is out of range, expected 0 to ${failure.extent - 1}`,
    );
  return new Error(`${where}: kernel reported code ${failure.code}`);
}

/** Collects the commands that the `lower` of an op emits. */
export class CommandList implements Emitter {
  readonly commands: Command[] = [];
  readonly temporaries: Storage[] = [];

  command<Args>(kernel: Kernel<Args>, args: Args, grid: Grid): void {
    if (grid.tiles > 0) this.commands.push({ kernel, args: args as Command['args'], grid });
  }

  table(words: readonly (number | TableAddress)[]): Location {
    return { storage: new Table(words), byteOffset: 0, bytes: 4 * words.length };
  }

  temporary(bytes: number): Location {
    const storage = new Storage(bytes);
    this.temporaries.push(storage);
    return { storage, byteOffset: 0, bytes };
  }
}

/** A table word that is the address of a buffer. */
export function tableAddress(location: Location, access: Access): TableAddress {
  return { location, access };
}

whenShutDown(() => {
  recorder = null;
});
