// A tensor: shape, strides and dtype over a storage. The class holds no arithmetic; ts/methods.ts puts the ops on it.
import type { Location } from '../runtime/command.ts';
import type { Storage } from '../runtime/storage.ts';
import { type DType, elementBytes } from './dtype.ts';
import { contiguousStrides, show, sizeOf } from './shape.ts';

/** Where a tensor came from on the tape: the node that made it, and which of its outputs it is. Set by autograd. */
export interface Origin {
  readonly output: number;
}

/** Changes a gradient on its way back, or just looks at it. */
export type GradientHook = (gradient: Tensor) => Tensor | undefined;

/** What a tensor is made of. */
export interface TensorParts {
  readonly storage: Storage;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Elements per step along each dimension; default row-major. */
  readonly strides?: readonly number[] | undefined;
  /** Elements from the start of the storage. */
  readonly offset?: number | undefined;
}

/**
 * A multi-dimensional array in linear memory. Logically row-major [N,C,H,W] as in PyTorch, whatever the strides say.
 * Made by `tensor`, `zeros`, `randn` ... and by ops; never with `new`.
 */
export class Tensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Elements per step along each dimension. */
  readonly strides: readonly number[];
  /** Elements from the start of the storage. */
  readonly offset: number;
  /** @internal */
  readonly storage: Storage;
  /** @internal Node of the tape that made this tensor. */
  origin: Origin | null = null;
  /** @internal */
  hooks: GradientHook[] | null = null;
  /** @internal Set by `retainGrad`. */
  retainsGrad = false;
  /** @internal The gradient's buffer; `grad` shows it when it holds something. */
  gradient: Tensor | null = null;
  /** @internal A gradient on the tape, from `backward` with `createGraph`; it stands in for the buffer. */
  graphGradient: Tensor | null = null;
  /** @internal Whether someone has been given the gradient, and may hold on to it. */
  gradientSeen = false;
  /** @internal i32 in linear memory: 0 while the next gradient overwrites, 1 while it adds. */
  accumulate: Tensor | null = null;
  #requiresGrad = false;

  /** @internal */
  constructor({ storage, shape, dtype, strides, offset = 0 }: TensorParts) {
    this.storage = storage;
    this.shape = shape;
    this.dtype = dtype;
    this.strides = strides ?? contiguousStrides(shape);
    this.offset = offset;
  }

  /** Number of dimensions. */
  get ndim(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** Whether gradients flow to this tensor: set on a leaf, or true because an input of its op needs them. */
  get requiresGrad(): boolean {
    return this.#requiresGrad || this.origin !== null;
  }

  set requiresGrad(value: boolean) {
    if (typeof value !== 'boolean') throw new TypeError(`requiresGrad must be true or false, got ${typeof value}`);
    if (this.origin && !value)
      throw new Error('requiresGrad: only leaf tensors can be changed; use detach() for a tensor that an op made');
    if (value && this.dtype !== 'f32')
      throw new TypeError(`requiresGrad: only f32 tensors can have gradients, this one is ${this.dtype}`);
    this.#requiresGrad = value;
  }

  /** Whether no op on the tape made it: parameters, inputs, results of `detach` and of ops under `noGrad`. */
  get isLeaf(): boolean {
    return this.origin === null;
  }

  toString(): string {
    return `Tensor(${show(this.shape)}, ${this.dtype}${this.requiresGrad ? ', requiresGrad' : ''})`;
  }
}

/** The memory of a tensor, as commands name it. */
export function locationOf(tensor: Tensor): Location {
  const bytes = elementBytes(tensor.dtype);
  let last = 0;
  for (let i = 0; i < tensor.shape.length; i++) last += Math.max(0, tensor.shape[i]! - 1) * tensor.strides[i]!;
  return { storage: tensor.storage, byteOffset: tensor.offset * bytes, bytes: (last + 1) * bytes };
}
