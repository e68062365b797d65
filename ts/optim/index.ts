// Optimisers and schedules of the learning rate.
export { Adam, type AdamHyper, AdamW } from './adam.ts';
export type { Hyper, ParamGroup } from './group.ts';
export { Optimizer, type Parameters } from './optimizer.ts';
export {
  CosineAnnealingLR,
  ExponentialLR,
  LambdaLR,
  LRSchedule,
  MultiStepLR,
  type RateFactor,
  type ScheduleState,
  StepLR,
} from './schedule.ts';
export { SGD, type SGDHyper } from './sgd.ts';
export type { OptimizerState, ParameterState } from './state.ts';
