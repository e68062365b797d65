// Loss functions as modules, for those who configure them once.
import { type CrossEntropyOptions, crossEntropy, type MseLossOptions, mseLoss } from '../ops/loss.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Module } from './module.ts';

/** Cross-entropy of logits against labels. Options as `crossEntropy`; `weight` becomes a buffer. Source: torch.nn.CrossEntropyLoss. */
export class CrossEntropyLoss extends Module {
  readonly options: CrossEntropyOptions;

  constructor(options: CrossEntropyOptions = {}) {
    super();
    checkOptions('CrossEntropyLoss', options, ['weight', 'ignoreIndex', 'reduction', 'labelSmoothing']);
    this.options = options;
    if (options.weight) this.registerBuffer('weight', options.weight);
  }

  forward(logits: Tensor, labels: Tensor): Tensor {
    return crossEntropy(logits, labels, this.options);
  }
}

/** Mean squared error. Source: torch.nn.MSELoss. */
export class MSELoss extends Module {
  readonly options: MseLossOptions;

  constructor(options: MseLossOptions = {}) {
    super();
    checkOptions('MSELoss', options, ['reduction']);
    this.options = options;
  }

  forward(x: Tensor, target: Tensor): Tensor {
    return mseLoss(x, target, this.options);
  }
}
