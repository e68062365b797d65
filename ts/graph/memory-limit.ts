// Which activations a training step forgets so that it fits into a limit: greedily those that lower memory beyond the limit
// most per nanosecond of work repeated, found on a model of the list in whole numbers.
import { MemoryLimitError } from '../runtime/errors.ts';
import type { Storage } from '../runtime/storage.ts';
import { CommandList } from '../tensor/apply.ts';
import type { OpCall } from '../tensor/op.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Checkpoints } from './passes/recompute.ts';
import { planOf } from './plan.ts';
import { placedBytes } from './planner.ts';
import type { Program } from './program.ts';

/** A call of the model: numbers of the storages that it reads and makes, bytes that it needs while it runs, nanoseconds. */
interface ModelCall {
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  readonly temporaryBytes: number;
  readonly work: number;
}

/** Memory and time of a list under some choice. */
interface Cost {
  /** Most bytes alive at once. */
  readonly peak: number;
  /** Bytes beyond the limit, summed over the calls. */
  readonly excess: number;
  /** Nanoseconds of repeated calls. */
  readonly work: number;
}

/** The list in whole numbers: what `Checkpoints.without` would do to lifetimes, without doing it. */
class Model {
  readonly #calls: readonly ModelCall[];
  readonly #forward: number;
  readonly #bytes: number[] = [];
  /** The call that makes a storage if it may be repeated, else -1. */
  readonly #maker: number[] = [];
  readonly #passing: boolean[] = [];
  readonly #numbers = new Map<Storage, number>();

  constructor(checkpoints: Checkpoints) {
    const numberOf = (storage: Storage): number => {
      let number = this.#numbers.get(storage);
      if (number === undefined) {
        number = this.#numbers.size;
        this.#numbers.set(storage, number);
        this.#bytes.push(placedBytes(storage.bytes));
        this.#maker.push(checkpoints.isRepeatable(storage) ? checkpoints.touches.get(storage)!.maker! : -1);
        this.#passing.push(checkpoints.isPassing(storage));
      }
      return number;
    };
    const numbers = (storages: readonly Storage[]): number[] =>
      [...new Set(storages)].filter((storage) => checkpoints.isIntermediate(storage)).map(numberOf);
    this.#forward = checkpoints.forward;
    this.#calls = checkpoints.calls.map((call) => ({
      inputs: numbers(call.inputs.flatMap((input) => (input ? [input.storage] : []))),
      outputs: numbers(call.outputs.map(({ storage }) => storage)),
      ...workOf(call),
    }));
  }

  numberOf(storage: Storage): number {
    return this.#numbers.get(storage)!;
  }

  /** What the list costs without the storages that are marked. */
  cost(forgotten: Uint8Array, limit: number): Cost {
    const count = this.#bytes.length;
    const moved = new Int32Array(count).fill(-1);
    const first: number[] = new Array<number>(count).fill(-1);
    const last: number[] = new Array<number>(count).fill(-1);
    const bytes = [...this.#bytes];
    const temporary: number[] = [];
    let work = 0;
    const use = (storage: number): void => {
      if (first[storage]! < 0) first[storage] = temporary.length;
      last[storage] = temporary.length;
    };
    const now = (storage: number): number => (moved[storage]! < 0 ? storage : moved[storage]!);
    const ensure = (storage: number): void => {
      if (moved[storage]! >= 0 || !(forgotten[storage] || this.#passing[storage])) return;
      const call = this.#calls[this.#maker[storage]!]!;
      for (const input of call.inputs) ensure(input);
      for (const input of call.inputs) use(now(input));
      for (const output of call.outputs) {
        moved[output] = bytes.push(bytes[output]!) - 1;
        first.push(-1);
        last.push(-1);
        use(moved[output]!);
      }
      work += call.work;
      temporary.push(call.temporaryBytes);
    };
    this.#calls.forEach((call, position) => {
      if (position >= this.#forward) for (const input of call.inputs) if (forgotten[input]) ensure(input);
      for (const input of call.inputs) use(now(input));
      for (const output of call.outputs) use(now(output));
      temporary.push(call.temporaryBytes);
    });
    return { ...peakOf(first, last, bytes, temporary, limit), work };
  }
}

/** Bytes and nanoseconds of a call's own. */
function workOf({ op, geometry, inputs, outputs }: OpCall): { temporaryBytes: number; work: number } {
  const list = new CommandList();
  op.lower(list, geometry, inputs, outputs);
  const temporaryBytes = list.temporaries.reduce((sum, { bytes }) => sum + placedBytes(bytes), 0);
  return { temporaryBytes, work: list.commands.reduce((sum, { grid }) => sum + grid.work, 0) };
}

function peakOf(
  first: readonly number[],
  last: readonly number[],
  bytes: readonly number[],
  temporary: readonly number[],
  limit: number,
): { peak: number; excess: number } {
  const change = new Float64Array(temporary.length + 1);
  for (let i = 0; i < bytes.length; i++) {
    if (first[i]! < 0) continue;
    change[first[i]!]! += bytes[i]!;
    change[last[i]! + 1]! -= bytes[i]!;
  }
  let alive = 0;
  let peak = 0;
  let excess = 0;
  for (let i = 0; i < temporary.length; i++) {
    alive += change[i]!;
    const here = alive + temporary[i]!;
    peak = Math.max(peak, here);
    excess += Math.max(0, here - limit);
  }
  return { peak, excess };
}

/** Chooses activations to forget, ever more of them. */
class Forgetting {
  readonly forgotten = new Set<Storage>();
  readonly #checkpoints: Checkpoints;
  readonly #model: Model;
  readonly #marks: Uint8Array;
  #left: Storage[];

  constructor(checkpoints: Checkpoints) {
    this.#checkpoints = checkpoints;
    this.#model = new Model(checkpoints);
    this.#left = checkpoints.candidates();
    this.#marks = new Uint8Array(checkpoints.touches.size);
  }

  /** Bytes alive at once, by the model. */
  get peak(): number {
    return this.#model.cost(this.#marks, 0).peak;
  }

  /** The calls with what is forgotten computed again. */
  get calls(): readonly OpCall[] {
    return this.forgotten.size ? this.#checkpoints.without(this.forgotten) : this.#checkpoints.calls;
  }

  /** Forgets until the model's peak is at most `limit`; false if it cannot. */
  reach(limit: number): boolean {
    let cost = this.#model.cost(this.#marks, limit);
    // What a storage gains only shrinks as others are forgotten, nearly always: the best by its last known gain is looked at first.
    let queue = this.#left.map((storage) => ({ storage, gain: Number.POSITIVE_INFINITY, round: -1 }));
    for (let round = 0; cost.excess > 0; round++) {
      queue.sort((a, b) => b.gain - a.gain);
      for (let best = queue[0]; best && best.round !== round; best = queue[0]) {
        best.gain = this.#gain(best.storage, cost, limit);
        best.round = round;
        let i = 0;
        for (; i + 1 < queue.length && queue[i + 1]!.gain > best.gain; i++) queue[i] = queue[i + 1]!;
        queue[i] = best;
      }
      const best = queue[0];
      if (!best || !(best.gain > 0)) break;
      queue = queue.slice(1);
      this.forgotten.add(best.storage);
      this.#marks[this.#model.numberOf(best.storage)] = 1;
      cost = this.#model.cost(this.#marks, limit);
    }
    this.#left = queue.map(({ storage }) => storage);
    return cost.excess === 0;
  }

  /** Bytes beyond the limit that go per nanosecond if this is forgotten too. */
  #gain(storage: Storage, before: Cost, limit: number): number {
    const number = this.#model.numberOf(storage);
    this.#marks[number] = 1;
    const after = this.#model.cost(this.#marks, limit);
    this.#marks[number] = 0;
    return (before.excess - after.excess) / (after.work - before.work + 1);
  }
}

/** Halvings of the interval in which the least possible peak is searched for. */
const HALVINGS = 7;

/** What a program is made of: calls, and what comes in and goes out. */
export interface StepCalls {
  readonly calls: readonly OpCall[];
  readonly inputs: readonly Tensor[];
  readonly results: readonly Tensor[];
  /** Programs of the same step for other inputs, which stay. */
  readonly others: readonly Program[];
}

/**
 * The program of a training step that takes at most `limit` bytes together with the others, activations computed again where that is
 * needed. `build` makes a program from calls, without taking memory.
 *
 * @throws MemoryLimitError, a RangeError, naming the least peak found
 */
export function fitIntoMemory(step: StepCalls, limit: number, build: (calls: readonly OpCall[]) => Program): Program {
  const whole = build(step.calls);
  const peakWith = (program: Program): number => planOf([...step.others, program]).peakBytes;
  const peak = peakWith(whole);
  if (peak <= limit) return whole;
  whole.dispose();
  const checkpoints = new Checkpoints(step.calls, step.inputs, step.results);
  const modelled = new Forgetting(checkpoints).peak;
  let least = peak;
  /** Aims at this model peak, and lower as long as the real one is too high. */
  const attempt = (target: number): Program | null => {
    const forgetting = new Forgetting(checkpoints);
    for (let reached = true, aim = target; reached; ) {
      reached = forgetting.reach(aim);
      const program = build(forgetting.calls);
      const peakBytes = peakWith(program);
      if (peakBytes <= limit) return program;
      program.dispose();
      least = Math.min(least, peakBytes);
      aim = forgetting.peak - (peakBytes - limit);
    }
    return null;
  };
  const found = attempt(modelled - (peak - limit));
  if (found) return found;
  // Beyond what can be reached the choice is poor: aim at what is possible.
  for (let i = 0, low = 0, high = modelled; i < HALVINGS; i++) {
    const middle = (low + high) / 2;
    const before = least;
    const program = attempt(middle);
    if (program) return program;
    if (least < before) high = middle;
    else low = middle;
  }
  throw new MemoryLimitError(
    `memoryLimit of ${limit} bytes cannot be met: this step takes at least ${least} bytes (${peak} bytes if nothing is computed twice)`,
  );
}
