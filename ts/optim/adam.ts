// Adam, and AdamW with decoupled weight decay.
import {
  ADAM_BETA1,
  ADAM_BETA2,
  ADAM_BLOCK_BYTES,
  ADAM_DECOUPLED,
  ADAM_EPS,
  ADAM_LR,
  ADAM_MAXIMIZE,
  ADAM_WEIGHT_DECAY,
  adam,
  adamAdvance,
  COUNTER_POWER1,
  COUNTER_POWER2,
  COUNTER_STEPS,
} from '../generated/kernels.ts';
import { checkFlag } from '../tensor/create.ts';
import { printed } from '../tensor/printed.ts';
import type { Hyper, Method } from './group.ts';
import { checkHyper, Optimizer, type Parameters } from './optimizer.ts';

/** Hyper-parameters of `Adam` and `AdamW`. */
export interface AdamHyper extends Hyper {
  /** Decay of the running means of the gradient and of its square. Default [0.9, 0.999]. */
  betas: readonly [number, number];
  /** Added to the root of the mean square. Default 1e-8. */
  eps: number;
  /** Adam: adds weightDecay times the parameter to its gradient, default 0. AdamW: shrinks the parameter by lr weightDecay, default 0.01. */
  weightDecay: number;
  /** Climbs instead of descending. Default false. */
  maximize: boolean;
}

/** Steps whose powers are multiplied up one by one. */
const COUNTED = 2 ** 24;
/** 1 - x is 1 for every x below this. */
const NOTHING = 2 ** -60;

/** base^exponent as the product that adamAdvance forms step by step, to the last bit; by squaring where that would take long. */
function power(base: number, exponent: number): number {
  let result = 1;
  let left = exponent;
  for (const end = Math.max(0, exponent - COUNTED); left > end && result > NOTHING; left--) result *= base;
  if (result <= NOTHING) return result;
  for (let square = base; left > 0; left = Math.floor(left / 2), square *= square) if (left % 2) result *= square;
  return result;
}

function adamMethod(name: string, decoupled: boolean, weightDecay: number): Method<AdamHyper> {
  return {
    name,
    defaults: { lr: 0.001, betas: [0.9, 0.999], eps: 1e-8, weightDecay, maximize: false },
    check(op, { lr, betas, eps, weightDecay: decay, maximize }) {
      checkHyper(op, 'lr', lr, 0);
      if (!Array.isArray(betas) || betas.length !== 2)
        throw new TypeError(`${op}: betas must be a pair of numbers, got ${printed(betas)}`);
      checkHyper(op, 'betas[0]', betas[0], 0, 1);
      checkHyper(op, 'betas[1]', betas[1], 0, 1);
      checkHyper(op, 'eps', eps, 0);
      checkHyper(op, 'weightDecay', decay, 0);
      checkFlag(op, 'maximize', maximize);
    },
    blockBytes: ADAM_BLOCK_BYTES,
    write(block, { lr, betas, eps, weightDecay: decay, maximize }) {
      block.set(ADAM_LR, lr);
      block.set(ADAM_BETA1, betas[0]);
      block.set(ADAM_BETA2, betas[1]);
      block.set(ADAM_EPS, eps);
      block.set(ADAM_WEIGHT_DECAY, decay);
      block.set(ADAM_DECOUPLED, decoupled ? 1 : 0);
      block.set(ADAM_MAXIMIZE, maximize ? 1 : 0);
    },
    stateNames: () => ['expAvg', 'expAvgSq'],
    count(counter, { betas }, steps) {
      counter.set(COUNTER_STEPS, steps);
      counter.set(COUNTER_POWER1, power(betas[0], steps));
      counter.set(COUNTER_POWER2, power(betas[1], steps));
    },
    recount: (before, after) => before.betas.some((beta, i) => beta !== after.betas[i]),
    stepsUnsaid: null,
    advance: adamAdvance,
    update: adam,
    cost: 1.5,
  };
}

const ADAM = adamMethod('Adam', false, 0);
const ADAM_W = adamMethod('AdamW', true, 0.01);

/**
 * Adam: running means m of the gradient and v of its square, corrected for their start at 0; p = p - lr m / (sqrt(v) + eps).
 *
 * Source: torch.optim.Adam; Kingma and Ba, arXiv:1412.6980.
 *
 * @throws RangeError or TypeError for hyper-parameters out of range (NaN included), an unknown option, or tensors that cannot be trained
 * @example
 * ```ts
 * import { init, optim, tensor } from 'feathermap';
 * await init();
 * const w = tensor([1, -2], { requiresGrad: true });
 * const optimizer = new optim.Adam([w], { lr: 0.1 });
 * w.mul(w).sum().backward();
 * optimizer.step();
 * if (Math.abs(w.data()[0] - 0.9) > 1e-6) throw new Error('the first step has length lr');
 * ```
 */
export class Adam extends Optimizer<AdamHyper> {
  constructor(params: Parameters<AdamHyper>, options: Partial<AdamHyper> = {}) {
    super(ADAM, params, options);
  }
}

/**
 * Adam whose weight decay acts on the parameter itself, p = p (1 - lr weightDecay), not on its gradient.
 *
 * Source: torch.optim.AdamW; Loshchilov and Hutter, arXiv:1711.05101.
 *
 * @throws as `Adam`
 * @example
 * ```ts
 * import { init, optim, tensor } from 'feathermap';
 * await init();
 * const w = tensor([1], { requiresGrad: true });
 * const optimizer = new optim.AdamW([w], { lr: 0.1, weightDecay: 0.5 });
 * w.mul(0).sum().backward();
 * optimizer.step();
 * if (Math.abs(w.item() - 0.95) > 1e-6) throw new Error('wrong');
 * ```
 */
export class AdamW extends Optimizer<AdamHyper> {
  constructor(params: Parameters<AdamHyper>, options: Partial<AdamHyper> = {}) {
    super(ADAM_W, params, options);
  }
}
