// All public ops, one line per family.
export * from './activation.ts';
export { adaptiveAvgPool2d } from './adaptive-pool.ts';
export { type BatchNormOptions, batchNorm } from './batch-norm.ts';
export type { TensorOrNumber } from './broadcast.ts';
export { eq, ge, gt, le, lt, ne, where } from './compare.ts';
export { type Conv2dOptions, conv2d } from './conv2d.ts';
export { channelsLast, clone, contiguous, copy_, fill_, scaleImage, to, zero_ } from './copy.ts';
export { add, div, maximum, minimum, mul, pow, sub } from './elementwise.ts';
export { type CrossEntropyOptions, crossEntropy, mseLoss, nllLoss } from './loss.ts';
export { linear, matmul } from './matmul.ts';
export { cat, concat, type PadOptions, pad, stack } from './pad.ts';
export { type AvgPool2dOptions, avgPool2d, type MaxPool2dOptions, maxPool2d } from './pool.ts';
export {
  bernoulli,
  bernoulli_,
  type DropoutOptions,
  dropout,
  manualSeed,
  normal_,
  rand,
  randn,
  uniform_,
} from './random.ts';
export {
  argmax,
  argmin,
  type ExtremumOptions,
  max,
  mean,
  min,
  type PositionOptions,
  type ReduceOptions,
  sum,
  type VarianceOptions,
  variance,
} from './reduce.ts';
export {
  detach,
  expand,
  flatten,
  narrow,
  permute,
  reshape,
  type SliceRange,
  select,
  slice,
  squeeze,
  transpose,
  unsqueeze,
  view,
} from './shape.ts';
export { logSoftmax, softmax } from './softmax.ts';
export { abs, type ClampOptions, clamp, exp, log, neg, reciprocal, sqrt, square } from './unary.ts';
export type { Padding, Pair } from './window.ts';
