// Training loop and metrics.
export { type EpochResult, type FitOptions, fit, type Schedule } from './fit.ts';
export {
  type Batches,
  confusionMatrix,
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type Loss,
  type LossFunction,
} from './metrics.ts';
