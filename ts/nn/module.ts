// Module: the base of layers and models. Parameters, buffers and children are its properties, in the order they were assigned.
import { isGradEnabled, noGrad } from '../autograd/mode.ts';
import { noteModule } from '../graph/capture.ts';
import { copy_ } from '../ops/copy.ts';
import { checkReadable, setModulePath } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import { startWith } from '../tensor/lazy.ts';
import { scope } from '../tensor/lifetime.ts';
import { printed } from '../tensor/printed.ts';
import { show } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { Parameter, skipInitialisation } from './parameter.ts';

/** Tensors by name: `features.0.weight`. The order is the model's. */
export type StateDict = Record<string, Tensor>;

/** What `loadStateDict` found; empty lists when everything fitted. */
export interface LoadResult {
  missingKeys: string[];
  unexpectedKeys: string[];
}

/** Modules whose forward is running, outermost first. */
const running: Module[] = [];
const named = new WeakSet<Error>();
/** Modules inside whose `toString` we are: a child may hold its parent. */
const printing = new Set<Module>();

setModulePath(() => pathOf(running));

/** Dotted path of the innermost module as seen from the outermost. */
function pathOf(stack: readonly Module[]): string {
  const names: string[] = [];
  for (let i = 1; i < stack.length; i++) {
    const name = nameWithin(stack[i - 1]!, stack[i]!);
    if (name) names.push(name);
  }
  return names.join('.') || (stack[0]?.constructor.name ?? '');
}

function nameWithin(parent: Module, child: Module): string {
  for (const [name, module] of parent.namedModules()) if (module === child) return name;
  return '';
}

/** Adds the module's path to an error that passes through its forward. */
function nameError(error: unknown): void {
  if (!(error instanceof Error) || named.has(error)) return;
  named.add(error);
  const path = pathOf(running);
  if (path && !error.message.includes(`(in ${path})`)) error.message += ` (in ${path})`;
}

/** Runs a forward with the module on the stack; with gradients off, what it made is released except its result. */
function call(module: Module, forward: (...inputs: never[]) => unknown, inputs: unknown[]): unknown {
  noteModule(module);
  running.push(module);
  try {
    const run = (): unknown => forward.apply(module, inputs as never[]);
    return isGradEnabled() || running.length > 1 ? run() : scope(run);
  } catch (error) {
    nameError(error);
    throw error;
  } finally {
    running.pop();
  }
}

/**
 * Base of all layers and models. Assign parameters (`new Parameter(tensor)`, `Parameter.lazy(shape, initialise)`) and other modules
 * to properties, hand other state to `registerBuffer`, and write `forward`; the rest follows. Source: torch.nn.Module.
 *
 * @example
 * ```ts
 * import { init, nn, zeros } from 'feathermap';
 * await init();
 * class Twice extends nn.Module {
 *   inner = new nn.Linear(3, 3);
 *   forward(x) { return this.inner.forward(this.inner.forward(x)); }
 * }
 * const net = new Twice();
 * if (net.parameters().length !== 2 || net.forward(zeros([1, 3])).shape[1] !== 3) throw new Error('wrong');
 * ```
 */
export abstract class Module {
  /** Whether dropout drops and running statistics move. Set by `train()` and `eval()`. */
  training = true;
  readonly #buffers = new Map<string, Tensor>();
  /** Buffers that a state dict may lack. */
  readonly #optional = new Set<string>();

  constructor() {
    const forward = this.forward as (...inputs: never[]) => unknown;
    Object.defineProperty(this, 'forward', {
      value: (...inputs: unknown[]) => call(this, forward, inputs),
      enumerable: false,
      configurable: true,
      writable: true,
    });
  }

  /** Computes the output. */
  abstract forward(...inputs: Tensor[]): Tensor;

  /** What `toString` shows in the brackets. */
  extraRepr(): string {
    return '';
  }

  /**
   * Adds a tensor that belongs to the state but is not trained, and returns it. It has its name in the state dict, `running_mean`, and
   * is the property of that name in camelCase, `this.runningMean`, which can be set to another tensor.
   * With `optional` a state dict may be loaded that lacks it. Source: torch.nn.Module.register_buffer.
   *
   * @throws TypeError unless it is a tensor, RangeError for a name with a dot or one that the module uses for something else
   */
  registerBuffer(name: string, tensor: Tensor, options: { optional?: boolean } = {}): Tensor {
    checkOptions('registerBuffer', options, ['optional']);
    const property = camelCase(name);
    if (typeof name !== 'string' || !name || name.includes('.'))
      throw new RangeError(`registerBuffer: expected a name without dots, got ${printed(name)}`);
    if (!this.#buffers.has(name) && (this as Record<string, unknown>)[property] !== undefined)
      throw new RangeError(`registerBuffer: '${name}' would hide the property ${property}`);
    this.#setBuffer(name, tensor);
    if (options.optional) this.#optional.add(name);
    Object.defineProperty(this, property, {
      get: () => this.#buffers.get(name),
      set: (value: Tensor) => this.#setBuffer(name, value),
      enumerable: true,
      configurable: true,
    });
    return tensor;
  }

  #setBuffer(name: string, tensor: Tensor): void {
    checkReadable('registerBuffer', tensor);
    tensor.storage.persistent = true;
    this.#buffers.set(name, tensor);
  }

  /** @internal Its own parameters and direct children, for whoever must notice that one was replaced. */
  parts(): unknown[] {
    const parts: unknown[] = [];
    for (const value of Object.values(this))
      if (value instanceof Module || value instanceof Parameter) parts.push(value);
      else if (Array.isArray(value)) parts.push(...value.filter((entry) => entry instanceof Module));
    return parts;
  }

  /** The modules that are properties of this one, and those in arrays that are: `layers.0`, as in PyTorch's ModuleList. */
  *namedChildren(): Generator<[string, Module]> {
    for (const [name, value] of Object.entries(this))
      if (value instanceof Module) yield [name, value];
      else if (Array.isArray(value))
        for (const [i, entry] of value.entries()) if (entry instanceof Module) yield [`${name}.${i}`, entry];
  }

  /** This module under `''` and everything below it by dotted path; what is shared, under its first path alone. */
  *namedModules(prefix = '', seen: Set<Module> = new Set()): Generator<[string, Module]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) yield* child.namedModules(join(prefix, name), seen);
  }

  /** All parameters by dotted path; what is shared, once. */
  *namedParameters(): Generator<[string, Parameter]> {
    const seen = new Set<Parameter>();
    for (const [name, value] of this.#namedState())
      if (value instanceof Parameter && !seen.has(value)) {
        seen.add(value);
        yield [name, value];
      }
  }

  /** All buffers by dotted path. */
  *namedBuffers(): Generator<[string, Tensor]> {
    for (const [path, module] of this.namedModules())
      for (const [name, value] of module.#buffers) yield [join(path, name), value];
  }

  /** Paths of the buffers that a state dict may lack. */
  #optionalBuffers(): Set<string> {
    const paths = new Set<string>();
    for (const [path, module] of this.namedModules()) for (const name of module.#optional) paths.add(join(path, name));
    return paths;
  }

  /** All parameters, in the order of the state dict. */
  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /** Training mode for this module and all below; `train(false)` is `eval()`. */
  train(mode = true): this {
    for (const [, module] of this.namedModules()) module.training = mode;
    return this;
  }

  /** Evaluation mode: dropout off, running statistics used and left alone. */
  eval(): this {
    return this.train(false);
  }

  /** Notes the mode of this module and of each below; what it returns puts every one back. */
  rememberModes(): () => void {
    const modes = [...this.namedModules()].map(([, module]) => [module, module.training] as const);
    return () => {
      for (const [module, training] of modes) module.training = training;
    };
  }

  /** Sets `requiresGrad` of all parameters: `requiresGrad_(false)` freezes. */
  requiresGrad_(value = true): this {
    for (const parameter of this.parameters()) parameter.requiresGrad = value;
    return this;
  }

  /** Forgets the gradients of all parameters. */
  zeroGrad(): void {
    for (const parameter of this.parameters()) parameter.grad = null;
  }

  /** Parameters and buffers by name: per module its parameters, then its buffers, then its children. They share memory with the model. */
  stateDict(): StateDict {
    const state: StateDict = {};
    for (const [name, tensor] of this.#namedState()) state[name] = tensor.detach();
    return state;
  }

  /** A shared module or parameter has all its names here, as in PyTorch's files; a module inside itself, only the first. */
  *#namedState(prefix = '', above: readonly Module[] = []): Generator<[string, Tensor]> {
    for (const [name, value] of Object.entries(this)) if (value instanceof Parameter) yield [join(prefix, name), value];
    for (const [name, value] of this.#buffers) yield [join(prefix, name), value];
    const path = [...above, this];
    for (const [name, child] of this.namedChildren())
      if (!path.includes(child)) yield* child.#namedState(join(prefix, name), path);
  }

  /**
   * Copies values into parameters and buffers, in place. All keys and shapes are checked first: on an error nothing has changed.
   *
   * @throws Error with `strict` (the default) for missing or unexpected keys; RangeError for shapes that differ
   */
  loadStateDict(state: StateDict, options: { strict?: boolean } = {}): LoadResult {
    checkOptions('loadStateDict', options, ['strict']);
    if (typeof state !== 'object' || state === null)
      throw new TypeError(`loadStateDict: expected an object of tensors by name, got ${printed(state)}`);
    const own = new Map(this.#namedState());
    const optional = this.#optionalBuffers();
    const missingKeys = [...own.keys()].filter((name) => !(name in state) && !optional.has(name));
    const unexpectedKeys = Object.keys(state).filter((name) => !own.has(name));
    if ((options.strict ?? true) && missingKeys.length + unexpectedKeys.length)
      throw new Error(
        `loadStateDict: ${listed('missing', missingKeys)}${missingKeys.length && unexpectedKeys.length ? '; ' : ''}${listed('unexpected', unexpectedKeys)}`,
      );
    const pairs = [...own]
      .filter(([name]) => name in state)
      .map(([name, target]) => ({ name, target, source: state[name]! }));
    for (const { name, target, source } of pairs) checkFits(name, target, source);
    noGrad(() => {
      for (const { target, source } of pairs) {
        if (startWith(target, source)) continue;
        if (source.storage !== target.storage) skipInitialisation(target);
        copy_(target, source);
      }
    });
    return { missingKeys, unexpectedKeys };
  }

  /** The model as a tree of layers. */
  toString(): string {
    const { name: kind } = this.constructor;
    if (printing.has(this)) return `${kind}(...)`;
    printing.add(this);
    try {
      const children = [...this.namedChildren()].map(
        ([name, child]) => `  (${name}): ${String(child).replaceAll('\n', '\n  ')}\n`,
      );
      return `${kind}(${children.length ? `\n${children.join('')}` : this.extraRepr()})`;
    } finally {
      printing.delete(this);
    }
  }
}

/** `running_mean` as `runningMean`. */
function camelCase(name: string): string {
  return String(name).replace(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function join(path: string, name: string): string {
  return path ? `${path}.${name}` : name;
}

function listed(kind: string, names: readonly string[]): string {
  if (!names.length) return '';
  const more = names.length > 8 ? ` and ${names.length - 8} more` : '';
  return `${kind} keys ${names
    .slice(0, 8)
    .map((name) => `'${name}'`)
    .join(', ')}${more}`;
}

function checkFits(name: string, target: Tensor, source: unknown): void {
  if (!(source instanceof Tensor)) throw new TypeError(`loadStateDict: '${name}' is not a Tensor`);
  checkReadable('loadStateDict', source);
  if (show(source.shape) !== show(target.shape))
    throw new RangeError(
      `loadStateDict: '${name}' has shape ${show(source.shape)}, the model expects ${show(target.shape)}`,
    );
}
