// Layers without parameters: each is one function with its options kept.

import { type HardtanhOptions, hardtanh, relu, relu6, sigmoid, tanh } from '../ops/activation.ts';
import { adaptiveAvgPool2d, type OutputSize } from '../ops/adaptive-pool.ts';
import { type AvgPool2dOptions, avgPool2d, type MaxPool2dOptions, maxPool2d } from '../ops/pool.ts';
import { dropout } from '../ops/random.ts';
import { flatten } from '../ops/shape.ts';
import { hardsigmoid, hardswish, type LeakyReluOptions, leakyRelu, silu } from '../ops/soft-activation.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { showOptions } from './checks.ts';
import { Module } from './module.ts';

/**
 * Option of activations and dropout, as PyTorch has it. It is accepted so that layers can be written as there, and has no effect:
 * inputs are never overwritten, and where buffers lie is the planner's business.
 */
export interface InplaceOption {
  inplace?: boolean | undefined;
}

/** The input itself. Takes any arguments, and ignores them. Source: torch.nn.Identity. */
export class Identity extends Module {
  constructor(..._ignored: unknown[]) {
    super();
  }

  forward(x: Tensor): Tensor {
    return x;
  }
}

/** max(x, 0), NaN kept. Source: torch.nn.ReLU. */
export class ReLU extends Module {
  constructor(options: InplaceOption = {}) {
    super();
    checkOptions('ReLU', options, ['inplace']);
  }

  forward(x: Tensor): Tensor {
    return relu(x);
  }
}

/** min(max(x, 0), 6), NaN kept. Source: torch.nn.ReLU6. */
export class ReLU6 extends Module {
  constructor(options: InplaceOption = {}) {
    super();
    checkOptions('ReLU6', options, ['inplace']);
  }

  forward(x: Tensor): Tensor {
    return relu6(x);
  }
}

/** min(max(x, `minVal`), `maxVal`), -1 and 1 by default; NaN kept. Source: torch.nn.Hardtanh. */
export class Hardtanh extends Module {
  readonly options: HardtanhOptions;

  constructor(options: HardtanhOptions & InplaceOption = {}) {
    super();
    checkOptions('Hardtanh', options, ['minVal', 'maxVal', 'inplace']);
    const { inplace: _, ...bounds } = options;
    this.options = bounds;
  }

  forward(x: Tensor): Tensor {
    return hardtanh(x, this.options);
  }

  override extraRepr(): string {
    const { minVal = -1, maxVal = 1 } = this.options;
    return `minVal=${minVal}, maxVal=${maxVal}`;
  }
}

/** 1 / (1 + exp(-x)). Source: torch.nn.Sigmoid. */
export class Sigmoid extends Module {
  forward(x: Tensor): Tensor {
    return sigmoid(x);
  }
}

/** Hyperbolic tangent. Source: torch.nn.Tanh. */
export class Tanh extends Module {
  forward(x: Tensor): Tensor {
    return tanh(x);
  }
}

/** x above 0, `negativeSlope` x (default 0.01) elsewhere. Source: torch.nn.LeakyReLU. */
export class LeakyReLU extends Module {
  readonly options: LeakyReluOptions;

  constructor(options: LeakyReluOptions & InplaceOption = {}) {
    super();
    checkOptions('LeakyReLU', options, ['negativeSlope', 'inplace']);
    const { inplace: _, ...slope } = options;
    this.options = slope;
  }

  forward(x: Tensor): Tensor {
    return leakyRelu(x, this.options);
  }

  override extraRepr(): string {
    return `negativeSlope=${this.options.negativeSlope ?? 0.01}`;
  }
}

/** x sigmoid(x). Source: torch.nn.SiLU. */
export class SiLU extends Module {
  constructor(options: InplaceOption = {}) {
    super();
    checkOptions('SiLU', options, ['inplace']);
  }

  forward(x: Tensor): Tensor {
    return silu(x);
  }
}

/** min(max(x + 3, 0), 6) / 6. Source: torch.nn.Hardsigmoid. */
export class Hardsigmoid extends Module {
  constructor(options: InplaceOption = {}) {
    super();
    checkOptions('Hardsigmoid', options, ['inplace']);
  }

  forward(x: Tensor): Tensor {
    return hardsigmoid(x);
  }
}

/** x min(max(x + 3, 0), 6) / 6. Source: torch.nn.Hardswish. */
export class Hardswish extends Module {
  constructor(options: InplaceOption = {}) {
    super();
    checkOptions('Hardswish', options, ['inplace']);
  }

  forward(x: Tensor): Tensor {
    return hardswish(x);
  }
}

/** Merges the dimensions from `startDim` (default 1) to `endDim` (default -1). Source: torch.nn.Flatten. */
export class Flatten extends Module {
  readonly #startDim: number;
  readonly #endDim: number;

  constructor(startDim = 1, endDim = -1) {
    super();
    this.#startDim = startDim;
    this.#endDim = endDim;
  }

  forward(x: Tensor): Tensor {
    return flatten(x, this.#startDim, this.#endDim);
  }
}

/** In training sets each element to 0 with probability `p` and divides the others by 1 - p; in evaluation the identity. Source: torch.nn.Dropout. */
export class Dropout extends Module {
  readonly p: number;

  constructor(p = 0.5, options: InplaceOption = {}) {
    super();
    checkOptions('Dropout', options, ['inplace']);
    if (!(p >= 0 && p <= 1)) throw new RangeError(`Dropout: p must be a probability from 0 to 1, got ${p}`);
    this.p = p;
  }

  forward(x: Tensor): Tensor {
    return dropout(x, { p: this.p, training: this.training });
  }

  override extraRepr(): string {
    return `p=${this.p}`;
  }
}

type Window = number | readonly [number, number];

/** Options of the layer `MaxPool2d`. */
export type MaxPool2dLayerOptions = Omit<MaxPool2dOptions, 'returnIndices'>;

/** Largest element of each window of [N,C,H,W]. Options as `maxPool2d`. Source: torch.nn.MaxPool2d. */
export class MaxPool2d extends Module {
  readonly kernelSize: Window;
  readonly options: MaxPool2dLayerOptions;

  constructor(kernelSize: Window, options: MaxPool2dLayerOptions = {}) {
    super();
    checkOptions('MaxPool2d', options, ['stride', 'padding', 'dilation', 'ceilMode']);
    this.kernelSize = kernelSize;
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    return maxPool2d(x, this.kernelSize, this.options);
  }

  override extraRepr(): string {
    return `kernelSize=${JSON.stringify(this.kernelSize)}${showOptions(this.options)}`;
  }
}

/** Mean of each window of [N,C,H,W]. Options as `avgPool2d`. Source: torch.nn.AvgPool2d. */
export class AvgPool2d extends Module {
  readonly kernelSize: Window;
  readonly options: AvgPool2dOptions;

  constructor(kernelSize: Window, options: AvgPool2dOptions = {}) {
    super();
    checkOptions('AvgPool2d', options, ['stride', 'padding', 'ceilMode', 'countIncludePad', 'divisorOverride']);
    this.kernelSize = kernelSize;
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    return avgPool2d(x, this.kernelSize, this.options);
  }

  override extraRepr(): string {
    return `kernelSize=${JSON.stringify(this.kernelSize)}${showOptions(this.options)}`;
  }
}

/** Mean of windows that divide [N,C,H,W] into `outputSize` rows and columns, see `adaptiveAvgPool2d`. Source: torch.nn.AdaptiveAvgPool2d. */
export class AdaptiveAvgPool2d extends Module {
  readonly outputSize: OutputSize;

  constructor(outputSize: OutputSize) {
    super();
    this.outputSize = outputSize;
  }

  forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.outputSize);
  }

  override extraRepr(): string {
    return `outputSize=${JSON.stringify(this.outputSize)}`;
  }
}
