// Layers without parameters: each is one function with its options kept.

import { relu, sigmoid, tanh } from '../ops/activation.ts';
import { type AvgPool2dOptions, avgPool2d, type MaxPool2dOptions, maxPool2d } from '../ops/pool.ts';
import { dropout } from '../ops/random.ts';
import { flatten } from '../ops/shape.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { showOptions } from './checks.ts';
import { Module } from './module.ts';

/** max(x, 0), NaN kept. Source: torch.nn.ReLU. */
export class ReLU extends Module {
  forward(x: Tensor): Tensor {
    return relu(x);
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

  constructor(p = 0.5) {
    super();
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
