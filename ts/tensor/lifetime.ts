// When memory goes back, without anyone asking for it.
//
// The heap cannot know when a JavaScript variable dies, and finalizers do not run inside a synchronous loop. But training has
// a rhythm: what one backward() over some parameters used up is not needed once the *next* backward() over the same
// parameters has ended. So each storage made since the last backward() is noted, and at its end filed under the set of
// parameters reached; filing the next step under the same set releases the step before. Exempt are: persistent storages, whatever
// the running step has used again, tensors that existed before the first step over these parameters, and the user's own
// tensors that no graph read. `scope` releases earlier; a finalizer is the net below all.
import { engine, whenShutDown } from '../runtime/engine.ts';
import type { Heap } from '../runtime/heap.ts';
import type { Storage } from '../runtime/storage.ts';
import type { Tensor } from './tensor.ts';

/** Steps over other parameters that may lie between two over the same ones before the older is released anyway. */
const MAX_STEPS_KEPT = 16;
/** Tensors and bytes that a training step may make before the finalizer gets a chance at them. */
const MAX_FRESH = 65536;
const MAX_FRESH_BYTES = 2 ** 30;

let step = 1;
let ended = false;
let walking = false;
/** Made since the last step. Strong while training, where it is emptied at every step; a WeakRef would keep its target anyway until the job ends. */
let fresh: Storage[] = [];
let freshBytes = 0;
/** The same outside of training, and what became too much: the finalizer may take these. */
let weak: WeakRef<Storage>[] = [];
let compactAt = 4096;
let scopes: Set<Storage>[] = [];
/** Storages of the last step over each set of parameters, oldest first. */
let steps = new Map<string, Storage[]>();
let finalizers = makeFinalizers();

function makeFinalizers(): FinalizationRegistry<{ heap: Heap; address: number }> {
  return new FinalizationRegistry(({ heap, address }) => {
    heap.free(address);
  });
}

function registerFinalizer(storage: Storage): void {
  if (storage.watched) return;
  storage.watched = true;
  finalizers.register(storage, { heap: engine().heap, address: storage.address }, storage);
}

/** Number of the running step. What is read after a backward() and before the next recorded call still belongs to its step. */
export function currentStep(): number {
  return step;
}

/** Notes that a call on the tape reads a storage; the first one after a backward() begins the next step. */
export function useInGraph(storage: Storage): void {
  if (ended) step++;
  ended = false;
  storage.readByGraph = true;
  storage.usedAt = step;
}

/** Runs a backward pass: what it makes belongs to the step. */
export function duringBackward(callback: () => void): void {
  const before = walking;
  walking = true;
  try {
    callback();
  } finally {
    walking = before;
  }
}

/** Notes a storage that has just got its memory. */
export function track(storage: Storage): void {
  storage.usedAt = step;
  if (walking) storage.inGraph = true;
  const scope = scopes.at(-1);
  if (!scope) watch(storage);
  else {
    scope.add(storage);
    // A scope holds what was made in it; only a training loop inside it releases earlier.
    if (steps.size) note(storage);
  }
}

/** Hands a persistent storage over to the running step: it goes when the next one has ended, like what the graph made. */
export function handOver(storage: Storage): void {
  storage.persistent = storage.kept;
  storage.inGraph = true;
  track(storage);
}

/** Leaves a storage to the end of the step and to the finalizer. */
function watch(storage: Storage): void {
  registerFinalizer(storage);
  note(storage);
}

function note(storage: Storage): void {
  fresh.push(storage);
  freshBytes += storage.bytes;
  if (steps.size === 0 || fresh.length > MAX_FRESH || freshBytes > MAX_FRESH_BYTES) weaken();
}

/** Lets go of what is noted, but for weak references. */
function weaken(): void {
  for (const storage of fresh) weak.push(new WeakRef(storage));
  fresh = [];
  freshBytes = 0;
  if (weak.length < compactAt) return;
  weak = weak.filter((reference) => reference.deref()?.state === 'live');
  compactAt = Math.max(4096, 2 * weak.length);
}

/** Gives a lazy storage its memory and contents. If that fails it is as lazy as before. */
export function materialise(storage: Storage): void {
  if (storage.state !== 'lazy') return;
  const { initialise } = storage;
  engine().allocate(storage);
  storage.initialise = null;
  try {
    initialise?.();
  } catch (error) {
    engine().heap.free(storage.address);
    storage.address = 0;
    storage.state = 'lazy';
    storage.initialise = initialise;
    throw error;
  }
  registerFinalizer(storage);
}

/** Gives the memory of a storage back until it is used again. What it held is lost. */
export function retire(storage: Storage): void {
  if (storage.state !== 'live') return;
  if (storage.watched) finalizers.unregister(storage);
  storage.watched = false;
  engine().heap.free(storage.address);
  storage.address = 0;
  storage.state = 'lazy';
}

/** Gives the memory of a storage back. `by` completes the sentence "this tensor was ..." for later readers. */
export function discard(storage: Storage, by: string): void {
  if (storage.state === 'live' && storage.owner === engine()) {
    if (storage.watched) finalizers.unregister(storage);
    engine().heap.free(storage.address);
  }
  storage.state = 'released';
  storage.releasedBy = by;
  storage.address = 0;
  storage.initialise = null;
}

/** Discards a storage unless it is persistent, named by a program, or gone already. */
export function release(storage: Storage, by: string): void {
  if (releasable(storage)) discard(storage, by);
}

/** Whether automatic release may take it. */
function releasable(storage: Storage): boolean {
  return storage.state === 'live' && !storage.persistent && storage.pins === 0;
}

const SCOPE_OVER =
  'released at the end of the scope (or noGrad forward) that made it; return it from there or keep() it';
const STEP_OVER =
  'released when the next backward() ended, since nothing had used it in that step; keep(tensor) makes it stay, item() or data() takes its value out';

/**
 * Ends a step: `key` names the parameters that its backward reached. Releases what the step before over the same parameters
 * left and this one did not use. With `retain` nothing is released, because the graph may be walked again.
 */
export function endStep(key: string, retain: boolean): void {
  if (ended) step++;
  const before = steps.get(key);
  const mine = claimFresh(before !== undefined);
  for (const storage of before ?? []) {
    if (retain || storage.usedAt === step) mine.push(storage);
    else release(storage, STEP_OVER);
  }
  steps.delete(key);
  steps.set(key, mine);
  for (const [oldest, storages] of steps) {
    if (steps.size <= MAX_STEPS_KEPT) break;
    steps.delete(oldest);
    for (const storage of storages) {
      if (storage.usedAt === step) mine.push(storage);
      else release(storage, STEP_OVER);
    }
  }
  ended = true;
}

/** Takes what was made since the last step and belongs to this one. */
function claimFresh(again: boolean): Storage[] {
  const mine: Storage[] = [];
  for (const storage of [...weak.map((reference) => reference.deref()), ...fresh]) {
    if (!storage || !releasable(storage)) continue;
    // Before the first step over these parameters people prepare data; only what the graph made is the step's.
    if (storage.inGraph || (again && (storage.computed || storage.readByGraph))) mine.push(storage);
  }
  fresh = [];
  weak = [];
  freshBytes = 0;
  return mine;
}

/**
 * Marks tensors as persistent, so that neither the end of a step nor a scope releases them. Takes a tensor, or arrays and
 * objects of them such as a state dict, and returns its argument.
 *
 * @example
 * ```ts
 * import { init, keep, scope, tensor } from 'feathermap';
 * await init();
 * const kept = scope(() => ({ sum: keep(tensor([1, 2]).sum()) }));
 * if (kept.sum.item() !== 3) throw new Error('gone');
 * ```
 */
export function keep<T>(value: T): T {
  let found = false;
  for (const { storage } of tensorsIn(value)) found = storage.persistent = storage.kept = true;
  if (!found) throw new TypeError(`keep: expected a tensor, or arrays and objects of them, got ${typeof value}`);
  return value;
}

/** All tensors in a value: itself, in arrays, in plain objects. */
function* tensorsIn(value: unknown, depth = 0): Generator<Tensor> {
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value) || depth > 4) return;
  if ('storage' in value && 'strides' in value) yield value as Tensor;
  else for (const inner of Object.values(value)) yield* tensorsIn(inner, depth + 1);
}

/**
 * Runs `callback` and releases every tensor made inside it except what it returns (a tensor, or arrays and objects of them),
 * what `keep` was called on, and parameters. The callback must be synchronous.
 *
 * @throws TypeError if the callback returns a promise (its tensors are kept, so nothing is lost)
 * @example
 * ```ts
 * import { init, scope, tensor } from 'feathermap';
 * await init();
 * const y = scope(() => tensor([1, 2]).add(1).mul(2));   // the intermediate sum is gone
 * if (y.data()[1] !== 6) throw new Error('wrong');
 * ```
 */
export function scope<T>(callback: () => T): T {
  const made = new Set<Storage>();
  const depth = scopes.push(made);
  let result: T;
  try {
    result = callback();
  } catch (error) {
    closeScope(made, depth, []);
    throw error;
  }
  if (typeof (result as { then?: unknown } | null)?.then === 'function') {
    closeScope(made, depth, made);
    throw new TypeError(
      'scope: the callback returned a promise; a scope ends when its callback returns, so it must be synchronous',
    );
  }
  const kept = new Set<Storage>();
  for (const tensor of tensorsIn(result)) kept.add(tensor.storage);
  closeScope(made, depth, kept);
  return result;
}

function closeScope(made: Set<Storage>, depth: number, kept: Iterable<Storage>): void {
  scopes.length = depth - 1;
  const outer = scopes.at(-1);
  const survivors = new Set(kept);
  for (const storage of made) {
    if (!survivors.has(storage)) release(storage, SCOPE_OVER);
    if (storage.state !== 'live') continue;
    if (outer) outer.add(storage);
    else watch(storage);
  }
}

whenShutDown(() => {
  step = 1;
  ended = walking = false;
  fresh = [];
  weak = [];
  freshBytes = 0;
  scopes = [];
  steps = new Map();
  finalizers = makeFinalizers();
});
