import { type Conv2dOptions, conv2d } from '../ops/conv2d.ts';
import { pairOf } from '../ops/window.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { checkSizes, showOptions } from './checks.ts';
import { Module } from './module.ts';
import { Parameter, uniformInitialiser } from './parameter.ts';

/** Options of the layer `Conv2d`. */
export interface Conv2dLayerOptions extends Conv2dOptions {
  /** Adds a learned number per output channel. Default true. */
  bias?: boolean | undefined;
}

/**
 * Two-dimensional cross-correlation: x [N, inChannels, H, W] to [N, outChannels, OH, OW] with
 * OH = floor((H + top + bottom - dilation (KH - 1) - 1) / stride) + 1. Weight [outChannels, inChannels / groups, KH, KW], bias [outChannels];
 * both start uniform in +-1/sqrt(fan in). Source: torch.nn.Conv2d.
 *
 * @throws RangeError for bad sizes or options, TypeError for an unknown option
 * @example
 * ```ts
 * import { init, nn, zeros } from 'feathermap';
 * await init();
 * const layer = new nn.Conv2d(2, 3, [3, 5], { padding: [1, 2] });
 * if (layer.forward(zeros([4, 2, 3, 5])).shape.join() !== '4,3,3,5') throw new Error('wrong');
 * ```
 */
export class Conv2d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly options: Conv2dOptions;

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: number | readonly [number, number],
    options: Conv2dLayerOptions = {},
  ) {
    super();
    checkOptions('Conv2d', options, ['stride', 'padding', 'dilation', 'groups', 'bias']);
    const { bias = true, ...rest } = options;
    const { groups = 1 } = rest;
    const [height, width] = pairOf('Conv2d', 'kernelSize', kernelSize);
    checkSizes('Conv2d', { inChannels, outChannels, groups, kernelHeight: height, kernelWidth: width });
    if (inChannels % groups || outChannels % groups)
      throw new RangeError(
        `Conv2d: inChannels ${inChannels} and outChannels ${outChannels} must be multiples of groups ${groups}`,
      );
    this.options = rest;
    const fanIn = (inChannels / groups) * height * width;
    const initialise = uniformInitialiser(1 / Math.sqrt(fanIn));
    this.weight = Parameter.lazy([outChannels, inChannels / groups, height, width], initialise);
    this.bias = bias ? Parameter.lazy([outChannels], initialise) : null;
  }

  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.options);
  }

  override extraRepr(): string {
    const [out, inPerGroup, height, width] = this.weight.shape as [number, number, number, number];
    const { groups = 1, ...rest } = this.options;
    const options = { ...rest, groups: groups > 1 ? groups : undefined, bias: this.bias ? undefined : false };
    return `${inPerGroup * groups}, ${out}, kernelSize=[${height},${width}]${showOptions(options)}`;
  }
}
