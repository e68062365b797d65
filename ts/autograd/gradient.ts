// Where gradients end: the `.grad` of a leaf. Its buffer is made once and then written in place, so that programs can name it.
// Beside it lies a word in linear memory: 0 while the next gradient overwrites the buffer, 1 while it adds. Commands read it,
// so zeroing gradients costs nothing and needs no new program.
import { accumulateGrad, ELEMENT_TILE, fill, markGradients } from '../generated/kernels.ts';
import { relayout } from '../ops/copy.ts';
import { add } from '../ops/elementwise.ts';
import { engine } from '../runtime/engine.ts';
import { apply, checkReadable, tableAddress } from '../tensor/apply.ts';
import { allocateTensor } from '../tensor/create.ts';
import { handOver, keep } from '../tensor/lifetime.ts';
import type { Op } from '../tensor/op.ts';
import { contiguousStrides, isDense, show } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';

/** inputs: buffer (changed), flag (changed), gradient. */
export const accumulateGradOp: Op<null, null> = {
  name: 'accumulateGrad',
  infer: () => ({ geometry: null, outputs: [] }),
  lower(emit, _geometry, [buffer, flag, gradient]) {
    const count = buffer!.size;
    const tiles = Math.ceil(count / ELEMENT_TILE);
    emit.command(
      accumulateGrad,
      { y: locationOf(buffer!), x: locationOf(gradient!), flag: locationOf(flag!), count },
      { tiles, work: count / 4 },
    );
    emit.command(fill, { y: locationOf(flag!), bits: 1, count: 1 }, { tiles: 1, work: 1 });
  },
  backward: { notDifferentiable: 'it ends the tape' },
  saves: {},
  mutates: [0, 1],
};

/** inputs: flags (changed) of buffers that something else than `accumulateGrad` has filled. */
export function markGradientsOp(flags: number): Op<null, null> {
  return {
    name: 'markGradients',
    infer: () => ({ geometry: null, outputs: [] }),
    lower(emit, _geometry, inputs) {
      const table = emit.table(inputs.map((flag) => tableAddress(locationOf(flag!), 'write')));
      emit.command(markGradients, { flags: table, count: flags }, { tiles: 1, work: flags });
    },
    backward: { notDifferentiable: 'it ends the tape' },
    saves: {},
    mutates: Array.from({ length: flags }, (_, i) => i),
  };
}

/** The layout of a leaf's gradient: its own, or row-major for a view that has gaps or repeats itself. */
function gradientStrides({ shape, strides }: Tensor): readonly number[] {
  return isDense(shape, strides) ? strides : contiguousStrides(shape);
}

/** Makes the buffer of a leaf's gradient, anew if someone disposed it. */
function gradientBuffer(leaf: Tensor): Tensor {
  if (leaf.gradient?.storage.state === 'live' && leaf.accumulate) return leaf.gradient;
  const buffer = allocateTensor(leaf.shape, 'f32', gradientStrides(leaf));
  buffer.storage.persistent = true;
  leaf.accumulate ??= keep(allocateTensor([], 'i32'));
  leaf.gradient = buffer;
  setHasGradient(leaf, false);
  return buffer;
}

/** Adds a gradient to a leaf's, or starts it. */
export function accumulate(leaf: Tensor, gradient: Tensor): void {
  const { graphGradient } = leaf;
  if (graphGradient) assignGradient(leaf, graphGradient);
  const buffer = gradientBuffer(leaf);
  apply(accumulateGradOp, [buffer, leaf.accumulate!, relayout(gradient, buffer.strides)], null);
}

/** The same out of place: the sum is an op call on the tape, so that the gradient can be differentiated. */
export function accumulateInGraph(leaf: Tensor, gradient: Tensor): void {
  const before = gradientOf(leaf);
  leaf.graphGradient = relayout(before ? add(before, gradient) : gradient, gradientStrides(leaf));
}

function flagIndex(leaf: Tensor): number {
  const { address, owner } = leaf.accumulate!.storage;
  if (owner !== engine()) throw new Error(`grad: this ${leaf} was made before shutdown()`);
  return address >>> 2;
}

/** Says whether the buffer holds a gradient. */
export function setHasGradient(leaf: Tensor, value: boolean): void {
  if (leaf.accumulate) engine().memory.i32[flagIndex(leaf)] = value ? 1 : 0;
}

/** The gradient, or null while there is none. */
export function gradientOf(tensor: Tensor): Tensor | null {
  if (tensor.graphGradient) return tensor.graphGradient;
  if (!tensor.gradient) return null;
  if (!tensor.accumulate) return tensor.gradient;
  if (tensor.gradient.storage.state === 'released') return null;
  return engine().memory.i32[flagIndex(tensor)] ? tensor.gradient : null;
}

/** Leaves the buffer to whoever was given it, so that the next gradient does not show up there; a program keeps its own. */
function abandonSeen(tensor: Tensor): void {
  const { gradient, gradientSeen } = tensor;
  tensor.gradientSeen = false;
  if (!gradientSeen || !gradient || gradient.storage.pins || gradient.storage.state !== 'live') return;
  handOver(gradient.storage);
  tensor.gradient = null;
}

/** The gradient for someone who may keep it. */
export function showGradient(tensor: Tensor): Tensor | null {
  const gradient = gradientOf(tensor);
  tensor.gradientSeen = gradient !== null;
  return gradient;
}

/**
 * `t.grad = null` forgets the gradient. Its buffer stays for the next one, unless someone has read it: then it is theirs, for
 * a step or as long as they `keep` it. A tensor is copied into the buffer.
 */
export function assignGradient(tensor: Tensor, value: Tensor | null): void {
  if (value !== null) checkGradient('grad', value, tensor);
  tensor.graphGradient = null;
  if (value === null) {
    if (tensor.accumulate) {
      setHasGradient(tensor, false);
      abandonSeen(tensor);
    } else tensor.gradient = null;
    return;
  }
  gradientBuffer(tensor);
  setHasGradient(tensor, false);
  accumulate(tensor, value);
}

/** Throws unless `gradient` can be one of `tensor`. */
export function checkGradient(op: string, gradient: unknown, tensor: Tensor): void {
  checkReadable(op, gradient);
  if (gradient.dtype !== 'f32') throw new TypeError(`${op}: a gradient is f32, got ${gradient.dtype}`);
  if (show(gradient.shape) !== show(tensor.shape))
    throw new RangeError(`${op}: gradient ${show(gradient.shape)} for a tensor of shape ${show(tensor.shape)}`);
}
