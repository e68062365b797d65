// Schedules of the learning rate, stepped once per epoch. They use + - * / alone, so that the same epochs give the same rates on
// every engine: Math.cos and Math.pow do not.
import { checkOptions } from '../tensor/create.ts';
import type { Hyper } from './group.ts';
import type { Optimizer } from './optimizer.ts';

/** What a schedule can move: any optimiser. */
type Scheduled = Pick<Optimizer, 'paramGroups'>;

/** State of a schedule. */
export interface ScheduleState {
  readonly lastEpoch: number;
  readonly baseLrs: readonly number[];
}

function checkWhole(name: string, what: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`${name}: ${what} must be a whole number >= 1, got ${value}`);
}

function checkFinite(name: string, what: string, value: number): void {
  if (!(value >= 0 && value < Infinity)) throw new RangeError(`${name}: ${what} must be a number >= 0, got ${value}`);
}

/** A schedule: `step()` after each epoch sets the learning rates of all groups. Source: torch.optim.lr_scheduler. */
export abstract class LRSchedule {
  readonly #groups: readonly Hyper[];
  #lastEpoch = 0;
  #baseLrs: readonly number[];

  constructor(optimizer: Scheduled) {
    if (!Array.isArray(optimizer?.paramGroups))
      throw new TypeError(`${new.target.name}: expected an optimiser, got ${typeof optimizer}`);
    this.#groups = optimizer.paramGroups;
    this.#baseLrs = this.lastLr;
  }

  /** The rate of the group with number `group` for `epoch`, which has just begun, from its rate so far and its first one. */
  protected abstract rate(epoch: number, lr: number, baseLr: number, group: number): number;

  /** Epochs made. */
  get lastEpoch(): number {
    return this.#lastEpoch;
  }

  /** The rates of all groups now. */
  get lastLr(): readonly number[] {
    return this.#groups.map(({ lr }) => lr);
  }

  /** Ends an epoch. */
  step(): void {
    this.#lastEpoch++;
    this.#groups.forEach((group, i) => {
      group.lr = this.rate(this.#lastEpoch, group.lr, this.#baseLrs[i]!, i);
    });
  }

  /** What `loadStateDict` needs to go on; the rates themselves are the optimiser's state. */
  stateDict(): ScheduleState {
    return { lastEpoch: this.#lastEpoch, baseLrs: this.#baseLrs };
  }

  /** Goes on where `state` was taken. Throws RangeError if it has another number of groups. */
  loadStateDict({ lastEpoch, baseLrs }: ScheduleState): void {
    if (baseLrs.length !== this.#groups.length)
      throw new RangeError(`schedule: state for ${baseLrs.length} groups, the optimiser has ${this.#groups.length}`);
    this.#lastEpoch = lastEpoch;
    this.#baseLrs = [...baseLrs];
  }
}

/**
 * Multiplies the rate by `gamma` (default 0.1) every `stepSize` epochs. Source: torch.optim.lr_scheduler.StepLR.
 *
 * @throws RangeError unless stepSize is a whole number >= 1 and gamma >= 0
 * @example
 * ```ts
 * import { init, optim, tensor } from 'feathermap';
 * await init();
 * const optimizer = new optim.SGD([tensor([1], { requiresGrad: true })], { lr: 1 });
 * const schedule = new optim.StepLR(optimizer, 2, { gamma: 0.5 });
 * for (let epoch = 0; epoch < 4; epoch++) schedule.step();
 * if (optimizer.lr !== 0.25) throw new Error('wrong');
 * ```
 */
export class StepLR extends LRSchedule {
  readonly #stepSize: number;
  readonly #gamma: number;

  constructor(optimizer: Scheduled, stepSize: number, options: { gamma?: number | undefined } = {}) {
    super(optimizer);
    checkOptions('StepLR', options, ['gamma']);
    const { gamma = 0.1 } = options;
    checkWhole('StepLR', 'stepSize', stepSize);
    checkFinite('StepLR', 'gamma', gamma);
    this.#stepSize = stepSize;
    this.#gamma = gamma;
  }

  protected override rate(epoch: number, lr: number): number {
    return epoch % this.#stepSize === 0 ? lr * this.#gamma : lr;
  }
}

/**
 * Multiplies the rate by `gamma` (default 0.1) at each of the epochs in `milestones`, twice where one is named twice.
 * Source: torch.optim.lr_scheduler.MultiStepLR.
 *
 * @throws RangeError unless the milestones are whole numbers >= 1 and gamma >= 0
 * @example
 * ```ts
 * import { init, optim, tensor } from 'feathermap';
 * await init();
 * const optimizer = new optim.SGD([tensor([1], { requiresGrad: true })], { lr: 1 });
 * const schedule = new optim.MultiStepLR(optimizer, [1, 3], { gamma: 0.5 });
 * for (let epoch = 0; epoch < 2; epoch++) schedule.step();
 * if (optimizer.lr !== 0.5) throw new Error('wrong');
 * ```
 */
export class MultiStepLR extends LRSchedule {
  readonly #milestones: readonly number[];
  readonly #gamma: number;

  constructor(optimizer: Scheduled, milestones: readonly number[], options: { gamma?: number | undefined } = {}) {
    super(optimizer);
    checkOptions('MultiStepLR', options, ['gamma']);
    const { gamma = 0.1 } = options;
    for (const milestone of milestones) checkWhole('MultiStepLR', 'milestone', milestone);
    checkFinite('MultiStepLR', 'gamma', gamma);
    this.#milestones = [...milestones];
    this.#gamma = gamma;
  }

  protected override rate(epoch: number, lr: number): number {
    for (const milestone of this.#milestones) if (milestone === epoch) lr *= this.#gamma;
    return lr;
  }
}

/**
 * Multiplies the rate by `gamma` every epoch. Source: torch.optim.lr_scheduler.ExponentialLR.
 *
 * @throws RangeError unless gamma >= 0
 * @example
 * ```ts
 * import { init, optim, tensor } from 'feathermap';
 * await init();
 * const optimizer = new optim.SGD([tensor([1], { requiresGrad: true })], { lr: 1 });
 * const schedule = new optim.ExponentialLR(optimizer, 0.5);
 * schedule.step();
 * if (optimizer.lr !== 0.5) throw new Error('wrong');
 * ```
 */
export class ExponentialLR extends LRSchedule {
  readonly #gamma: number;

  constructor(optimizer: Scheduled, gamma: number) {
    super(optimizer);
    checkFinite('ExponentialLR', 'gamma', gamma);
    this.#gamma = gamma;
  }

  protected override rate(_epoch: number, lr: number): number {
    return lr * this.#gamma;
  }
}

/** cos(pi u) for u >= 0 from + - * /: folded to [0, 1/2], then by half angles into the reach of eight terms of Taylor's series. */
export function cosineOfPi(u: number): number {
  let turn = u % 2;
  if (turn > 1) turn = 2 - turn;
  if (turn > 0.5) return -cosineOfPi(1 - turn);
  const x = (Math.PI * turn) / 2;
  let term = 1;
  let half = 1;
  for (let k = 2; k <= 16; k += 2) {
    term *= -(x * x) / (k * (k - 1));
    half += term;
  }
  return 2 * half * half - 1;
}

/**
 * Half a cosine from the first rate down to `etaMin` (default 0) over `tMax` epochs, and up again after that.
 * Source: torch.optim.lr_scheduler.CosineAnnealingLR; Loshchilov and Hutter, arXiv:1608.03983.
 *
 * @throws RangeError unless tMax is a whole number >= 1 and etaMin >= 0
 * @example
 * ```ts
 * import { init, optim, tensor } from 'feathermap';
 * await init();
 * const optimizer = new optim.SGD([tensor([1], { requiresGrad: true })], { lr: 1 });
 * const schedule = new optim.CosineAnnealingLR(optimizer, 2);
 * schedule.step();
 * if (Math.abs(optimizer.lr - 0.5) > 1e-12) throw new Error('wrong');
 * ```
 */
export class CosineAnnealingLR extends LRSchedule {
  readonly #tMax: number;
  readonly #etaMin: number;

  constructor(optimizer: Scheduled, tMax: number, options: { etaMin?: number | undefined } = {}) {
    super(optimizer);
    checkOptions('CosineAnnealingLR', options, ['etaMin']);
    const { etaMin = 0 } = options;
    checkWhole('CosineAnnealingLR', 'tMax', tMax);
    checkFinite('CosineAnnealingLR', 'etaMin', etaMin);
    this.#tMax = tMax;
    this.#etaMin = etaMin;
  }

  protected override rate(epoch: number, _lr: number, baseLr: number): number {
    return this.#etaMin + ((baseLr - this.#etaMin) * (1 + cosineOfPi(epoch / this.#tMax))) / 2;
  }
}

/** A factor of the first rate, by epoch. */
export type RateFactor = (epoch: number) => number;

/**
 * Sets the rate to the first one times `lrLambda(epoch)`, from epoch 0 on; a list has one function per group of parameters.
 * Source: torch.optim.lr_scheduler.LambdaLR.
 *
 * @throws TypeError unless lrLambda is a function or a list of them, RangeError for another number of functions than groups
 * @example
 * ```ts
 * import { init, optim, tensor } from 'feathermap';
 * await init();
 * const optimizer = new optim.SGD([tensor([1], { requiresGrad: true })], { lr: 1 });
 * const warmup = new optim.LambdaLR(optimizer, (epoch) => Math.min(1, (epoch + 1) / 4));
 * if (optimizer.lr !== 0.25) throw new Error('wrong');
 * warmup.step();
 * if (optimizer.lr !== 0.5) throw new Error('wrong');
 * ```
 */
export class LambdaLR extends LRSchedule {
  readonly #factors: readonly RateFactor[];

  constructor(optimizer: Scheduled, lrLambda: RateFactor | readonly RateFactor[]) {
    super(optimizer);
    const groups = optimizer.paramGroups;
    this.#factors = Array.isArray(lrLambda) ? lrLambda : groups.map(() => lrLambda as RateFactor);
    for (const factor of this.#factors)
      if (typeof factor !== 'function')
        throw new TypeError(`LambdaLR: lrLambda is a function or a list of them, got ${typeof factor}`);
    if (this.#factors.length !== groups.length)
      throw new RangeError(`LambdaLR: ${this.#factors.length} functions for ${groups.length} groups`);
    groups.forEach((group, i) => {
      group.lr *= this.#factors[i]!(0);
    });
  }

  protected override rate(epoch: number, _lr: number, baseLr: number, group: number): number {
    return baseLr * this.#factors[group]!(epoch);
  }
}
