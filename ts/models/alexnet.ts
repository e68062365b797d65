// AlexNet in the one-column version that torchvision has.
// Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997; torchvision.models.alexnet.
import { AdaptiveAvgPool2d, Conv2d, Dropout, Linear, MaxPool2d, Module, ReLU, Sequential } from '../nn/index.ts';
import { flatten } from '../ops/shape.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Options of `alexnet`. */
export interface AlexNetOptions {
  /** Classes. Default 1000. */
  numClasses?: number | undefined;
  /** Probability of the two dropouts. Default 0.5. */
  dropout?: number | undefined;
}

/** AlexNet on [N,3,H,W], 63 x 63 at least and meant for 224 x 224. 61,100,840 parameters. */
export class AlexNet extends Module {
  readonly features: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly classifier: Sequential;

  constructor(options: AlexNetOptions = {}) {
    super();
    checkOptions('alexnet', options, ['numClasses', 'dropout']);
    const { numClasses = 1000, dropout = 0.5 } = options;
    this.features = new Sequential(
      new Conv2d(3, 64, 11, { stride: 4, padding: 2 }),
      new ReLU(),
      new MaxPool2d(3, { stride: 2 }),
      new Conv2d(64, 192, 5, { padding: 2 }),
      new ReLU(),
      new MaxPool2d(3, { stride: 2 }),
      new Conv2d(192, 384, 3, { padding: 1 }),
      new ReLU(),
      new Conv2d(384, 256, 3, { padding: 1 }),
      new ReLU(),
      new Conv2d(256, 256, 3, { padding: 1 }),
      new ReLU(),
      new MaxPool2d(3, { stride: 2 }),
    );
    this.avgpool = new AdaptiveAvgPool2d(6);
    this.classifier = new Sequential(
      new Dropout(dropout),
      new Linear(256 * 6 * 6, 4096),
      new ReLU(),
      new Dropout(dropout),
      new Linear(4096, 4096),
      new ReLU(),
      new Linear(4096, numClasses),
    );
  }

  forward(x: Tensor): Tensor {
    return this.classifier.forward(flatten(this.avgpool.forward(this.features.forward(x)), 1));
  }
}

/**
 * AlexNet. Source: torchvision.models.alexnet.
 *
 * @throws TypeError for an unknown option
 * @example
 * ```ts
 * import { alexnet } from 'feathermap/models';
 * const net = alexnet();
 * if (net.parameters().reduce((sum, { size }) => sum + size, 0) !== 61_100_840) throw new Error('wrong');
 * ```
 */
export function alexnet(options: AlexNetOptions = {}): AlexNet {
  return new AlexNet(options);
}
