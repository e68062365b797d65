// LeNet-5 as the textbooks teach it.
// Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998.
import { AvgPool2d, Conv2d, Linear, MaxPool2d, Module, ReLU, Sequential, Sigmoid } from '../nn/index.ts';
import { flatten } from '../ops/shape.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Options of `lenet`. */
export interface LeNetOptions {
  /** `'sigmoid'` with average pooling, as in the textbook, or `'relu'` with max pooling. Default `'sigmoid'`. */
  variant?: 'sigmoid' | 'relu' | undefined;
  /** Classes. Default 10. */
  numClasses?: number | undefined;
}

/** LeNet on [N,1,28,28]: two convolutions with pooling, three dense layers. 61,706 parameters. */
export class LeNet extends Module {
  readonly features: Sequential;
  readonly classifier: Sequential;

  constructor({ variant = 'sigmoid', numClasses = 10 }: LeNetOptions = {}) {
    super();
    if (variant !== 'sigmoid' && variant !== 'relu')
      throw new RangeError(`lenet: variant is 'sigmoid' or 'relu', got '${variant}'`);
    const activation = (): Module => (variant === 'sigmoid' ? new Sigmoid() : new ReLU());
    const pool = (): Module => (variant === 'sigmoid' ? new AvgPool2d(2) : new MaxPool2d(2));
    this.features = new Sequential(
      new Conv2d(1, 6, 5, { padding: 2 }),
      activation(),
      pool(),
      new Conv2d(6, 16, 5),
      activation(),
      pool(),
    );
    this.classifier = new Sequential(
      new Linear(16 * 5 * 5, 120),
      activation(),
      new Linear(120, 84),
      activation(),
      new Linear(84, numClasses),
    );
  }

  forward(x: Tensor): Tensor {
    return this.classifier.forward(flatten(this.features.forward(x), 1));
  }
}

/**
 * LeNet-5 for 28 x 28 images of one channel.
 *
 * @throws TypeError for an unknown option, RangeError for an unknown variant
 * @example
 * ```ts
 * import { init, zeros } from 'feathermap';
 * import { lenet } from 'feathermap/models';
 * await init();
 * const net = lenet();
 * if (net.forward(zeros([2, 1, 28, 28])).shape.join() !== '2,10') throw new Error('wrong');
 * ```
 */
export function lenet(options: LeNetOptions = {}): LeNet {
  checkOptions('lenet', options, ['variant', 'numClasses']);
  return new LeNet(options);
}
