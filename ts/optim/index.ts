// Optimisers and schedules of the learning rate.
export { Adam, type AdamHyper, AdamW } from './adam.ts';
export {
  type Hyper,
  Optimizer,
  type OptimizerState,
  type ParameterState,
  type Parameters,
  type ParamGroup,
} from './optimizer.ts';
export {
  CosineAnnealingLR,
  ExponentialLR,
  LRSchedule,
  MultiStepLR,
  type ScheduleState,
  StepLR,
} from './schedule.ts';
export { SGD, type SGDHyper } from './sgd.ts';
