// Matrix products: matmul with batches and broadcasting, and the dense layer `linear`.
//
//   C[m, n] = sum over k of A[m, k] B[k, n]
//
// The kernel takes A by rows or transposed and packs B from any strides, so the transposes of both gradients cost no copy.
import * as kernels from '../generated/kernels.ts';
import { type Emitter, type Location, NOWHERE } from '../runtime/command.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import type { Op, Operand } from '../tensor/op.ts';
import { broadcastShapes, broadcastStrides, show, sizeOf } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { part } from './loops.ts';
import {
  checkFloat,
  emitPack,
  MAC_NANOSECONDS,
  panelFloats,
  productBlocks,
  scratchRows,
  temporaryCopy,
} from './product.ts';
import { reshape, squeeze, transpose, unsqueeze } from './shape.ts';
import { sum, sumTo } from './sum.ts';

/** Sizes of a product, its batch dimensions and bounds of the result. */
export interface MatmulGeometry {
  readonly batch: readonly number[];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** An activation fused by compile. */
  readonly lo: number;
  readonly hi: number;
  readonly macs: number;
  /** Rows of A are images with their channels inside, while B counts channel by channel. Made by compile. */
  readonly image?: { readonly channels: number; readonly pixels: number };
}

const UNBOUNDED = { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY };

/** A left operand as the kernel takes it: elements between rows as they are stored. */
interface LeftOperand {
  readonly tensor: Tensor;
  readonly lda: number;
  readonly transposed: boolean;
}

/** The last two strides, with 1 where the extent makes the stride meaningless. */
function matrixStrides(x: Tensor): [row: number, column: number] {
  const rank = x.shape.length;
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  return [rows === 1 ? Math.max(1, columns) : x.strides[rank - 2]!, columns === 1 ? 1 : x.strides[rank - 1]!];
}

/** The operand itself if its rows or its columns are contiguous, else a row-major copy. */
function leftOperand(emit: Emitter, a: Tensor): LeftOperand {
  const [row, column] = matrixStrides(a);
  if (column === 1) return { tensor: a, lda: row, transposed: false };
  if (row === 1 && a.shape.at(-2) !== 1) return { tensor: a, lda: column, transposed: true };
  const tensor = temporaryCopy(emit, a);
  return { tensor, lda: a.shape.at(-1)!, transposed: false };
}

/** Elements from one matrix to the next if all of them are evenly spaced, else null. */
function evenSpacing(x: Tensor): number | null {
  const batch = x.shape.slice(0, -2);
  let spacing: number | null = null;
  let expected = 0;
  for (let i = batch.length - 1; i >= 0; i--) {
    if (batch[i] === 1) continue;
    if (spacing === null) spacing = x.strides[i]!;
    else if (x.strides[i] !== expected) return null;
    expected = x.strides[i]! * batch[i]!;
  }
  return spacing ?? 0;
}

/** Packs every matrix of B, its rows in the order of A's columns. */
function packRight(emit: Emitter, { image, k, n }: MatmulGeometry, b: Tensor, bias: Location): Location {
  const even = evenSpacing(b) === null ? temporaryCopy(emit, b) : b;
  const [strideK, strideN] = matrixStrides(even);
  const { channels, pixels } = image ?? { channels: k, pixels: 1 };
  return emitPack(emit, {
    b: locationOf(even),
    bias,
    taps: Array.from({ length: pixels }, (_, pixel) => pixel * strideK),
    channels,
    n,
    strideChannel: pixels * strideK,
    strideN,
    matrices: sizeOf(even.shape.slice(0, -2)),
    strideMatrix: evenSpacing(even)!,
  });
}

/** Offset of every element of `shape` for the given strides, in row-major order. */
function offsetsOf(shape: readonly number[], strides: readonly number[]): number[] {
  return shape.reduce<number[]>(
    (offsets, extent, i) => offsets.flatMap((base) => Array.from({ length: extent }, (_, j) => base + j * strides[i]!)),
    [0],
  );
}

/** Element offsets of A, the panels and C for each product of the batch. */
function batchTable({ batch, m, n, k }: MatmulGeometry, a: Tensor, b: Tensor): number[] {
  const aBatch = a.shape.slice(0, -2);
  const bBatch = b.shape.slice(0, -2);
  const aOffsets = offsetsOf(batch, broadcastStrides(aBatch, a.strides.slice(0, -2), batch));
  const matrices = bBatch.map((_, i) => sizeOf(bBatch.slice(i + 1)));
  const bIndices = offsetsOf(batch, broadcastStrides(bBatch, matrices, batch));
  return aOffsets.flatMap((offset, i) => [offset, bIndices[i]! * panelFloats(n, k), i * m * n]);
}

/** Emits C = clamp(A B + bias, lo, hi) into a contiguous C. */
function emitProduct(emit: Emitter, geometry: MatmulGeometry, c: Tensor, a: Tensor, b: Tensor, bias: Location): void {
  const { batch, m, n, k, lo, hi, macs } = geometry;
  const left = leftOperand(emit, a);
  const panels = packRight(emit, geometry, b, bias);
  const blocks = productBlocks(m, n, k);
  emit.command(
    kernels.gemm,
    {
      c: locationOf(c),
      a: locationOf(left.tensor),
      panels,
      batches: emit.table(batchTable(geometry, left.tensor, b)),
      m,
      n,
      k,
      lda: left.lda,
      transposed: left.transposed ? 1 : 0,
      ldc: n,
      ...blocks,
      lo,
      hi,
    },
    {
      tiles: sizeOf(batch) * Math.ceil(m / blocks.mc) * Math.ceil(n / blocks.nc),
      work: macs * MAC_NANOSECONDS,
      scratch: left.transposed ? scratchRows(blocks.mc, blocks.kc) : 0,
    },
  );
}

const matmulOp: Op<null, MatmulGeometry> = {
  name: 'matmul',
  infer([a, b]) {
    checkFloat('matmul', { 'left operand': a, 'right operand': b });
    const [m, k] = a!.shape.slice(-2) as [number, number];
    const [depth, n] = b!.shape.slice(-2) as [number, number];
    if (k !== depth)
      throw new RangeError(
        `matmul: ${show(a!.shape)} has ${k} columns, ${show(b!.shape)} has ${depth} rows; they must agree`,
      );
    const operands = `matmul: batches of ${show(a!.shape)} and ${show(b!.shape)}`;
    const batch = broadcastShapes(operands, a!.shape.slice(0, -2), b!.shape.slice(0, -2));
    const geometry = { batch, m, n, k, ...UNBOUNDED, macs: sizeOf(batch) * m * n * k };
    return { geometry, outputs: [{ shape: [...batch, m, n], dtype: 'f32' }] };
  },
  lower(emit, geometry, [a, b], [c]) {
    emitProduct(emit, geometry, c!, a!, b!, NOWHERE);
  },
  backward({ inputs: [a, b], gradients: [dc], needs }) {
    return [
      needs[0] ? sumTo(product(dc!, transpose(b!, -1, -2)), a!.shape) : null,
      needs[1] ? sumTo(product(transpose(a!, -1, -2), dc!), b!.shape) : null,
    ];
  },
  saves: { inputs: [0, 1] },
};

/** matmul of operands with at least two dimensions. A matrix shared by a whole batch multiplies all its rows at once. */
function product(a: Tensor, b: Tensor): Tensor {
  if (b.shape.length > 2 || a.shape.length === 2) return apply(matmulOp, [a, b], null)[0]!;
  const rows = reshape(a, [sizeOf(a.shape.slice(0, -1)), a.shape.at(-1)!]);
  return reshape(apply(matmulOp, [rows, b], null)[0]!, [...a.shape.slice(0, -1), b.shape[1]!]);
}

/**
 * Matrix product over the last two dimensions; the others are broadcast. A one-dimensional operand counts as a row (left) or a
 * column (right), and that dimension is dropped from the result. Source: torch.matmul.
 *
 * @throws RangeError for tensors without dimensions, inner extents that differ or batches that do not broadcast; TypeError unless f32
 * @example
 * ```ts
 * import { init, matmul, tensor } from 'feathermap';
 * await init();
 * const y = matmul(tensor([[1, 2], [3, 4]]), tensor([5, 6]));
 * if (y.data().join() !== '17,39') throw new Error('wrong');
 * ```
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  for (const operand of [a, b]) {
    checkReadable('matmul', operand);
    if (operand.shape.length === 0)
      throw new RangeError(
        `matmul: expected tensors with at least 1 dimension, got ${show(a.shape)} and ${show(b.shape)}`,
      );
  }
  const row = a.shape.length === 1;
  const column = b.shape.length === 1;
  let c = product(row ? unsqueeze(a, 0) : a, column ? unsqueeze(b, 1) : b);
  if (column) c = squeeze(c, -1);
  return row ? squeeze(c, column ? -1 : -2) : c;
}

const linearOp: Op<null, MatmulGeometry> = {
  name: 'linear',
  infer([x, weight, bias]) {
    const [m, k] = x!.shape as [number, number];
    const [n, depth] = weight!.shape as [number, number];
    if (k !== depth)
      throw new RangeError(
        `linear: input ${show(x!.shape)} has ${k} features, weight ${show(weight!.shape)} expects ${depth}`,
      );
    if (bias && show(bias.shape) !== `[${n}]`)
      throw new RangeError(
        `linear: bias ${show(bias.shape)} does not fit weight ${show(weight!.shape)}, expected [${n}]`,
      );
    return {
      geometry: { batch: [], m, n, k, ...UNBOUNDED, macs: m * n * k },
      outputs: [{ shape: [m, n], dtype: 'f32' }],
    };
  },
  lower(emit, geometry, [x, weight, bias], [y]) {
    emitProduct(emit, geometry, y!, x!, turned(weight!), bias ? locationOf(bias) : NOWHERE);
  },
  backward({ inputs: [x, weight], gradients: [dy], needs }) {
    return [
      needs[0] ? product(dy!, weight!) : null,
      needs[1] ? product(transpose(dy!, 0, 1), x!) : null,
      needs[2] ? sum(dy!, { dim: 0 }) : null,
    ];
  },
  saves: { inputs: [0, 1] },
};

/** A matrix seen transposed; for lowering only, it is not on the tape. */
function turned(x: Tensor): Tensor {
  return part(x, [x.shape[1]!, x.shape[0]!], [x.strides[1]!, x.strides[0]!]);
}

/**
 * y = x W^T + b: x [..., in], weight [out, in], bias [out] or null, to [..., out]. Source: torch.nn.functional.linear.
 *
 * @throws RangeError for shapes that do not fit, TypeError unless all are f32
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const y = F.linear(tensor([[1, 2]]), tensor([[3, 4], [5, 6]]), tensor([1, 1]));
 * if (y.data().join() !== '12,18') throw new Error('wrong');
 * ```
 */
export function linear(x: Tensor, weight: Tensor, bias?: Operand): Tensor {
  for (const operand of [x, weight, bias]) if (operand) checkReadable('linear', operand);
  checkFloat('linear', { input: x, weight, bias });
  if (weight.shape.length !== 2)
    throw new RangeError(`linear: weight must have 2 dimensions [out,in], got shape ${show(weight.shape)}`);
  if (x.shape.length < 1)
    throw new RangeError(`linear: input must have at least 1 dimension [...,in], got shape ${show(x.shape)}`);
  const rows = x.shape.length === 2 ? x : reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!]);
  const y = apply(linearOp, [rows, weight, bias ?? null], null)[0]!;
  return x.shape.length === 2 ? y : reshape(y, [...x.shape.slice(0, -1), weight.shape[0]!]);
}
