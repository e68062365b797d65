/// <reference lib="esnext.disposable" preserve="true" />
// Puts the ops on Tensor: `x.add(y)` is `add(x, y)`. The one file with side effects; 'feathermap/functional' works without it.
import { type BackwardOptions, backward } from './autograd/backward.ts';
import { assignGradient, showGradient } from './autograd/gradient.ts';
import * as ops from './ops/index.ts';
import type { ExtremumOptions } from './ops/reduce.ts';
import type { ReduceOptions } from './ops/sum.ts';
import { dispose } from './tensor/dispose.ts';
import type { TypedArray } from './tensor/dtype.ts';
import { inspect, type Nested, tolist } from './tensor/print.ts';
import { copyTo, data, item } from './tensor/read.ts';
import { type GradientHook, Tensor } from './tensor/tensor.ts';

const METHODS = {
  abs: ops.abs,
  add: ops.add,
  argmax: ops.argmax,
  argmin: ops.argmin,
  bernoulli_: ops.bernoulli_,
  clamp: ops.clamp,
  clone: ops.clone,
  contiguous: ops.contiguous,
  copy_: ops.copy_,
  detach: ops.detach,
  div: ops.div,
  eq: ops.eq,
  exp: ops.exp,
  expand: ops.expand,
  fill_: ops.fill_,
  flatten: ops.flatten,
  ge: ops.ge,
  gt: ops.gt,
  le: ops.le,
  log: ops.log,
  logSoftmax: ops.logSoftmax,
  lt: ops.lt,
  matmul: ops.matmul,
  max: ops.max,
  maximum: ops.maximum,
  mean: ops.mean,
  min: ops.min,
  minimum: ops.minimum,
  mul: ops.mul,
  narrow: ops.narrow,
  ne: ops.ne,
  neg: ops.neg,
  normal_: ops.normal_,
  permute: ops.permute,
  pow: ops.pow,
  reciprocal: ops.reciprocal,
  relu: ops.relu,
  reshape: ops.reshape,
  select: ops.select,
  sigmoid: ops.sigmoid,
  slice: ops.slice,
  softmax: ops.softmax,
  sqrt: ops.sqrt,
  square: ops.square,
  squeeze: ops.squeeze,
  sub: ops.sub,
  sum: ops.sum,
  tanh: ops.tanh,
  to: ops.to,
  transpose: ops.transpose,
  uniform_: ops.uniform_,
  unsqueeze: ops.unsqueeze,
  var: ops.variance,
  view: ops.view,
  zero_: ops.zero_,
} as const;

/** The methods that are functions with the tensor as first argument, without the overloaded ones. */
type OpMethods = {
  [Name in Exclude<keyof typeof METHODS, 'max' | 'min'>]: (typeof METHODS)[Name] extends (
    x: infer _X,
    ...rest: infer Rest
  ) => infer Result
    ? (...rest: Rest) => Result
    : never;
};

declare module './tensor/tensor.ts' {
  interface Tensor extends OpMethods {
    /** The largest elements, with `returnIndices` also where they are; see `max`. */
    max(options: ExtremumOptions & { returnIndices: true }): [values: Tensor, indices: Tensor];
    max(options?: ReduceOptions): Tensor;
    /** The smallest elements, with `returnIndices` also where they are; see `min`. */
    min(options: ExtremumOptions & { returnIndices: true }): [values: Tensor, indices: Tensor];
    min(options?: ReduceOptions): Tensor;
    /** Its elements where the condition is not 0, else those of `other`. Source: torch.Tensor.where. */
    where(condition: Tensor, other: ops.TensorOrNumber): Tensor;
    /** The gradient that `backward` left, or null. Setting null forgets it. Source: torch.Tensor.grad. */
    grad: Tensor | null;
    /** Computes gradients of all leaves that led here; see `backward`. */
    backward(options?: BackwardOptions): void;
    /** A fresh typed array in ordinary memory, in row-major order. */
    data(): TypedArray;
    /** The value of a tensor with one element. Source: torch.Tensor.item. */
    item(): number;
    /** The elements as nested arrays. Source: torch.Tensor.tolist. */
    tolist(): Nested;
    /** What `JSON.stringify` writes: the elements as nested arrays. */
    toJSON(): Nested;
    /** Copies the elements in row-major order into an array of the same length. */
    copyTo(array: TypedArray): void;
    /** Gives the memory back now, also that of views. */
    dispose(): void;
    /** `using x = ...` disposes at the end of the block. */
    [Symbol.dispose](): void;
    /** Calls `hook` with the gradient of this tensor when backward reaches it; what it returns replaces it. Returns how to remove it. */
    registerHook(hook: GradientHook): () => void;
    /** Lets backward store the gradient of a tensor that is no leaf. Source: torch.Tensor.retain_grad. */
    retainGrad(): void;
  }
}

function registerHook(tensor: Tensor, hook: GradientHook): () => void {
  if (typeof hook !== 'function') throw new TypeError(`registerHook: expected a function, got ${typeof hook}`);
  if (!tensor.requiresGrad) throw new Error(`registerHook: ${tensor} does not require gradients`);
  const hooks = (tensor.hooks ??= []);
  hooks.push(hook);
  return () => {
    const index = hooks.indexOf(hook);
    if (index >= 0) hooks.splice(index, 1);
  };
}

function define(name: PropertyKey, method: (tensor: Tensor, ...rest: never[]) => unknown): void {
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: never[]) {
      return method(this, ...rest);
    },
    configurable: true,
    writable: true,
  });
}

for (const [name, method] of Object.entries(METHODS)) define(name, method as never);
define('backward', backward);
define('data', data);
define('item', item);
define('tolist', tolist);
define('toJSON', tolist);
define(Symbol.for('nodejs.util.inspect.custom'), inspect);
define('copyTo', copyTo);
define('dispose', dispose);
define(Symbol.dispose ?? Symbol.for('Symbol.dispose'), dispose);
define('registerHook', registerHook);
define('where', (x, condition: Tensor, other: ops.TensorOrNumber) => ops.where(condition, x, other));
define('retainGrad', (tensor) => {
  if (!tensor.requiresGrad) throw new Error(`retainGrad: ${tensor} does not require gradients`);
  tensor.retainsGrad = true;
});
Object.defineProperty(Tensor.prototype, 'grad', {
  get(this: Tensor) {
    return showGradient(this);
  },
  set(this: Tensor, value: Tensor | null) {
    assignGradient(this, value);
  },
  configurable: true,
});
