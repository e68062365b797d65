// Optimisers and schedules: optim.json, with the numbers that belong to it.
import type { Tolerance } from '../reference/compare.ts';
import { values } from '../reference/values.ts';
import table from './optim.json' with { type: 'json' };

/** The golden tensor 'optim/<name>' holds the parameters [7] after each of 10 steps. */
export interface OptimCase {
  name: string;
  optimizer: 'SGD' | 'Adam' | 'AdamW';
  options: {
    lr?: number;
    momentum?: number;
    dampening?: number;
    weightDecay?: number;
    nesterov?: boolean;
    betas?: [number, number];
    eps?: number;
  };
}

export const optimCases: readonly OptimCase[] = table.optimizers as OptimCase[];

/** The parameters before the first step, and the gradient of each step (which does not depend on the parameters). */
export function optimInputs({ name }: OptimCase): { w: Float32Array; gradients: Float32Array[] } {
  const shape = [table.parameters];
  const gradients = Array.from({ length: table.steps }, (_, step) => values(`optim/${name}/grad/${step}`, shape));
  return { w: values(`optim/${name}/w`, shape), gradients };
}

export const optimTolerance: Tolerance = { c: 4, terms: 10, scale: 1 };

/** The golden list 'schedule/<name>' holds the learning rates of 25 epochs; the optimiser starts at `baseLr`. */
export interface ScheduleCase {
  name: string;
  schedule: 'StepLR' | 'MultiStepLR' | 'CosineAnnealingLR' | 'ExponentialLR';
  options: { stepSize?: number; gamma?: number; milestones?: number[]; tMax?: number; etaMin?: number };
}

export const scheduleCases: readonly ScheduleCase[] = table.schedules as ScheduleCase[];

export const baseLr: number = table.baseLr;
