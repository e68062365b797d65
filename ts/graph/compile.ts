// compile: a model in evaluation mode becomes one program for one input shape.
import { noGrad } from '../autograd/mode.ts';
import { clone, contiguous } from '../ops/copy.ts';
import { checkReadable } from '../tensor/apply.ts';
import { checkFlag, checkOptions } from '../tensor/create.ts';
import type { DType } from '../tensor/dtype.ts';
import { printed } from '../tensor/printed.ts';
import { checkShape, contiguousStrides, show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Captured, capture, type InputSpec } from './capture.ts';
import { dropIdentities } from './passes/drop-identities.ts';
import type { Pass } from './passes/flow.ts';
import { foldBatchNorm } from './passes/fold-batch-norm.ts';
import { foldFlatten } from './passes/fold-flatten.ts';
import { fuseClamps } from './passes/fuse-clamps.ts';
import { fuseResiduals } from './passes/fuse-residuals.ts';
import { type Plan, planOf, type Timing } from './plan.ts';
import { type Profile, profileOf } from './profile.ts';
import { Program } from './program.ts';

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
}

/** A compiled model: call it with an input of its shape. */
export interface CompiledModel {
  (x: Tensor): Tensor;
  /** What it takes and does; with times once it was profiled. */
  readonly plan: Plan;
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
 * @throws RangeError from the returned function for another shape
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
  checkOptions('compile', options, ['input', 'dtype', 'releaseWeights', 'memory']);
  checkShape('compile', options.input);
  if (typeof model?.rememberModes !== 'function')
    throw new TypeError(`compile: expected a Module, got ${typeof model}; a function can be the forward of one`);
  const { input: shape, dtype = 'f32', memory = 'fast' } = options;
  if (memory !== 'fast' && memory !== 'small')
    throw new RangeError(`compile: memory is 'fast' or 'small', got ${printed(memory)}`);
  const settings = { releaseWeights: options.releaseWeights ?? memory === 'small' };
  checkFlag('compile', 'releaseWeights', settings.releaseWeights);
  const spec = { shape, dtype, strides: contiguousStrides(shape) };
  let { captured, program } = build(model, spec, settings);
  let timing: Timing | undefined;
  const input = (x: Tensor): Tensor => {
    checkReadable('compile', x);
    if (show(x.shape) !== show(shape) || x.dtype !== dtype)
      throw new RangeError(`compile: this program is for ${dtype} ${show(shape)}, got ${x.dtype} ${show(x.shape)}`);
    if (!program.disposed && !captured.hasSameParts()) {
      program.dispose();
      timing = undefined;
      ({ captured, program } = build(model, spec, settings));
    }
    return noGrad(() => contiguous(x));
  };
  const run = (x: Tensor): Tensor => program.run([input(x)])[0]!;
  const profile = (x: Tensor, runs = PROFILE_RUNS): Profile => {
    if (!Number.isInteger(runs) || runs < 1)
      throw new RangeError(`profile: runs must be a whole number >= 1, got ${printed(runs)}`);
    const inputs = [input(x)];
    const profiled = profileOf(program, inputs, runs);
    timing = profiled.timing;
    return profiled.profile;
  };
  return Object.defineProperty(Object.assign(run, { profile, dispose: () => program.dispose() }), 'plan', {
    get: () => planOf([program], timing),
  }) as CompiledModel;
}

const PROFILE_RUNS = 10;

/** What is done to the list of op calls, in this order: a convolution scales, then adds, then clamps. */
const PASSES: readonly Pass[] = [dropIdentities, foldFlatten, foldBatchNorm, fuseResiduals, fuseClamps];

/** Captures the model in evaluation mode and writes its program. */
function build(
  model: Compilable,
  spec: InputSpec,
  settings: { releaseWeights: boolean },
): { captured: Captured<Tensor>; program: Program } {
  const captured = inEvaluation(model, () => capture([spec], (x) => noGrad(() => ownResult(model.forward(x!), x!))));
  const outputs = [captured.result];
  const calls = PASSES.reduce((list, pass) => pass(list, outputs), captured.calls);
  const program = new Program(calls, captured.inputs, outputs, { hoist: true, ...settings });
  return { captured, program };
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
