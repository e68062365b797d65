// What optimisers share: the lists and groups of parameters, their checks, and what users call.
import { assignGradient } from '../autograd/gradient.ts';
import { noGrad } from '../autograd/mode.ts';
import { CaptureError } from '../runtime/errors.ts';
import { activeRecorder } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import { isDense } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { Group, type Hyper, type Method, type ParamGroup } from './group.ts';
import { loadState, type OptimizerState, saveState } from './state.ts';

/** Parameters to train: one list, or groups with hyper-parameters of their own. */
export type Parameters<H extends Hyper> = Iterable<Tensor> | readonly ({ params: Iterable<Tensor> } & Partial<H>)[];

/** Optimiser over a list of parameters. Source: torch.optim.Optimizer. */
export abstract class Optimizer<H extends Hyper = Hyper> {
  /** The groups, with their hyper-parameters as properties that can be set. */
  readonly paramGroups: readonly ParamGroup<H>[];
  readonly #groups: readonly Group<H>[];

  constructor(method: Method<H>, params: Parameters<H>, options: Partial<H>) {
    checkOptions(method.name, options, Object.keys(method.defaults));
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
    return saveState(this.#groups);
  }

  /**
   * Copies state and hyper-parameters in place; what the state has no entry for starts anew. All is checked first: on an error
   * nothing has changed. Source: torch.optim.Optimizer.load_state_dict.
   *
   * @throws RangeError if groups, parameters, names or shapes differ, or for hyper-parameters and steps out of range
   */
  loadStateDict(state: OptimizerState): void {
    loadState(this.#groups, state);
  }
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

/** Throws unless a hyper-parameter is a finite number from `low` up to `high` (not included). */
export function checkHyper(op: string, name: string, value: unknown, low: number, high: number = Infinity): void {
  if (value === undefined) throw new TypeError(`${op}: ${name} is required`);
  if (typeof value !== 'number') throw new TypeError(`${op}: ${name} must be a number, got ${typeof value}`);
  if (value >= low && value < high && value !== -Infinity) return;
  const range = low === -Infinity ? '' : high === Infinity ? ` >= ${low}` : ` from ${low} up to ${high}`;
  throw new RangeError(`${op}: ${name} must be a number${range}, got ${value}`);
}
