// VGG with 11, 13, 16 and 19 layers, with and without batch normalisation.
// Source: Simonyan and Zisserman, "Very Deep Convolutional Networks", arXiv:1409.1556; torchvision.models.vgg.
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  Linear,
  MaxPool2d,
  Module,
  ReLU,
  Sequential,
} from '../nn/index.ts';
import { flatten } from '../ops/shape.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { initialiseModel } from './initialise.ts';

/** Options of the VGG models. */
export interface VGGOptions {
  /** Classes. Default 1000. */
  numClasses?: number | undefined;
  /** Probability of the two dropouts. Default 0.5. */
  dropout?: number | undefined;
  /** Starts as torchvision's models do; false: as the layers do. Default true. */
  initWeights?: boolean | undefined;
}

/** Convolutions of each of the five stages, by number of layers. */
const STAGES = { 11: [1, 1, 2, 2, 2], 13: [2, 2, 2, 2, 2], 16: [2, 2, 3, 3, 3], 19: [2, 2, 4, 4, 4] } as const;
/** Channels of each stage. */
const WIDTHS = [64, 128, 256, 512, 512];

function makeFeatures(stages: readonly number[], batchNorm: boolean): Sequential {
  const layers: Module[] = [];
  let channels = 3;
  stages.forEach((convolutions, stage) => {
    const width = WIDTHS[stage]!;
    for (let i = 0; i < convolutions; i++) {
      layers.push(new Conv2d(channels, width, 3, { padding: 1 }));
      if (batchNorm) layers.push(new BatchNorm2d(width));
      layers.push(new ReLU());
      channels = width;
    }
    layers.push(new MaxPool2d(2));
  });
  return new Sequential(...layers);
}

/** VGG on [N,3,H,W], 32 x 32 at least and meant for 224 x 224. */
export class VGG extends Module {
  readonly features: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly classifier: Sequential;

  constructor(features: Sequential, options: VGGOptions = {}) {
    super();
    checkOptions('vgg', options, ['numClasses', 'dropout', 'initWeights']);
    const { numClasses = 1000, dropout = 0.5, initWeights = true } = options;
    this.features = features;
    this.avgpool = new AdaptiveAvgPool2d(7);
    this.classifier = new Sequential(
      new Linear(512 * 7 * 7, 4096),
      new ReLU(),
      new Dropout(dropout),
      new Linear(4096, 4096),
      new ReLU(),
      new Dropout(dropout),
      new Linear(4096, numClasses),
    );
    if (initWeights) initialiseModel(this, { linearStd: 0.01 });
  }

  forward(x: Tensor): Tensor {
    return this.classifier.forward(flatten(this.avgpool.forward(this.features.forward(x)), 1));
  }
}

function vgg(layers: keyof typeof STAGES, batchNorm: boolean, options: VGGOptions): VGG {
  return new VGG(makeFeatures(STAGES[layers], batchNorm), options);
}

/**
 * VGG with 11 layers, 132,863,336 parameters. Source: torchvision.models.vgg11.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { vgg11 } from 'feathermap/models';
 * await init();
 * if (vgg11().parameters().reduce((sum, { size }) => sum + size, 0) !== 132_863_336) throw new Error('wrong');
 * ```
 */
export function vgg11(options: VGGOptions = {}): VGG {
  return vgg(11, false, options);
}

/**
 * VGG with 11 layers and batch normalisation, 132,868,840 parameters. Source: torchvision.models.vgg11_bn.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { vgg11Bn } from 'feathermap/models';
 * await init();
 * if (vgg11Bn().parameters().reduce((sum, { size }) => sum + size, 0) !== 132_868_840) throw new Error('wrong');
 * ```
 */
export function vgg11Bn(options: VGGOptions = {}): VGG {
  return vgg(11, true, options);
}

/**
 * VGG with 13 layers, 133,047,848 parameters. Source: torchvision.models.vgg13.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { vgg13 } from 'feathermap/models';
 * await init();
 * if (vgg13().parameters().reduce((sum, { size }) => sum + size, 0) !== 133_047_848) throw new Error('wrong');
 * ```
 */
export function vgg13(options: VGGOptions = {}): VGG {
  return vgg(13, false, options);
}

/**
 * VGG with 13 layers and batch normalisation, 133,053,736 parameters. Source: torchvision.models.vgg13_bn.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { vgg13Bn } from 'feathermap/models';
 * await init();
 * if (vgg13Bn().parameters().reduce((sum, { size }) => sum + size, 0) !== 133_053_736) throw new Error('wrong');
 * ```
 */
export function vgg13Bn(options: VGGOptions = {}): VGG {
  return vgg(13, true, options);
}

/**
 * VGG with 16 layers, 138,357,544 parameters. Source: torchvision.models.vgg16.
 *
 * @throws TypeError for an unknown option
 * @example
 * ```ts
 * import { vgg16 } from 'feathermap/models';
 * // Parameters get memory at their first use, so counting them costs nothing.
 * const net = vgg16();
 * if (net.parameters().reduce((sum, { size }) => sum + size, 0) !== 138_357_544) throw new Error('wrong');
 * ```
 */
export function vgg16(options: VGGOptions = {}): VGG {
  return vgg(16, false, options);
}

/**
 * VGG with 16 layers and batch normalisation, 138,365,992 parameters. Source: torchvision.models.vgg16_bn.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { vgg16Bn } from 'feathermap/models';
 * await init();
 * if (vgg16Bn().parameters().reduce((sum, { size }) => sum + size, 0) !== 138_365_992) throw new Error('wrong');
 * ```
 */
export function vgg16Bn(options: VGGOptions = {}): VGG {
  return vgg(16, true, options);
}

/**
 * VGG with 19 layers, 143,667,240 parameters. Source: torchvision.models.vgg19.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { vgg19 } from 'feathermap/models';
 * await init();
 * if (vgg19().parameters().reduce((sum, { size }) => sum + size, 0) !== 143_667_240) throw new Error('wrong');
 * ```
 */
export function vgg19(options: VGGOptions = {}): VGG {
  return vgg(19, false, options);
}

/**
 * VGG with 19 layers and batch normalisation, 143,678,248 parameters. Source: torchvision.models.vgg19_bn.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { vgg19Bn } from 'feathermap/models';
 * await init();
 * if (vgg19Bn().parameters().reduce((sum, { size }) => sum + size, 0) !== 143_678_248) throw new Error('wrong');
 * ```
 */
export function vgg19Bn(options: VGGOptions = {}): VGG {
  return vgg(19, true, options);
}
