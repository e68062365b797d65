// Loss functions as modules, for those who configure them once.
import { type CrossEntropyOptions, crossEntropy, mseLoss } from '../ops/loss.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Module } from './module.ts';

/** Cross-entropy of logits against labels. Options as `crossEntropy`. Source: torch.nn.CrossEntropyLoss. */
export class CrossEntropyLoss extends Module {
  readonly options: CrossEntropyOptions;

  constructor(options: CrossEntropyOptions = {}) {
    super();
    this.options = options;
  }

  forward(logits: Tensor, labels: Tensor): Tensor {
    return crossEntropy(logits, labels, this.options);
  }
}

/** Mean squared error. Source: torch.nn.MSELoss. */
export class MSELoss extends Module {
  readonly reduction: 'mean' | 'sum' | 'none';

  constructor({ reduction = 'mean' }: { reduction?: 'mean' | 'sum' | 'none' } = {}) {
    super();
    this.reduction = reduction;
  }

  forward(x: Tensor, target: Tensor): Tensor {
    return mseLoss(x, target, { reduction: this.reduction });
  }
}
