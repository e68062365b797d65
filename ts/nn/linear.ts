import { linear } from '../ops/matmul.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { checkSizes } from './checks.ts';
import { Module } from './module.ts';
import { Parameter, uniformInitialiser } from './parameter.ts';

/**
 * y = x W^T + b: x [..., inFeatures] to y [..., outFeatures]; weight [outFeatures, inFeatures], bias [outFeatures].
 * Both start uniform in +-1/sqrt(inFeatures). Source: torch.nn.Linear.
 *
 * @throws RangeError for sizes that are not whole numbers >= 1, TypeError for an unknown option
 * @example
 * ```ts
 * import { init, nn, ones } from 'feathermap';
 * await init();
 * if (new nn.Linear(3, 2).forward(ones([5, 3])).shape.join() !== '5,2') throw new Error('wrong');
 * ```
 */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly inFeatures: number;
  readonly outFeatures: number;

  constructor(inFeatures: number, outFeatures: number, options: { bias?: boolean } = {}) {
    super();
    checkOptions('Linear', options, ['bias']);
    checkSizes('Linear', { inFeatures, outFeatures });
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    const initialise = uniformInitialiser(1 / Math.sqrt(inFeatures));
    this.weight = Parameter.lazy([outFeatures, inFeatures], initialise);
    this.bias = (options.bias ?? true) ? Parameter.lazy([outFeatures], initialise) : null;
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }

  override extraRepr(): string {
    return `inFeatures=${this.inFeatures}, outFeatures=${this.outFeatures}, bias=${this.bias !== null}`;
  }
}
