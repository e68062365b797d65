// Parameters: leaf tensors that are trained. Those of layers get memory and first values when they are first used.
import { noGrad } from '../autograd/mode.ts';
import { fill_ } from '../ops/copy.ts';
import { fillNormal, fillUniform, type Reservation, reserveRandom } from '../ops/random.ts';
import { Storage } from '../runtime/storage.ts';
import { activeRecorder, checkReadable, setRecorder } from '../tensor/apply.ts';
import { channelsLastStrides, checkShape, contiguousStrides, sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

/** Fills a fresh parameter. `random` are its own numbers of the random sequence, taken when the parameter was declared. */
export type Initialiser = (parameter: Parameter, random: Reservation) => unknown;

/**
 * A tensor that a module trains: it shares the memory of `values`, requires a gradient, and is a leaf, whatever made them.
 * Source: torch.nn.Parameter.
 *
 * @throws TypeError unless `values` is an f32 tensor
 * @example
 * ```ts
 * import { init, nn, ones } from 'feathermap';
 * await init();
 * class Scale extends nn.Module {
 *   factor = new nn.Parameter(ones([2]));
 *   forward(x) { return x.mul(this.factor); }
 * }
 * if (new Scale().parameters().length !== 1) throw new Error('wrong');
 * ```
 */
export class Parameter extends Tensor {
  /** Its own numbers of the random sequence, if it was made by `lazy`. */
  #random: Reservation | null = null;

  constructor(values: Tensor) {
    checkReadable('Parameter', values);
    super(values);
    this.storage.persistent = true;
    this.requiresGrad = true;
  }

  /**
   * A parameter without memory, which `initialise` fills at its first use: a large model can be counted or loaded without drawing
   * its random numbers. Four-dimensional ones are stored channels-last.
   *
   * @throws RangeError or TypeError for a bad shape
   * @example
   * ```ts
   * import { init, nn } from 'feathermap';
   * await init();
   * const p = nn.Parameter.lazy([2, 3], (parameter) => { nn.init.ones_(parameter); });
   * if (p.sum().item() !== 6) throw new Error('wrong');
   * ```
   */
  static lazy(shape: readonly number[], initialise: Initialiser): Parameter {
    checkShape('Parameter.lazy', shape);
    const storage = new Storage(4 * sizeOf(shape));
    storage.state = 'lazy';
    const strides = shape.length === 4 ? channelsLastStrides(shape) : contiguousStrides(shape);
    const parameter = new Parameter(new Tensor({ storage, shape: [...shape], dtype: 'f32', strides }));
    parameter.#random = reserveRandom(sizeOf(shape));
    return parameter.initialiseBy(initialise);
  }

  /**
   * Replaces the first values of a parameter made by `lazy`, before anything has used it: a model may choose other ones than its
   * layers do. The random numbers stay those that were set aside for it.
   *
   * @throws Error if the parameter has its values already; the functions of `nn.init` overwrite those
   */
  initialiseBy(initialise: Initialiser): this {
    const random = this.#random;
    if (!random || this.storage.state !== 'lazy')
      throw new Error(`initialiseBy: ${this} has its values already; use nn.init to overwrite them`);
    this.storage.initialise = () => outsideCapture(() => initialise(this, random));
    return this;
  }
}

/** First use may happen while a step is captured; the values must be real all the same. */
function outsideCapture(callback: () => unknown): void {
  const recorder = activeRecorder();
  setRecorder(null);
  try {
    noGrad(callback);
  } finally {
    setRecorder(recorder);
  }
}

/** For whoever overwrites a parameter as a whole: its random numbers need not be drawn. */
export function skipInitialisation({ size, storage }: Tensor): void {
  if (4 * size === storage.bytes) storage.initialise = null;
}

/** A tensor without memory for the state of a module, filled with `value` at its first use. */
export function lazyBuffer(shape: readonly number[], value: number, dtype: 'f32' | 'i32' = 'f32'): Tensor {
  const storage = new Storage(4 * sizeOf(shape));
  storage.state = 'lazy';
  const buffer = new Tensor({ storage, shape: [...shape], dtype });
  storage.initialise = () => outsideCapture(() => fill_(buffer, value));
  return buffer;
}

/** One value everywhere. */
export function constantInitialiser(value: number): Initialiser {
  return (parameter) => fill_(parameter, value);
}

/** Normal with mean 0. */
export function normalInitialiser(std: number): Initialiser {
  return (parameter, random) => fillNormal(parameter, 0, std, random);
}

/** Uniform in [-bound, bound). */
export function uniformInitialiser(bound: number): Initialiser {
  return (parameter, random) => fillUniform(parameter, -bound, bound, random);
}
