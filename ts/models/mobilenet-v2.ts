// MobileNetV2: inverted residuals with linear bottlenecks.
// Source: Sandler et al., "MobileNetV2", arXiv:1801.04381; torchvision.models.mobilenet_v2.
import { BatchNorm2d, Conv2d, Dropout, Linear, Module, ReLU6, Sequential } from '../nn/index.ts';
import { adaptiveAvgPool2d } from '../ops/adaptive-pool.ts';
import { flatten } from '../ops/shape.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { initialiseModel } from './initialise.ts';

/** Expansion, channels, blocks and stride of a stage. */
export type InvertedResidualSetting = readonly [expansion: number, channels: number, blocks: number, stride: number];

/** Options of `mobilenetV2`. */
export interface MobileNetV2Options {
  /** Classes. Default 1000. */
  numClasses?: number | undefined;
  /** Factor on the channels of every layer. Default 1. */
  widthMult?: number | undefined;
  /** The stages. Default: those of the paper. */
  invertedResidualSetting?: readonly InvertedResidualSetting[] | undefined;
  /** Channels are multiples of this; 1: not rounded. Default 8. */
  roundNearest?: number | undefined;
  /** Probability of the dropout before the classifier. Default 0.2. */
  dropout?: number | undefined;
}

const OPTIONS = ['numClasses', 'widthMult', 'invertedResidualSetting', 'roundNearest', 'dropout'];

const SETTING: readonly InvertedResidualSetting[] = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
];

/** The multiple of `divisor` nearest to `value`, but not below nine tenths of it. */
function makeDivisible(value: number, divisor: number): number {
  const nearest = Math.max(divisor, Math.floor((value + divisor / 2) / divisor) * divisor);
  return nearest < 0.9 * value ? nearest + divisor : nearest;
}

interface ConvNormOptions {
  readonly kernelSize?: number;
  readonly stride?: number;
  readonly groups?: number;
}

/** Convolution that keeps the size at stride 1, normalisation, ReLU6. */
function convNormActivation(inChannels: number, outChannels: number, options: ConvNormOptions = {}): Sequential {
  const { kernelSize = 3, stride = 1, groups = 1 } = options;
  const padding = (kernelSize - 1) / 2;
  return new Sequential(
    new Conv2d(inChannels, outChannels, kernelSize, { stride, padding, groups, bias: false }),
    new BatchNorm2d(outChannels),
    new ReLU6(),
  );
}

/** 1x1 to more channels, depthwise 3x3, 1x1 back to few; the input is added where shapes agree. */
export class InvertedResidual extends Module {
  readonly conv: Sequential;
  readonly useResConnect: boolean;

  constructor(inChannels: number, outChannels: number, stride: number, expandRatio: number) {
    super();
    if (stride !== 1 && stride !== 2) throw new RangeError(`InvertedResidual: stride must be 1 or 2, got ${stride}`);
    const hidden = Math.round(inChannels * expandRatio);
    this.useResConnect = stride === 1 && inChannels === outChannels;
    this.conv = new Sequential(
      ...(expandRatio === 1 ? [] : [convNormActivation(inChannels, hidden, { kernelSize: 1 })]),
      convNormActivation(hidden, hidden, { stride, groups: hidden }),
      new Conv2d(hidden, outChannels, 1, { bias: false }),
      new BatchNorm2d(outChannels),
    );
  }

  forward(x: Tensor): Tensor {
    const y = this.conv.forward(x);
    return this.useResConnect ? x.add(y) : y;
  }
}

/** MobileNetV2 on [N,3,H,W], meant for 224 x 224. */
export class MobileNetV2 extends Module {
  readonly features: Sequential;
  readonly classifier: Sequential;

  constructor(options: MobileNetV2Options = {}) {
    super();
    checkOptions('mobilenetV2', options, OPTIONS);
    const { numClasses = 1000, widthMult = 1, roundNearest = 8, dropout = 0.2 } = options;
    const width = (channels: number, factor = widthMult): number => makeDivisible(channels * factor, roundNearest);
    let channels = width(32);
    const features: Module[] = [convNormActivation(3, channels, { stride: 2 })];
    for (const [expansion, base, blocks, stride] of options.invertedResidualSetting ?? SETTING) {
      const out = width(base);
      for (let i = 0; i < blocks; i++) {
        features.push(new InvertedResidual(channels, out, i === 0 ? stride : 1, expansion));
        channels = out;
      }
    }
    const last = width(1280, Math.max(1, widthMult));
    features.push(convNormActivation(channels, last, { kernelSize: 1 }));
    this.features = new Sequential(...features);
    this.classifier = new Sequential(new Dropout(dropout), new Linear(last, numClasses));
    initialiseModel(this, { linearStd: 0.01 });
  }

  forward(x: Tensor): Tensor {
    return this.classifier.forward(flatten(adaptiveAvgPool2d(this.features.forward(x), 1), 1));
  }
}

/**
 * MobileNetV2, 3,504,872 parameters. Source: torchvision.models.mobilenet_v2.
 *
 * @throws TypeError for an unknown option
 * @example
 * ```ts
 * import { init, noGrad, zeros } from 'feathermap';
 * import { mobilenetV2 } from 'feathermap/models';
 * await init();
 * const net = mobilenetV2({ numClasses: 5, widthMult: 0.5 }).eval();
 * const y = noGrad(() => net.forward(zeros([1, 3, 32, 32])));
 * if (y.shape.join() !== '1,5') throw new Error('wrong');
 * ```
 */
export function mobilenetV2(options: MobileNetV2Options = {}): MobileNetV2 {
  return new MobileNetV2(options);
}
