// Parameters: leaf tensors that are trained. They get memory and first values when they are first used.
import { noGrad } from '../autograd/mode.ts';
import { fillUniform, reserveRandom } from '../ops/random.ts';
import { Storage } from '../runtime/storage.ts';
import { activeRecorder, setRecorder } from '../tensor/apply.ts';
import { channelsLastStrides, contiguousStrides, sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

/** Fills a fresh parameter. `offset` is its own range of the random counter, taken when the parameter was declared. */
export type Initialiser = (parameter: Parameter, offset: number) => void;

/** A tensor that a module trains. Source: torch.nn.Parameter. */
export class Parameter extends Tensor {
  /** An uninitialised parameter of this shape, filled by `initialise` at its first use. Four-dimensional ones are stored channels-last. */
  constructor(shape: readonly number[], initialise: Initialiser) {
    const storage = new Storage(4 * sizeOf(shape));
    super({
      storage,
      shape,
      dtype: 'f32',
      strides: shape.length === 4 ? channelsLastStrides(shape) : contiguousStrides(shape),
    });
    storage.state = 'lazy';
    storage.persistent = true;
    const offset = reserveRandom(sizeOf(shape));
    storage.initialise = () => outsideCapture(() => initialise(this, offset));
    this.requiresGrad = true;
  }
}

/** First use may happen while a step is captured; the values must be real all the same. */
function outsideCapture(callback: () => void): void {
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

/** Uniform in [-bound, bound). */
export function uniformInitialiser(bound: number): Initialiser {
  return (parameter, offset) => fillUniform(parameter, -bound, bound, offset);
}
