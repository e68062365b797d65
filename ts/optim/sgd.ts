// Stochastic gradient descent.
import {
  COUNTER_STEPS,
  SGD_BLOCK_BYTES,
  SGD_DAMPENING,
  SGD_LR,
  SGD_MAXIMIZE,
  SGD_MOMENTUM,
  SGD_NESTEROV,
  SGD_WEIGHT_DECAY,
  sgd,
  sgdAdvance,
} from '../generated/kernels.ts';
import { checkFlag } from '../tensor/create.ts';
import type { Hyper, Method } from './group.ts';
import { checkHyper, Optimizer, type Parameters } from './optimizer.ts';

/** Hyper-parameters of `SGD`. */
export interface SGDHyper extends Hyper {
  /** Share of the last update that goes on. Default 0. */
  momentum: number;
  /** The new gradient counts 1 - dampening in the average. Default 0. */
  dampening: number;
  /** Adds weightDecay times the parameter to its gradient. Default 0. */
  weightDecay: number;
  /** Looks ahead along the momentum; needs momentum and no dampening. Default false. */
  nesterov: boolean;
  /** Climbs instead of descending. Default false. */
  maximize: boolean;
}

const METHOD: Method<SGDHyper> = {
  name: 'SGD',
  // There is no default rate: the check refuses one that is absent.
  defaults: { lr: undefined as never, momentum: 0, dampening: 0, weightDecay: 0, nesterov: false, maximize: false },
  check(op, { lr, momentum, dampening, weightDecay, nesterov, maximize }) {
    checkHyper(op, 'lr', lr, 0);
    checkHyper(op, 'momentum', momentum, 0);
    checkHyper(op, 'dampening', dampening, -Infinity);
    checkHyper(op, 'weightDecay', weightDecay, 0);
    checkFlag(op, 'nesterov', nesterov);
    checkFlag(op, 'maximize', maximize);
    if (nesterov && (momentum === 0 || dampening !== 0))
      throw new RangeError(`${op}: nesterov needs momentum and no dampening, got ${momentum} and ${dampening}`);
  },
  blockBytes: SGD_BLOCK_BYTES,
  write(block, { lr, momentum, dampening, weightDecay, nesterov, maximize }) {
    block.set(SGD_LR, lr);
    block.set(SGD_MOMENTUM, momentum);
    block.set(SGD_DAMPENING, dampening);
    block.set(SGD_WEIGHT_DECAY, weightDecay);
    block.set(SGD_NESTEROV, nesterov ? 1 : 0);
    block.set(SGD_MAXIMIZE, maximize ? 1 : 0);
  },
  stateNames: ({ momentum }) => (momentum ? ['momentumBuffer'] : []),
  count(counter, _hyper, steps) {
    counter.set(COUNTER_STEPS, steps);
  },
  recount: () => false,
  stepsUnsaid: 1,
  advance: sgdAdvance,
  update: sgd,
  cost: 0.6,
};

/**
 * Stochastic gradient descent with momentum: b = momentum b + (1 - dampening) (g + weightDecay p), p = p - lr b (with `nesterov`:
 * p - lr (g + weightDecay p + momentum b)). The first step starts b with the plain gradient. Source: torch.optim.SGD.
 *
 * @throws RangeError or TypeError for hyper-parameters out of range (NaN included), an unknown option, or tensors that cannot be trained
 * @example
 * ```ts
 * import { init, optim, tensor } from 'feathermap';
 * await init();
 * const w = tensor([1, 2], { requiresGrad: true });
 * const optimizer = new optim.SGD([w], { lr: 0.1, momentum: 0.9 });
 * w.mul(w).sum().backward();
 * optimizer.step();
 * if (Math.abs(w.data()[1] - 1.6) > 1e-6) throw new Error('wrong');
 * ```
 */
export class SGD extends Optimizer<SGDHyper> {
  constructor(params: Parameters<SGDHyper>, options: Partial<SGDHyper> & Hyper) {
    super(METHOD, params, options ?? {});
  }
}
