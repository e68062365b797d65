// Initialisers, in place, as torch.nn.init: the trailing underscore says that the tensor is changed.
import { noGrad } from '../autograd/mode.ts';
import { fill_ } from '../ops/copy.ts';
import * as random from '../ops/random.ts';
import { checkOptions } from '../tensor/create.ts';
import { show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { skipInitialisation } from './parameter.ts';

/** Activations whose gain is known. */
export type Nonlinearity = 'linear' | 'sigmoid' | 'tanh' | 'relu' | 'leakyRelu';

/** Options of the Kaiming initialisers. */
export interface KaimingOptions {
  /** Negative slope of a leaky ReLU. Default 0. */
  a?: number | undefined;
  mode?: 'fanIn' | 'fanOut' | undefined;
  nonlinearity?: Nonlinearity | undefined;
}

/**
 * Recommended gain of an activation. Source: torch.nn.init.calculate_gain.
 *
 * @example
 * ```ts
 * import { nn } from 'feathermap';
 * if (nn.init.calculateGain('relu') !== Math.sqrt(2)) throw new Error('wrong');
 * ```
 */
export function calculateGain(nonlinearity: Nonlinearity, slope = 0.01): number {
  if (nonlinearity === 'relu') return Math.sqrt(2);
  if (nonlinearity === 'tanh') return 5 / 3;
  if (nonlinearity === 'leakyRelu') return Math.sqrt(2 / (1 + slope * slope));
  if (nonlinearity === 'linear' || nonlinearity === 'sigmoid') return 1;
  throw new RangeError(`calculateGain: unknown nonlinearity '${nonlinearity}'`);
}

/** Inputs and outputs that a weight [out, in, ...window] connects. */
function fans(name: string, { shape }: Tensor): { fanIn: number; fanOut: number } {
  if (shape.length < 2)
    throw new RangeError(`${name}: fan in and fan out need at least 2 dimensions, got shape ${show(shape)}`);
  const window = shape.slice(2).reduce((product, extent) => product * extent, 1);
  return { fanIn: shape[1]! * window, fanOut: shape[0]! * window };
}

/** Fills a tensor as a whole: its own initialiser, if it has not run yet, need not. */
function overwrite(tensor: Tensor, fill: (tensor: Tensor) => unknown): Tensor {
  const { storage } = tensor;
  const { initialise } = storage;
  skipInitialisation(tensor);
  try {
    noGrad(() => fill(tensor));
  } catch (error) {
    if (storage.state === 'lazy') storage.initialise = initialise;
    throw error;
  }
  return tensor;
}

/**
 * Uniform in [lo, hi). Source: torch.nn.init.uniform_.
 *
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * await init();
 * const { weight } = new nn.Linear(3, 4);
 * nn.init.uniform_(weight, 2, 3);
 * if (weight.min().item() < 2) throw new Error('wrong');
 * ```
 */
export function uniform_(tensor: Tensor, lo = 0, hi = 1): Tensor {
  return overwrite(tensor, () => random.uniform_(tensor, lo, hi));
}

/**
 * Normal with mean and standard deviation. Source: torch.nn.init.normal_.
 *
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * await init();
 * const { weight } = new nn.Linear(3, 4);
 * nn.init.normal_(weight, 0, 0.01);
 * if (weight.abs().max().item() > 0.1) throw new Error('wrong');
 * ```
 */
export function normal_(tensor: Tensor, mean = 0, std = 1): Tensor {
  return overwrite(tensor, () => random.normal_(tensor, mean, std));
}

/**
 * One value everywhere. Source: torch.nn.init.constant_.
 *
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * await init();
 * const { weight } = new nn.Linear(3, 4);
 * nn.init.constant_(weight, 7);
 * if (weight.min().item() !== 7) throw new Error('wrong');
 * ```
 */
export function constant_(tensor: Tensor, value: number): Tensor {
  return overwrite(tensor, () => fill_(tensor, value));
}

/**
 * Zeros. Source: torch.nn.init.zeros_.
 *
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * await init();
 * const { weight } = new nn.Linear(3, 4);
 * nn.init.zeros_(weight);
 * if (weight.abs().max().item() !== 0) throw new Error('wrong');
 * ```
 */
export function zeros_(tensor: Tensor): Tensor {
  return constant_(tensor, 0);
}

/**
 * Ones. Source: torch.nn.init.ones_.
 *
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * await init();
 * const { weight } = new nn.Linear(3, 4);
 * nn.init.ones_(weight);
 * if (weight.min().item() !== 1) throw new Error('wrong');
 * ```
 */
export function ones_(tensor: Tensor): Tensor {
  return constant_(tensor, 1);
}

/**
 * Uniform in +-gain sqrt(6 / (fan in + fan out)). Source: Glorot and Bengio 2010; torch.nn.init.xavier_uniform_.
 *
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * await init();
 * const { weight } = new nn.Linear(3, 4);
 * nn.init.xavierUniform_(weight);
 * if (weight.abs().max().item() > Math.sqrt(6 / (3 + 4))) throw new Error('wrong');
 * ```
 */
export function xavierUniform_(tensor: Tensor, gain = 1): Tensor {
  const { fanIn, fanOut } = fans('xavierUniform_', tensor);
  const bound = gain * Math.sqrt(6 / (fanIn + fanOut));
  return uniform_(tensor, -bound, bound);
}

/**
 * Normal with standard deviation gain sqrt(2 / (fan in + fan out)). Source: torch.nn.init.xavier_normal_.
 *
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * await init();
 * const { weight } = new nn.Linear(3, 4);
 * nn.init.xavierNormal_(weight, nn.init.calculateGain('tanh'));
 * if (weight.shape.join() !== '4,3') throw new Error('wrong');
 * ```
 */
export function xavierNormal_(tensor: Tensor, gain = 1): Tensor {
  const { fanIn, fanOut } = fans('xavierNormal_', tensor);
  return normal_(tensor, 0, gain * Math.sqrt(2 / (fanIn + fanOut)));
}

function kaimingStd(name: string, tensor: Tensor, options: KaimingOptions): number {
  checkOptions(name, options, ['a', 'mode', 'nonlinearity']);
  const { a = 0, mode = 'fanIn', nonlinearity = 'leakyRelu' } = options;
  return calculateGain(nonlinearity, a) / Math.sqrt(fans(name, tensor)[mode]);
}

/**
 * Uniform with variance gain^2 / fan. Source: He et al. 2015; torch.nn.init.kaiming_uniform_.
 *
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * await init();
 * const { weight } = new nn.Linear(3, 4);
 * nn.init.kaimingUniform_(weight, { nonlinearity: 'relu' });
 * if (weight.abs().max().item() > Math.sqrt(6 / 3)) throw new Error('wrong');
 * ```
 */
export function kaimingUniform_(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  const bound = Math.sqrt(3) * kaimingStd('kaimingUniform_', tensor, options);
  return uniform_(tensor, -bound, bound);
}

/**
 * Normal with variance gain^2 / fan. Source: torch.nn.init.kaiming_normal_.
 *
 * @example
 * ```ts
 * import { init, nn } from 'feathermap';
 * await init();
 * const { weight } = new nn.Linear(3, 4);
 * nn.init.kaimingNormal_(weight, { mode: 'fanOut', nonlinearity: 'relu' });
 * if (weight.shape.join() !== '4,3') throw new Error('wrong');
 * ```
 */
export function kaimingNormal_(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  return normal_(tensor, 0, kaimingStd('kaimingNormal_', tensor, options));
}
