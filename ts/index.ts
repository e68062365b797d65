// feathermap: train and run convolutional networks on the CPU, in WebAssembly SIMD.
import './methods.ts';

export { type BackwardOptions, backward } from './autograd/backward.ts';
export { enableGrad, isGradEnabled, noGrad } from './autograd/mode.ts';
export { type CapturedStep, type CaptureStepOptions, captureStep } from './graph/capture-step.ts';
export type { Algorithms } from './graph/choose-algorithms.ts';
export { type CompiledModel, type CompileOptions, compile } from './graph/compile.ts';
export type { StepOptimizer, StepResult } from './graph/gradient-step.ts';
export type { InferencePlan } from './graph/inference.ts';
export type { Plan, PlannedCommand, PlannedLayer } from './graph/plan.ts';
export type { Profile, Trace, TraceEvent } from './graph/profile.ts';
export * as nn from './nn/index.ts';
export * from './ops/index.ts';
export * as optim from './optim/index.ts';
export {
  type EngineInfo,
  engineInfo,
  type InitOptions,
  init,
  type MemoryStatistics,
  memoryStatistics,
  shutdown,
} from './runtime/engine.ts';
export { CaptureError, MemoryLimitError, OutOfMemoryError, WorkerError } from './runtime/errors.ts';
export {
  arange,
  type CreateOptions,
  full,
  type NestedNumbers,
  ones,
  onesLike,
  type TensorOptions,
  tensor,
  zeros,
  zerosLike,
} from './tensor/create.ts';
export type { DType, TypedArray } from './tensor/dtype.ts';
export { keep, scope } from './tensor/lifetime.ts';
export { type GradientHook, Tensor } from './tensor/tensor.ts';
