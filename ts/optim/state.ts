// Saving and loading what optimisers remember. Source: torch.optim.Optimizer.state_dict.
import { noGrad } from '../autograd/mode.ts';
import { copy_, zero_ } from '../ops/copy.ts';
import { checkReadable } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import { item } from '../tensor/read.ts';
import { show } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import type { Group, Hyper } from './group.ts';

/** State of one parameter: tensors by name, and the steps it has made. */
export type ParameterState = Record<string, Tensor | number>;

/** What `stateDict` returns; the state belongs to parameters by their number over all groups. Parameters without a step have none. */
export interface OptimizerState {
  readonly state: Readonly<Record<number, ParameterState>>;
  readonly paramGroups: readonly { readonly params: readonly number[] }[];
}

/** The state of groups. The tensors are the optimiser's own. */
export function saveState<H extends Hyper>(groups: readonly Group<H>[]): OptimizerState {
  const state: Record<number, ParameterState> = {};
  let first = 0;
  const paramGroups = groups.map((group) => {
    const names = group.method.stateNames(group.hyper);
    const params = group.params.map((_, i) => first + i);
    group.params.forEach((parameter, i) => {
      const step = group.stepsOf(parameter);
      if (!step) return;
      const { tensors } = group.states.get(parameter)!;
      state[first + i] = { step, ...Object.fromEntries(names.map((name, k) => [name, tensors[k]!])) };
    });
    first += group.params.length;
    return { ...group.hyper, params };
  });
  return { state, paramGroups };
}

/** Copies state and hyper-parameters in place; parameters without an entry start anew. Checks all before it changes anything. */
export function loadState<H extends Hyper>(groups: readonly Group<H>[], saved: OptimizerState): void {
  const plans = planLoad(groups, saved);
  for (const { group, hyper } of plans) group.change(hyper);
  noGrad(() => {
    for (const { group, entries } of plans)
      for (const [i, parameter] of group.params.entries()) restore(group, parameter, entries[i]!);
  });
}

/** Steps and tensors of one parameter; null if it has not made a step. */
type Entry = { readonly steps: number; readonly tensors: readonly Tensor[] } | null;

interface Plan<H extends Hyper> {
  readonly group: Group<H>;
  readonly hyper: H;
  readonly entries: readonly Entry[];
}

function planLoad<H extends Hyper>(groups: readonly Group<H>[], { state, paramGroups }: OptimizerState): Plan<H>[] {
  const { name, defaults } = groups[0]!.method;
  if (!Array.isArray(paramGroups) || typeof state !== 'object' || state === null)
    throw new TypeError(`${name}: expected what stateDict() returns, an object with state and paramGroups`);
  const counts = (list: readonly { readonly params: readonly unknown[] }[]): string =>
    show(list.map(({ params }) => params.length));
  if (counts(paramGroups) !== counts(groups))
    throw new RangeError(
      `${name}: state for groups of ${counts(paramGroups)} parameters, this optimiser has groups of ${counts(groups)}`,
    );
  return groups.map((group, i) => {
    const { params, ...changed } = (paramGroups as OptimizerState['paramGroups'])[i]!;
    checkOptions(name, changed, Object.keys(defaults));
    const hyper = { ...group.hyper, ...(changed as Partial<H>) };
    group.checkChange(hyper);
    return { group, hyper, entries: params.map((number, k) => entryOf(group, hyper, k, state[number])) };
  });
}

/** The checked state of the i-th parameter of a group. */
function entryOf<H extends Hyper>(group: Group<H>, hyper: H, i: number, state: ParameterState | undefined): Entry {
  if (!state) return null;
  const { name, stateNames } = group.method;
  const { shape } = group.params[i]!;
  const tensors = stateNames(hyper).map((key) => {
    const source = state[key];
    if (!(source instanceof Tensor)) throw new RangeError(`${name}: state of parameter ${i} has no tensor '${key}'`);
    checkReadable(name, source);
    if (source.dtype !== 'f32') throw new TypeError(`${name}: '${key}' of parameter ${i} is ${source.dtype}, not f32`);
    if (show(source.shape) !== show(shape))
      throw new RangeError(
        `${name}: '${key}' of parameter ${i} is ${show(source.shape)}, the parameter is ${show(shape)}`,
      );
    return source;
  });
  return { steps: stepsIn(group, i, state), tensors };
}

function stepsIn<H extends Hyper>({ method }: Group<H>, i: number, { step }: ParameterState): number {
  const steps = step instanceof Tensor ? item(step) : (step ?? method.stepsUnsaid);
  if (steps === null) throw new RangeError(`${method.name}: state of parameter ${i} has no number 'step'`);
  if (!Number.isSafeInteger(steps) || steps < 0)
    throw new RangeError(
      `${method.name}: 'step' of parameter ${i} must be a whole number from 0 to 2^53 - 1, got ${steps}`,
    );
  return steps;
}

function restore<H extends Hyper>(group: Group<H>, parameter: Tensor, entry: Entry): void {
  if (!entry && !group.states.has(parameter)) return;
  const state = group.stateOf(parameter);
  state.tensors.forEach((tensor, k) => {
    if (entry) copy_(tensor, entry.tensors[k]!);
    else zero_(tensor);
  });
  group.setSteps(state, entry?.steps ?? 0);
}
