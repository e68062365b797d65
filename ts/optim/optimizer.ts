// What optimisers share: parameter groups, the blocks of hyper-parameters in linear memory, state, and the update as one op call
// per group, so that a step can be captured.
import { assignGradient, gradientOf } from '../autograd/gradient.ts';
import { noGrad } from '../autograd/mode.ts';
import type { OptimizerArgs, OptimizerStepArgs } from '../generated/kernels.ts';
import { OPTIMIZER_TILE } from '../generated/kernels.ts';
import { copy_ } from '../ops/copy.ts';
import { type Kernel, NOWHERE, type TableAddress } from '../runtime/command.ts';
import { engine } from '../runtime/engine.ts';
import { CaptureError } from '../runtime/errors.ts';
import { activeRecorder, apply, checkReadable, tableAddress } from '../tensor/apply.ts';
import { allocateTensor, checkOptions } from '../tensor/create.ts';
import { keep } from '../tensor/lifetime.ts';
import type { Op, Operand } from '../tensor/op.ts';
import { isDense, show } from '../tensor/shape.ts';
import { locationOf, Tensor } from '../tensor/tensor.ts';

/** Hyper-parameters of any optimiser. */
export interface Hyper {
  lr: number;
}

/** Parameters that share hyper-parameters. Setting one, `group.lr = 0.01`, takes effect at the next step, captured or not. */
export type ParamGroup<H extends Hyper> = { readonly params: readonly Tensor[] } & H;

/** Parameters to train: one list, or groups with hyper-parameters of their own. */
export type Parameters<H extends Hyper> = Iterable<Tensor> | readonly ({ params: Iterable<Tensor> } & Partial<H>)[];

/** What tells optimisers apart. */
export interface Method<H extends Hyper> {
  readonly name: string;
  /** Hyper-parameters unless the user says otherwise. */
  readonly defaults: H;
  /** Throws for values out of range. */
  check(name: string, hyper: H): void;
  /** Bytes of the block, and how hyper-parameters get there; byte offsets are those of assembly/optimizer.ts. */
  readonly blockBytes: number;
  write(block: Block, hyper: H): void;
  /** Names of the state tensors of a parameter, two at most. */
  stateNames(hyper: H): readonly string[];
  /** Restarts the block at `steps` steps made. */
  restart(block: Block, hyper: H, steps: number): void;
  readonly stepsOffset: number;
  readonly advance: Kernel<OptimizerStepArgs>;
  readonly update: Kernel<OptimizerArgs>;
  /** Nanoseconds per element. */
  readonly cost: number;
}

/** f64 words at byte offsets, in linear memory. */
export interface Block {
  set(offset: number, value: number): void;
  get(offset: number): number;
}

/** State of one parameter: tensors by name, and the steps made. */
export type ParameterState = Record<string, Tensor | number>;

/** What `stateDict` returns; the state belongs to parameters by their number over all groups. Source: torch.optim.Optimizer.state_dict. */
export interface OptimizerState {
  readonly state: Readonly<Record<number, ParameterState>>;
  readonly paramGroups: readonly { readonly params: readonly number[] }[];
}

/** One group: its parameters, their state, and its block in linear memory. */
class Group<H extends Hyper> {
  readonly method: Method<H>;
  readonly params: readonly Tensor[];
  /** What users see: the hyper-parameters as properties. */
  readonly view: ParamGroup<H>;
  readonly states = new Map<Tensor, Tensor[]>();
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

  /** Takes other hyper-parameters, but not other state: that is fixed with the first step. */
  change(hyper: H): void {
    const { name, stateNames } = this.method;
    this.method.check(name, hyper);
    if (this.states.size && stateNames(hyper).length !== stateNames(this.#hyper).length)
      throw new RangeError(`${name}: momentum cannot be turned on or off after the first step`);
    this.#hyper = hyper;
    if (this.#block) this.method.write(this.block, hyper);
  }

  /** The block; made at the first use, since memory is only there after `init`. */
  get block(): Block {
    if (!this.#block) {
      this.#block = keep(allocateTensor([this.method.blockBytes / 4], 'f32'));
      this.method.restart(this.block, this.#hyper, 0);
      this.method.write(this.block, this.#hyper);
    }
    checkReadable(this.method.name, this.#block);
    const { storage } = this.#block;
    const word = (offset: number): number => (storage.address + offset) >>> 3;
    return {
      set(offset, value) {
        engine().memory.f64[word(offset)] = value;
      },
      get: (offset) => engine().memory.f64[word(offset)]!,
    };
  }

  /** Steps made. */
  get steps(): number {
    return this.#block ? this.block.get(this.method.stepsOffset) : 0;
  }

  /** The state tensors of a parameter, zero at first. */
  stateOf(parameter: Tensor): readonly Tensor[] {
    let state = this.states.get(parameter);
    if (!state) {
      state = this.method.stateNames(this.#hyper).map(() => zeroState(parameter));
      this.states.set(parameter, state);
    }
    return state;
  }

  /** The parameters that have a gradient, with it. */
  #trained(): [Tensor, Tensor][] {
    const pairs = this.params.map((parameter) => [parameter, gradientOf(parameter)] as const);
    return pairs.filter((pair): pair is [Tensor, Tensor] => pair[1] !== null);
  }

  prepare(): void {
    this.block.get(0);
    for (const [parameter] of this.#trained()) this.stateOf(parameter);
  }

  /** One op call: advance the block, then update every parameter that has a gradient. */
  step(): void {
    const trained = this.#trained();
    if (!trained.length) return;
    const states = trained.map(([parameter]) => this.states.get(parameter));
    if (!this.#block || states.some((state) => !state))
      throw new CaptureError(`${this.method.name}: call prepare() before a step is captured`);
    const tensors = trained.flatMap(([parameter, gradient], i) => [parameter, gradient, ...states[i]!]);
    apply(this.#updateOp(1 + tensors.length, states[0]!.length), [this.#block, ...tensors], null);
  }

  /** The op for this many inputs: the block, then per parameter itself, its gradient and its state. All but gradients change. */
  #updateOp(inputs: number, states: number): Op<null, null> {
    const mutates = Array.from({ length: inputs }, (_, i) => i).filter((i) => i === 0 || (i - 1) % (2 + states) !== 1);
    if (this.#op?.mutates?.length !== mutates.length) this.#op = updateOp(this.method, states, mutates);
    return this.#op;
  }
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
      const words: (number | TableAddress)[] = [];
      const per = 2 + states;
      let tiles = 0;
      let elements = 0;
      for (let i = 0; i < tensors.length; i += per) {
        const { size } = tensors[i]!;
        words.push(...entry(tensors.slice(i, i + per)), size, tiles);
        tiles += Math.ceil(size / OPTIMIZER_TILE);
        elements += size;
      }
      emit.command(method.advance, { block: locationOf(block!) }, { tiles: 1, work: 50 });
      emit.command(
        method.update,
        { entries: emit.table(words), count: tensors.length / per, block: locationOf(block!) },
        { tiles, work: elements * method.cost },
      );
    },
    backward: { notDifferentiable: 'an optimiser step ends the graph' },
    saves: {},
    mutates,
  };
}

/** The four addresses of a parameter's entry. */
function entry([parameter, gradient, ...states]: readonly Operand[]): TableAddress[] {
  return [
    tableAddress(locationOf(parameter!), 'update'),
    tableAddress(locationOf(gradient!), 'read'),
    ...[0, 1].map((i) => tableAddress(states[i] ? locationOf(states[i]) : NOWHERE, 'update')),
  ];
}

/** Optimiser over a list of parameters. Source: torch.optim.Optimizer. */
export abstract class Optimizer<H extends Hyper = Hyper> {
  /** The groups, with their hyper-parameters as properties that can be set. */
  readonly paramGroups: readonly ParamGroup<H>[];
  readonly #method: Method<H>;
  readonly #groups: readonly Group<H>[];

  constructor(method: Method<H>, params: Parameters<H>, options: Partial<H>) {
    checkOptions(method.name, options, Object.keys(method.defaults));
    this.#method = method;
    this.#groups = groupsOf(method, params).map(([tensors, own]) => {
      const hyper = { ...method.defaults, ...defined(options), ...defined(own) };
      return new Group(method, tensors, hyper);
    });
    checkParameters(method.name, this.parameters);
    this.paramGroups = this.#groups.map((group) => group.view);
  }

  /** All parameters, in the order of the groups. */
  get parameters(): readonly Tensor[] {
    return this.#groups.flatMap((group) => group.params);
  }

  /** Learning rate of the first group; setting it sets that of all groups. */
  get lr(): number {
    return this.paramGroups[0]!.lr;
  }

  set lr(value: number) {
    for (const group of this.#groups) group.change({ ...group.hyper, lr: value });
  }

  /** Makes the state of all parameters that have a gradient. `step` does it by itself unless a step is being captured. */
  prepare(): void {
    for (const group of this.#groups) group.prepare();
  }

  /** Updates every parameter that has a gradient. Source: torch.optim.Optimizer.step. */
  step(): void {
    if (!activeRecorder()) this.prepare();
    noGrad(() => {
      for (const group of this.#groups) group.step();
    });
  }

  /** Forgets all gradients; their buffers stay. Source: torch.optim.Optimizer.zero_grad. */
  zeroGrad(): void {
    if (activeRecorder())
      throw new CaptureError(
        'zeroGrad: a captured step starts without gradients by itself; call zeroGrad() outside of it',
      );
    for (const parameter of this.parameters) assignGradient(parameter, null);
  }

  /** The state of all parameters and the hyper-parameters. The tensors are the optimiser's own, not copies. */
  stateDict(): OptimizerState {
    const state: Record<number, ParameterState> = {};
    let first = 0;
    const paramGroups = this.#groups.map((group) => {
      const names = this.#method.stateNames(group.hyper);
      const params = group.params.map((_, i) => first + i);
      group.params.forEach((parameter, i) => {
        const tensors = group.states.get(parameter);
        if (!tensors) return;
        const named = names.map((name, k) => [name, tensors[k]!] as const);
        state[first + i] = { step: group.steps, ...Object.fromEntries(named) };
      });
      first += group.params.length;
      return { ...group.hyper, params };
    });
    return { state, paramGroups };
  }

  /**
   * Copies state and hyper-parameters in place. Source: torch.optim.Optimizer.load_state_dict.
   *
   * @throws RangeError if groups, parameters, names or shapes differ, or parameters of one group have made different numbers of steps
   */
  loadStateDict({ state, paramGroups }: OptimizerState): void {
    const { name } = this.#method;
    const counts = (groups: readonly { readonly params: readonly unknown[] }[]): string =>
      show(groups.map(({ params }) => params.length));
    if (counts(paramGroups) !== counts(this.#groups))
      throw new RangeError(
        `${name}: state for groups of ${counts(paramGroups)} parameters, this optimiser has groups of ${counts(this.#groups)}`,
      );
    this.#groups.forEach((group, i) => {
      const { params, ...hyper } = paramGroups[i]!;
      checkOptions(name, hyper, Object.keys(this.#method.defaults));
      group.change({ ...group.hyper, ...(hyper as Partial<H>) });
      loadGroup(
        group,
        params.map((number) => state[number]),
      );
    });
  }
}

function loadGroup<H extends Hyper>(group: Group<H>, states: readonly (ParameterState | undefined)[]): void {
  const { method, hyper } = group;
  const names = method.stateNames(hyper);
  let steps = 0;
  states.forEach((state, i) => {
    if (!state) return;
    const made = Number(state['step'] ?? 1);
    if (!Number.isInteger(made) || made < 0 || (steps && made !== steps))
      throw new RangeError(`${method.name}: parameter ${i} has made ${made} steps, others of its group ${steps}`);
    steps = made;
    const tensors = group.stateOf(group.params[i]!);
    names.forEach((name, k) => {
      const source = state[name];
      if (!(source instanceof Tensor))
        throw new RangeError(`${method.name}: state of parameter ${i} has no tensor '${name}'`);
      if (show(source.shape) !== show(tensors[k]!.shape))
        throw new RangeError(
          `${method.name}: '${name}' of parameter ${i} is ${show(source.shape)}, the parameter is ${show(tensors[k]!.shape)}`,
        );
      copy_(tensors[k]!, source);
    });
  });
  method.restart(group.block, hyper, steps);
}

/** Leaves out options that are undefined. */
function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function groupsOf<H extends Hyper>(method: Method<H>, params: Parameters<H>): [Tensor[], Partial<H>][] {
  if (typeof (params as Iterable<unknown> | null)?.[Symbol.iterator] !== 'function')
    throw new TypeError(`${method.name}: parameters must be a list of tensors or of groups, got ${typeof params}`);
  const list = [...params] as (Tensor | ({ params: Iterable<Tensor> } & Partial<H>))[];
  if (!list.length) throw new RangeError(`${method.name}: the list of parameters is empty`);
  if (list.every((each) => each instanceof Tensor)) return [[list as Tensor[], {}]];
  return list.map((each) => {
    if (each instanceof Tensor || typeof each?.params?.[Symbol.iterator] !== 'function')
      throw new TypeError(`${method.name}: expected a group { params: [...] }, got ${each}`);
    const { params: tensors, ...own } = each;
    checkOptions(method.name, own, Object.keys(method.defaults));
    return [[...tensors], own as unknown as Partial<H>];
  });
}

function checkParameters(name: string, parameters: readonly Tensor[]): void {
  const seen = new Set<Tensor>();
  parameters.forEach((parameter, i) => {
    if (!(parameter instanceof Tensor))
      throw new TypeError(`${name}: parameter ${i} must be a Tensor, got ${typeof parameter}`);
    if (!parameter.isLeaf)
      throw new RangeError(`${name}: parameter ${i}, ${parameter}, was made by an op; only leaves can be trained`);
    if (parameter.dtype !== 'f32') throw new TypeError(`${name}: parameter ${i} must be f32, got ${parameter.dtype}`);
    if (!isDense(parameter.shape, parameter.strides))
      throw new RangeError(`${name}: parameter ${i}, ${parameter}, is a view with gaps in memory`);
    if (seen.has(parameter)) throw new RangeError(`${name}: parameter ${i} appears twice`);
    seen.add(parameter);
  });
}

/** Throws RangeError unless a hyper-parameter is a finite number from `low` up to `high` (not included). */
export function checkHyper(op: string, name: string, value: unknown, low: number, high: number = Infinity): void {
  const range = high === Infinity ? `>= ${low}` : `from ${low} up to ${high}`;
  if (typeof value !== 'number') throw new TypeError(`${op}: ${name} must be a number, got ${typeof value}`);
  if (!(value >= low && value < high)) throw new RangeError(`${op}: ${name} must be a number ${range}, got ${value}`);
}

/** Throws TypeError unless a hyper-parameter is true or false. */
export function checkFlag(op: string, name: string, value: unknown): void {
  if (typeof value !== 'boolean') throw new TypeError(`${op}: ${name} must be true or false, got ${typeof value}`);
}
