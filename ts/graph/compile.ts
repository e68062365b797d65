// compile: a model in evaluation mode becomes one program for one input shape.
import { noGrad } from '../autograd/mode.ts';
import { clone, contiguous } from '../ops/copy.ts';
import { checkReadable } from '../tensor/apply.ts';
import { checkFlag, checkOptions } from '../tensor/create.ts';
import type { DType } from '../tensor/dtype.ts';
import { printed } from '../tensor/printed.ts';
import { checkShape, contiguousStrides, sameShape, show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Captured, capture, type InputSpec } from './capture.ts';
import type { Algorithms } from './choose-algorithms.ts';
import { Inference, type InferencePlan, type InferenceSettings } from './inference.ts';
import type { Profile } from './profile.ts';

/** What compile needs of a model. */
export interface Compilable {
  forward(x: Tensor): Tensor;
  eval(): unknown;
  /** Notes the mode of all modules; what it returns puts each back. */
  rememberModes(): () => void;
}

/** Options of `compile`. */
export interface CompileOptions {
  /** Shape of the input. */
  input: readonly number[];
  /** Element type of the input; default f32. */
  dtype?: DType | undefined;
  /** Gives the memory of the parameters back once they are packed: what reads them afterwards throws. Default false. */
  releaseWeights?: boolean | undefined;
  /**
   * `'small'`: as little memory as possible; weights are packed layer by layer, released at once, and never expanded. Linear memory
   * then stays below the weights and 16 MB, if they had no memory before (parameters get theirs at their first use). Default `'fast'`.
   */
  memory?: 'fast' | 'small' | undefined;
  /** Whether convolutions may be computed by Winograd's algorithm, where it is exact enough. Default true. */
  winograd?: boolean | undefined;
  /** Algorithms by layer, `plan.algorithms` of an earlier program: these are not measured again. */
  algorithms?: Algorithms | undefined;
}

/** A compiled model: call it with an input of its shape. */
export interface CompiledModel {
  (x: Tensor): Tensor;
  /** What it takes and does; with times once it was profiled. */
  readonly plan: InferencePlan;
  /** Runs it some times (default 10) and says where the time goes: `String(run.profile(x))`, `run.profile(x).trace()`. */
  profile(x: Tensor, runs?: number): Profile;
  /** Gives its memory back; the model's parameters stay. */
  dispose(): void;
}

/**
 * Compiles a model for inference: captured once in evaluation mode, bias and clamp fused into convolutions and dense layers,
 * weights packed once (again after they change; a replaced layer is captured anew), buffers placed by lifetime, then replayed by one call into wasm per input.
 *
 * @param options `input`: the shape the program is for, batch included
 * @returns a function from a tensor of that shape to a fresh tensor
 * @throws RangeError for an algorithm that does not apply, and from the returned function for another shape
 * @example
 * ```ts
 * import { compile, init, zeros } from 'feathermap';
 * import { lenet } from 'feathermap/models';
 * await init();
 * const run = compile(lenet(), { input: [1, 1, 28, 28] });
 * if (run(zeros([1, 1, 28, 28])).shape.join() !== '1,10') throw new Error('wrong');
 * console.log(String(run.plan));   // a table: layer, algorithm, shapes, bytes, multiply-adds
 * run.dispose();
 * ```
 */
export function compile(model: Compilable, options: CompileOptions): CompiledModel {
  const { spec, settings } = checkedOptions(options);
  if (typeof model?.rememberModes !== 'function')
    throw new TypeError(`compile: expected a Module, got ${typeof model}; a function can be the forward of one`);
  const { shape, dtype, strides } = spec;
  let built = build(model, spec, settings);
  const input = (x: Tensor): Tensor => {
    checkReadable('compile', x);
    if (!sameShape(x.shape, shape) || x.dtype !== dtype)
      throw new RangeError(`compile: this program is for ${dtype} ${show(shape)}, got ${x.dtype} ${show(x.shape)}`);
    if (!built.inference.program.disposed && !built.captured.hasSameParts()) {
      built.inference.program.dispose();
      built = build(model, spec, settings);
    }
    return sameShape(x.strides, strides) ? x : noGrad(() => contiguous(x));
  };
  const run = (x: Tensor): Tensor => {
    const inputs = [input(x)];
    return built.inference.program.run(inputs)[0]!;
  };
  const profile = (x: Tensor, runs = PROFILE_RUNS): Profile => {
    if (!Number.isInteger(runs) || runs < 1)
      throw new RangeError(`profile: runs must be a whole number >= 1, got ${printed(runs)}`);
    const inputs = [input(x)];
    return built.inference.profile(inputs, runs);
  };
  const dispose = (): void => built.inference.program.dispose();
  return Object.defineProperty(Object.assign(run, { profile, dispose }), 'plan', {
    get: () => built.inference.plan,
  }) as CompiledModel;
}

const PROFILE_RUNS = 10;
const OPTIONS = ['input', 'dtype', 'releaseWeights', 'memory', 'winograd', 'algorithms'];

function checkedOptions(options: CompileOptions): { spec: InputSpec; settings: InferenceSettings } {
  if (options === undefined) throw new TypeError('compile: options are missing; write { input: [1, 3, 224, 224] }');
  checkOptions('compile', options, OPTIONS);
  checkShape('compile', options.input);
  const { input: shape, dtype = 'f32', memory = 'fast', winograd = true, algorithms = {} } = options;
  if (memory !== 'fast' && memory !== 'small')
    throw new RangeError(`compile: memory is 'fast' or 'small', got ${printed(memory)}`);
  if (typeof algorithms !== 'object' || algorithms === null)
    throw new TypeError(`compile: algorithms is an object by layer, got ${printed(algorithms)}`);
  const fast = memory === 'fast';
  const { releaseWeights = !fast } = options;
  checkFlag('compile', 'releaseWeights', releaseWeights);
  checkFlag('compile', 'winograd', winograd);
  const settings = { releaseWeights, algorithms, winograd: winograd && fast, measure: fast };
  return { spec: { shape, dtype, strides: contiguousStrides(shape) }, settings };
}

/** Captures the model in evaluation mode and writes its program. */
function build(
  model: Compilable,
  spec: InputSpec,
  settings: InferenceSettings,
): { captured: Captured<Tensor>; inference: Inference } {
  const captured = inEvaluation(model, () => capture([spec], (x) => noGrad(() => ownResult(model.forward(x!), x!))));
  const inference = new Inference(captured.calls, captured.inputs, [captured.result], settings);
  return { captured, inference };
}

/** A result that is a view of the input or of a parameter is copied: what a compiled model returns belongs to the caller. */
function ownResult(result: Tensor, x: Tensor): Tensor {
  checkReadable('compile', result);
  return result.storage === x.storage || result.storage.state !== 'planned' ? clone(result) : result;
}

function inEvaluation<T>(model: Compilable, callback: () => T): T {
  const restore = model.rememberModes();
  model.eval();
  try {
    return callback();
  } finally {
    restore();
  }
}
