// A group of parameters that share hyper-parameters: the block of those in linear memory, the state of each parameter, and the
// update as one op call, so that a step can be captured.
import { gradientOf } from '../autograd/gradient.ts';
import type { OptimizerArgs } from '../generated/kernels.ts';
import { COUNTER_BYTES, COUNTER_STEPS, OPTIMIZER_TILE } from '../generated/kernels.ts';
import { type Kernel, NOWHERE, type TableAddress } from '../runtime/command.ts';
import { engine } from '../runtime/engine.ts';
import { CaptureError } from '../runtime/errors.ts';
import { apply, checkReadable, tableAddress } from '../tensor/apply.ts';
import { allocateTensor } from '../tensor/create.ts';
import { keep } from '../tensor/lifetime.ts';
import type { Op, Operand } from '../tensor/op.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';

/** Hyper-parameters of any optimiser. */
export interface Hyper {
  lr: number;
}

/** Parameters that share hyper-parameters. Setting one, `group.lr = 0.01`, takes effect at the next step, captured or not. */
export type ParamGroup<H extends Hyper> = { readonly params: readonly Tensor[] } & H;

/** What tells optimisers apart. Byte offsets are those of assembly/optimizer.ts. */
export interface Method<H extends Hyper> {
  readonly name: string;
  /** Hyper-parameters unless the user says otherwise. */
  readonly defaults: H;
  /** Throws for values out of range. */
  check(name: string, hyper: H): void;
  /** Bytes of the block, and how hyper-parameters get there. */
  readonly blockBytes: number;
  write(block: Block, hyper: H): void;
  /** Names of the state tensors of a parameter, two at most. */
  stateNames(hyper: H): readonly string[];
  /** Sets the counter of a parameter to `steps` steps made. */
  count(counter: Block, hyper: H, steps: number): void;
  /** Whether the counters depend on what differs between these. */
  recount(before: H, after: H): boolean;
  /** The steps of a parameter whose saved state does not say; null if it has to. */
  readonly stepsUnsaid: number | null;
  readonly advance: Kernel<OptimizerArgs>;
  readonly update: Kernel<OptimizerArgs>;
  /** Nanoseconds per element. */
  readonly cost: number;
}

/** f64 words at byte offsets, in linear memory. */
export interface Block {
  set(offset: number, value: number): void;
  get(offset: number): number;
}

/** What an optimiser remembers of one parameter. */
export interface State {
  /** Steps made and what follows from them, see COUNTER_STEPS. */
  readonly counter: Tensor;
  readonly tensors: readonly Tensor[];
}

/** One group: its parameters, their state, and its block in linear memory. */
export class Group<H extends Hyper> {
  readonly method: Method<H>;
  readonly params: readonly Tensor[];
  /** What users see: the hyper-parameters as properties. */
  readonly view: ParamGroup<H>;
  readonly states = new Map<Tensor, State>();
  #hyper: H;
  #block: Tensor | null = null;
  #op: Op<null, null> | null = null;

  constructor(method: Method<H>, params: readonly Tensor[], hyper: H) {
    method.check(method.name, hyper);
    this.method = method;
    this.params = params;
    this.#hyper = hyper;
    this.view = this.#makeView();
  }

  #makeView(): ParamGroup<H> {
    const view = { params: this.params } as ParamGroup<H>;
    for (const name of Object.keys(this.#hyper) as (keyof H & string)[])
      Object.defineProperty(view, name, {
        get: () => this.#hyper[name],
        set: (value: H[typeof name]) => this.change({ ...this.#hyper, [name]: value }),
        enumerable: true,
      });
    return Object.preventExtensions(view);
  }

  get hyper(): H {
    return this.#hyper;
  }

  /** Throws unless `change` would take these hyper-parameters: other state than that of the first step it would not. */
  checkChange(hyper: H): void {
    const { name, stateNames } = this.method;
    this.method.check(name, hyper);
    if (this.states.size && stateNames(hyper).length !== stateNames(this.#hyper).length)
      throw new RangeError(`${name}: momentum cannot be turned on or off after the first step`);
  }

  /** Takes other hyper-parameters. */
  change(hyper: H): void {
    this.checkChange(hyper);
    const before = this.#hyper;
    this.#hyper = hyper;
    if (this.#block) this.method.write(words(this.block), hyper);
    if (this.method.recount(before, hyper))
      for (const [parameter, state] of this.states) this.setSteps(state, this.stepsOf(parameter));
  }

  /** The block of hyper-parameters; made at the first use, since memory is only there after `init`. */
  get block(): Tensor {
    if (!this.#block) {
      this.#block = keep(allocateTensor([this.method.blockBytes / 4], 'f32'));
      this.method.write(words(this.#block), this.#hyper);
    }
    checkReadable(this.method.name, this.#block);
    return this.#block;
  }

  /** Steps that a parameter has made. */
  stepsOf(parameter: Tensor): number {
    const state = this.states.get(parameter);
    return state ? words(state.counter).get(COUNTER_STEPS) : 0;
  }

  /** Says how many steps a parameter has made. */
  setSteps({ counter }: State, steps: number): void {
    this.method.count(words(counter), this.#hyper, steps);
    counter.storage.version++;
  }

  /** The state of a parameter, zero at first. */
  stateOf(parameter: Tensor): State {
    let state = this.states.get(parameter);
    if (!state) {
      const tensors = this.method.stateNames(this.#hyper).map(() => zeroState(parameter));
      state = { counter: keep(allocateTensor([COUNTER_BYTES / 4], 'f32')), tensors };
      this.setSteps(state, 0);
      this.states.set(parameter, state);
    }
    return state;
  }

  /** The parameters that have a gradient, with it. Empty ones have nothing to train, and no tile. */
  #trained(): [Tensor, Tensor][] {
    const pairs = this.params.map((parameter) => [parameter, gradientOf(parameter)] as const);
    return pairs.filter((pair): pair is [Tensor, Tensor] => pair[1] !== null && pair[0].size > 0);
  }

  prepare(): void {
    void this.block;
    for (const [parameter] of this.#trained()) this.stateOf(parameter);
  }

  /** One op call: count the step of every parameter that has a gradient, then update it. */
  step(): void {
    const trained = this.#trained();
    if (!trained.length) return;
    const states = trained.map(([parameter]) => this.states.get(parameter));
    if (!this.#block || states.some((state) => !state))
      throw new CaptureError(`${this.method.name}: call prepare() before a step is captured`);
    const operands = trained.flatMap(([parameter, gradient], i) => {
      const { counter, tensors } = states[i]!;
      return [parameter, gradient, counter, ...tensors];
    });
    apply(this.#updateOp(1 + operands.length, states[0]!.tensors.length), [this.block, ...operands], null);
  }

  /** The op for this many inputs: the block, then per parameter itself, its gradient, its counter and its state. */
  #updateOp(inputs: number, states: number): Op<null, null> {
    const isRead = (i: number): boolean => i === 0 || (i - 1) % (3 + states) === 1;
    const mutates = Array.from({ length: inputs }, (_, i) => i).filter((i) => !isRead(i));
    if (this.#op?.mutates?.length !== mutates.length) this.#op = updateOp(this.method, states, mutates);
    return this.#op;
  }
}

/** The f64 words of a tensor's memory. */
function words({ storage }: Tensor): Block {
  const word = (offset: number): number => (storage.address + offset) >>> 3;
  return {
    set(offset, value) {
      engine().memory.f64[word(offset)] = value;
    },
    get: (offset) => engine().memory.f64[word(offset)]!,
  };
}

function zeroState(parameter: Tensor): Tensor {
  const state = keep(allocateTensor(parameter.shape, 'f32', parameter.strides));
  const start = state.storage.address >>> 2;
  engine().memory.f32.fill(0, start, start + state.size);
  return state;
}

function updateOp<H extends Hyper>(method: Method<H>, states: number, mutates: readonly number[]): Op<null, null> {
  return {
    name: method.name,
    infer: () => ({ geometry: null, outputs: [] }),
    lower(emit, _geometry, [block, ...tensors]) {
      const entries: (number | TableAddress)[] = [];
      const per = 3 + states;
      const count = tensors.length / per;
      let tiles = 0;
      let elements = 0;
      for (let i = 0; i < tensors.length; i += per) {
        const { size } = tensors[i]!;
        entries.push(...entry(tensors.slice(i, i + per)), size, tiles);
        tiles += Math.ceil(size / OPTIMIZER_TILE);
        elements += size;
      }
      const args = { entries: emit.table(entries), count, block: locationOf(block!) };
      emit.command(method.advance, args, { tiles: count, work: 20 * count });
      emit.command(method.update, args, { tiles, work: elements * method.cost });
    },
    backward: { notDifferentiable: 'an optimiser step ends the graph' },
    saves: {},
    mutates,
  };
}

/** The five addresses of a parameter's entry. */
function entry([parameter, gradient, counter, ...states]: readonly Operand[]): TableAddress[] {
  return [
    tableAddress(locationOf(parameter!), 'update'),
    tableAddress(locationOf(gradient!), 'read'),
    ...[0, 1].map((i) => tableAddress(states[i] ? locationOf(states[i]) : NOWHERE, 'update')),
    tableAddress(locationOf(counter!), 'update'),
  ];
}
