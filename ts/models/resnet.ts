// Residual networks with 18 to 152 layers.
// Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385; torchvision.models.resnet, which puts the stride of a
// bottleneck into its 3x3 convolution.
import { AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d, Module, ReLU, Sequential } from '../nn/index.ts';
import { flatten } from '../ops/shape.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { initialiseAtZero, initialiseModel } from './initialise.ts';

/** Options of the ResNet models. */
export interface ResNetOptions {
  /** Classes. Default 1000. */
  numClasses?: number | undefined;
  /** Starts the last normalisation of every block at 0, so that a block is the identity at first. Default false. */
  zeroInitResidual?: boolean | undefined;
  /** Groups of the 3x3 convolutions of bottlenecks. Default 1. */
  groups?: number | undefined;
  /** Channels per group in bottlenecks of the first stage. Default 64. */
  widthPerGroup?: number | undefined;
  /** Whether the last three stages are dilated instead of strided. Default none. */
  replaceStrideWithDilation?: readonly [boolean, boolean, boolean] | undefined;
}

/** What makes a block. */
export interface BlockOptions {
  /** Channels in, and channels of the stage. */
  readonly inplanes: number;
  readonly planes: number;
  readonly stride: number;
  readonly downsample: Sequential | null;
  readonly groups: number;
  readonly baseWidth: number;
  readonly dilation: number;
}

function conv3x3(inChannels: number, outChannels: number, stride = 1, groups = 1, dilation = 1): Conv2d {
  return new Conv2d(inChannels, outChannels, 3, { stride, padding: dilation, groups, bias: false, dilation });
}

function conv1x1(inChannels: number, outChannels: number, stride = 1): Conv2d {
  return new Conv2d(inChannels, outChannels, 1, { stride, bias: false });
}

/** Two 3x3 convolutions, and the input added. */
export class BasicBlock extends Module {
  static readonly expansion = 1;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu: ReLU;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly downsample: Sequential | null;

  constructor({ inplanes, planes, stride, downsample, groups, baseWidth, dilation }: BlockOptions) {
    super();
    if (groups !== 1 || baseWidth !== 64)
      throw new RangeError('BasicBlock: groups must be 1 and widthPerGroup 64; only bottlenecks have others');
    if (dilation > 1) throw new RangeError('BasicBlock: only bottlenecks can be dilated');
    this.conv1 = conv3x3(inplanes, planes, stride);
    this.bn1 = new BatchNorm2d(planes);
    this.relu = new ReLU();
    this.conv2 = conv3x3(planes, planes);
    this.bn2 = new BatchNorm2d(planes);
    this.downsample = downsample;
  }

  /** The normalisation that ends the branch. */
  get lastNorm(): BatchNorm2d {
    return this.bn2;
  }

  forward(x: Tensor): Tensor {
    const identity = this.downsample ? this.downsample.forward(x) : x;
    const inner = this.relu.forward(this.bn1.forward(this.conv1.forward(x)));
    return this.relu.forward(this.bn2.forward(this.conv2.forward(inner)).add(identity));
  }
}

/** 1x1, 3x3 and 1x1 convolutions with four times the channels outside, and the input added. */
export class Bottleneck extends Module {
  static readonly expansion = 4;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly conv3: Conv2d;
  readonly bn3: BatchNorm2d;
  readonly relu: ReLU;
  readonly downsample: Sequential | null;

  constructor({ inplanes, planes, stride, downsample, groups, baseWidth, dilation }: BlockOptions) {
    super();
    const width = Math.floor(planes * (baseWidth / 64)) * groups;
    const out = planes * Bottleneck.expansion;
    this.conv1 = conv1x1(inplanes, width);
    this.bn1 = new BatchNorm2d(width);
    this.conv2 = conv3x3(width, width, stride, groups, dilation);
    this.bn2 = new BatchNorm2d(width);
    this.conv3 = conv1x1(width, out);
    this.bn3 = new BatchNorm2d(out);
    this.relu = new ReLU();
    this.downsample = downsample;
  }

  /** The normalisation that ends the branch. */
  get lastNorm(): BatchNorm2d {
    return this.bn3;
  }

  forward(x: Tensor): Tensor {
    const identity = this.downsample ? this.downsample.forward(x) : x;
    const reduced = this.relu.forward(this.bn1.forward(this.conv1.forward(x)));
    const inner = this.relu.forward(this.bn2.forward(this.conv2.forward(reduced)));
    return this.relu.forward(this.bn3.forward(this.conv3.forward(inner)).add(identity));
  }
}

type Block = typeof BasicBlock | typeof Bottleneck;

/** Makes the stages one after the other: each starts where the one before ended. */
class StageBuilder {
  readonly #block: Block;
  readonly #groups: number;
  readonly #baseWidth: number;
  #inplanes = 64;
  #dilation = 1;

  constructor(block: Block, groups: number, baseWidth: number) {
    this.#block = block;
    this.#groups = groups;
    this.#baseWidth = baseWidth;
  }

  stage(planes: number, blocks: number, stride = 1, dilate = false): Sequential {
    const dilationBefore = this.#dilation;
    if (dilate) this.#dilation *= stride;
    const step = dilate ? 1 : stride;
    const layers = [this.#make(planes, step, dilationBefore)];
    for (let i = 1; i < blocks; i++) layers.push(this.#make(planes, 1, this.#dilation));
    return new Sequential(...layers);
  }

  #make(planes: number, stride: number, dilation: number): BasicBlock | Bottleneck {
    const inplanes = this.#inplanes;
    const out = planes * this.#block.expansion;
    const sameSize = stride === 1 && inplanes === out;
    const downsample = sameSize ? null : new Sequential(conv1x1(inplanes, out, stride), new BatchNorm2d(out));
    this.#inplanes = out;
    const shared = { groups: this.#groups, baseWidth: this.#baseWidth, dilation };
    return new this.#block({ inplanes, planes, stride, downsample, ...shared });
  }
}

const OPTIONS = ['numClasses', 'zeroInitResidual', 'groups', 'widthPerGroup', 'replaceStrideWithDilation'];

/** ResNet on [N,3,H,W], meant for 224 x 224. */
export class ResNet extends Module {
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu: ReLU;
  readonly maxpool: MaxPool2d;
  readonly layer1: Sequential;
  readonly layer2: Sequential;
  readonly layer3: Sequential;
  readonly layer4: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly fc: Linear;

  /**
   * @param block `BasicBlock` or `Bottleneck`
   * @param layers blocks per stage
   */
  constructor(block: Block, layers: readonly [number, number, number, number], options: ResNetOptions = {}) {
    super();
    checkOptions('resnet', options, OPTIONS);
    const { numClasses = 1000, zeroInitResidual = false, groups = 1, widthPerGroup = 64 } = options;
    const dilate = options.replaceStrideWithDilation ?? [false, false, false];
    const builder = new StageBuilder(block, groups, widthPerGroup);
    this.conv1 = new Conv2d(3, 64, 7, { stride: 2, padding: 3, bias: false });
    this.bn1 = new BatchNorm2d(64);
    this.relu = new ReLU();
    this.maxpool = new MaxPool2d(3, { stride: 2, padding: 1 });
    this.layer1 = builder.stage(64, layers[0]);
    this.layer2 = builder.stage(128, layers[1], 2, dilate[0]);
    this.layer3 = builder.stage(256, layers[2], 2, dilate[1]);
    this.layer4 = builder.stage(512, layers[3], 2, dilate[2]);
    this.avgpool = new AdaptiveAvgPool2d(1);
    this.fc = new Linear(512 * block.expansion, numClasses);
    initialiseModel(this);
    if (!zeroInitResidual) return;
    for (const [, module] of this.namedModules())
      if (module instanceof BasicBlock || module instanceof Bottleneck) initialiseAtZero(module.lastNorm);
  }

  forward(x: Tensor): Tensor {
    const stem = this.maxpool.forward(this.relu.forward(this.bn1.forward(this.conv1.forward(x))));
    const features = this.layer4.forward(this.layer3.forward(this.layer2.forward(this.layer1.forward(stem))));
    return this.fc.forward(flatten(this.avgpool.forward(features), 1));
  }
}

/**
 * ResNet with 18 layers, 11,689,512 parameters. Source: torchvision.models.resnet18.
 *
 * @throws TypeError for an unknown option
 * @example
 * ```ts
 * import { init, noGrad, zeros } from 'feathermap';
 * import { resnet18 } from 'feathermap/models';
 * await init();
 * const net = resnet18({ numClasses: 5 }).eval();
 * const y = noGrad(() => net.forward(zeros([1, 3, 32, 32])));
 * if (y.shape.join() !== '1,5') throw new Error('wrong');
 * ```
 */
export function resnet18(options: ResNetOptions = {}): ResNet {
  return new ResNet(BasicBlock, [2, 2, 2, 2], options);
}

/**
 * ResNet with 34 layers, 21,797,672 parameters. Source: torchvision.models.resnet34.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { resnet34 } from 'feathermap/models';
 * await init();
 * if (resnet34().parameters().reduce((sum, { size }) => sum + size, 0) !== 21_797_672) throw new Error('wrong');
 * ```
 */
export function resnet34(options: ResNetOptions = {}): ResNet {
  return new ResNet(BasicBlock, [3, 4, 6, 3], options);
}

/**
 * ResNet with 50 layers, 25,557,032 parameters. Source: torchvision.models.resnet50.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { resnet50 } from 'feathermap/models';
 * await init();
 * if (resnet50().parameters().reduce((sum, { size }) => sum + size, 0) !== 25_557_032) throw new Error('wrong');
 * ```
 */
export function resnet50(options: ResNetOptions = {}): ResNet {
  return new ResNet(Bottleneck, [3, 4, 6, 3], options);
}

/**
 * ResNet with 101 layers, 44,549,160 parameters. Source: torchvision.models.resnet101.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { resnet101 } from 'feathermap/models';
 * await init();
 * if (resnet101().parameters().reduce((sum, { size }) => sum + size, 0) !== 44_549_160) throw new Error('wrong');
 * ```
 */
export function resnet101(options: ResNetOptions = {}): ResNet {
  return new ResNet(Bottleneck, [3, 4, 23, 3], options);
}

/**
 * ResNet with 152 layers, 60,192,808 parameters. Source: torchvision.models.resnet152.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { resnet152 } from 'feathermap/models';
 * await init();
 * if (resnet152().parameters().reduce((sum, { size }) => sum + size, 0) !== 60_192_808) throw new Error('wrong');
 * ```
 */
export function resnet152(options: ResNetOptions = {}): ResNet {
  return new ResNet(Bottleneck, [3, 8, 36, 3], options);
}
