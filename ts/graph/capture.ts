// Capturing: op calls are written down instead of being run.

import { observeHooks } from '../autograd/backward.ts';
import { noGrad } from '../autograd/mode.ts';
import { beginRandomCapture, endRandomCapture } from '../ops/random.ts';
import { CaptureError } from '../runtime/errors.ts';
import { Storage } from '../runtime/storage.ts';
import { setRecorder } from '../tensor/apply.ts';
import { type DType, elementBytes } from '../tensor/dtype.ts';
import type { OpCall } from '../tensor/op.ts';
import { isContiguous, sameShape, sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { PartsWatch, type Whole } from './parts.ts';

/** What a captured input looks like. */
export interface InputSpec {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly strides: readonly number[];
}

/** Something that a captured list depends on: a module, in training or evaluation, with the parameters and layers it has. */
export interface Moded extends Whole {
  readonly training: boolean;
}

/** A module as it was when it ran. */
interface Mode {
  readonly training: boolean;
  readonly parts: readonly unknown[];
}

/** A list of op calls, and what it depends on besides its inputs. */
export interface Captured<T> {
  readonly calls: readonly OpCall[];
  readonly inputs: readonly Tensor[];
  readonly result: T;
  /** Leaves of the tape that it reads: parameters, and other tensors from outside. */
  readonly leaves: readonly Tensor[];
  /** Whether a replay would still do what the callback does: same modes, layers, parameters and trainability, no new hooks. */
  isCurrent(): boolean;
  /** Whether the modules still have the same layers and parameters. */
  hasSameParts(): boolean;
}

let modes: Map<Moded, Mode> | null = null;

/** Notes that a module runs: its mode and its parts become part of the program's key. */
export function noteModule(module: Moded): void {
  modes?.set(module, { training: module.training, parts: module.parts() });
}

observeHooks(() => {
  if (modes) throw new CaptureError('a gradient hook cannot run inside a captured step');
});

/** A stand-in for an input: it has a shape and no memory. */
function standIn({ shape, dtype, strides }: InputSpec): Tensor {
  return new Tensor({ storage: new Storage(sizeOf(shape) * elementBytes(dtype)), shape, dtype, strides });
}

/** The spec of a tensor whose elements are dense in memory; others are described as they will be after a copy. */
export function inputSpec(tensor: Tensor): InputSpec {
  const { shape, dtype, strides } = tensor;
  return { shape, dtype, strides };
}

/** Whether two inputs can use the same program. */
export function sameSpec(a: InputSpec, b: InputSpec): boolean {
  if (a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return false;
  return sameShape(a.strides, b.strides) || (isContiguous(a.shape, a.strides) && isContiguous(b.shape, b.strides));
}

/** Calls `callback` with stand-ins for the inputs and returns the op calls it made. Nothing is computed. */
export function capture<T>(specs: readonly InputSpec[], callback: (...inputs: Tensor[]) => T): Captured<T> {
  if (modes) throw new Error('capture: a step is already being captured');
  const calls: OpCall[] = [];
  const inputs = specs.map(standIn);
  const leaves = new Map<Tensor, boolean>();
  const before = setRecorder({
    record: (call) => void calls.push(call),
    read(tensor) {
      if (tensor.isLeaf && tensor.storage.state !== 'planned') leaves.set(tensor, tensor.requiresGrad);
    },
  });
  const seen = (modes = new Map<Moded, Mode>());
  beginRandomCapture();
  try {
    const result = callback(...inputs);
    noGrad(endRandomCapture);
    const parts = new PartsWatch(new Map([...seen].map(([module, mode]) => [module, mode.parts])));
    return {
      calls,
      inputs,
      result,
      leaves: [...leaves.keys()],
      isCurrent: () => unchanged(seen, leaves) && parts.unchanged(),
      hasSameParts: () => parts.unchanged(),
    };
  } finally {
    modes = null;
    setRecorder(before);
  }
}

/** Whether modules are in the modes, and leaves as trainable, as they were noted. */
function unchanged(modules: ReadonlyMap<Moded, Mode>, leaves: ReadonlyMap<Tensor, boolean>): boolean {
  for (const [module, { training }] of modules) if (module.training !== training) return false;
  for (const [leaf, trainable] of leaves) if (leaf.requiresGrad !== trainable || leaf.hooks?.length) return false;
  return true;
}
