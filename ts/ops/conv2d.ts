// Two-dimensional convolution (cross-correlation) and its two gradients. The three are closed under differentiation: each is linear
// in both operands, and its derivatives are the other two.
//
//   y[n, o, i, j] = b[o] + sum over c, r, s of x[n, c, i stride + r dilation - top, j stride + s dilation - left] w[o, c, r, s]
//
// All three are matrix products, sums per channel or Winograd's (conv2d-emitters.ts), as conv2d-algorithm.ts chooses. Images are
// read and written channels-last; a tensor in another layout is copied first.
import { apply } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Op, Operand } from '../tensor/op.ts';
import { channelsLastStrides, isChannelsLast, show, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { forwardAlgorithm, inputGradAlgorithm, weightGradAlgorithm } from './conv2d-algorithm.ts';
import { emittersOf } from './conv2d-emitters.ts';
import type { Conv2dAlgorithm, Conv2dGeometry, Four } from './conv2d-geometry.ts';
import { withChannelsInside } from './conv2d-phases.ts';
import { checkFloat, temporaryCopy } from './product.ts';
import { sum } from './sum.ts';
import { type Padding, type Pair, pairOf, windowAxes } from './window.ts';

export type { Conv2dGeometry };
export { pairOf };

/** Options of `conv2d`. */
export interface Conv2dOptions {
  /** Distance between windows, one number or [vertical, horizontal]. Default 1. */
  stride?: Pair | undefined;
  /** Zeros around the input: a number, [vertical, horizontal], [[top, bottom], [left, right]], or 'same' (PyTorch's rule). Default 0. */
  padding?: Padding | undefined;
  /** Distance between the taps of a window. Default 1. */
  dilation?: Pair | undefined;
  /** Parts into which the channels are divided; each output part sees one input part. Default 1. */
  groups?: number | undefined;
}

// ---- Checks ---------------------------------------------------------------------------------------------------------------

function checkRank(op: string, name: string, x: Tensor, axes: string): void {
  if (x.shape.length !== 4)
    throw new RangeError(`${op}: ${name} must have 4 dimensions ${axes}, got shape ${show(x.shape)}`);
}

function checkGroups(op: string, x: readonly number[], weight: readonly number[], groups: number): void {
  if (!Number.isInteger(groups) || groups < 1)
    throw new RangeError(`${op}: groups must be a whole number >= 1, got ${groups}`);
  const [channels, outputs] = [x[1]!, weight[0]!];
  if (channels % groups || outputs % groups)
    throw new RangeError(
      `${op}: groups ${groups} must divide ${channels} input channels and ${outputs} output channels`,
    );
  if (weight[1] !== channels / groups)
    throw new RangeError(
      `${op}: input ${show(x)} has ${channels} channels, weight ${show(weight)} with groups ${groups} expects ${weight[1]! * groups}`,
    );
}

const UNBOUNDED = { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY };

/** Validates operands and options, resolves the windows. */
export function conv2dGeometry(x: Tensor, weight: Tensor, bias: Operand, options: Conv2dOptions): Conv2dGeometry {
  checkFloat('conv2d', { input: x, weight, bias });
  checkRank('conv2d', 'input', x, '[N,C,H,W]');
  checkRank('conv2d', 'weight', weight, '[O,C/groups,KH,KW]');
  const { groups = 1 } = options;
  checkGroups('conv2d', x.shape, weight.shape, groups);
  const [outputs, channels, kh, kw] = weight.shape as Four;
  if (sizeOf(weight.shape) === 0) throw new RangeError(`conv2d: weight ${show(weight.shape)} is empty`);
  if (bias && show(bias.shape) !== `[${outputs}]`)
    throw new RangeError(
      `conv2d: bias ${show(bias.shape)} does not fit weight ${show(weight.shape)}, expected [${outputs}]`,
    );
  const [rows, columns] = windowAxes('conv2d', [x.shape[2]!, x.shape[3]!], [kh, kw], options);
  const y: Four = [x.shape[0]!, outputs, rows.outputs, columns.outputs];
  const macs = sizeOf(y) * channels * kh * kw;
  const sizes = { x: x.shape as Four, weight: weight.shape as Four, y, rows, columns, groups, ...UNBOUNDED, macs };
  return { ...sizes, algorithm: forwardAlgorithm(sizes) };
}

/** Residual and scale of a fused convolution: y's shape and layout, and one number per output channel. */
function checkEpilogue({ y }: Conv2dGeometry, residual: Operand, scale: Operand): void {
  checkFloat('conv2d', { residual, scale });
  if (residual && (show(residual.shape) !== show(y) || !isChannelsLast(y, residual.strides)))
    throw new RangeError(
      `conv2d: residual ${show(residual.shape)} with strides ${show(residual.strides)} must have the output's shape ${show(y)}, channels-last`,
    );
  if (scale && show(scale.shape) !== `[${y[1]}]`)
    throw new RangeError(`conv2d: scale ${show(scale.shape)} does not fit, expected [${y[1]}]`);
}

/** The geometry of a gradient: its own algorithm and no epilogue. */
function plain(geometry: Conv2dGeometry, algorithm: Conv2dAlgorithm): Conv2dGeometry {
  return { ...geometry, ...UNBOUNDED, algorithm };
}

// ---- Ops ------------------------------------------------------------------------------------------------------------------

/** Inputs x, weight, bias, residual, scale: the last three may be null, the last two are made by compile alone. */
export const conv2dOp: Op<Conv2dOptions, Conv2dGeometry> = {
  name: 'conv2d',
  infer([x, weight, bias, residual, scale], options) {
    const geometry = conv2dGeometry(x!, weight!, bias ?? null, options);
    const { y } = geometry;
    checkEpilogue(geometry, residual ?? null, scale ?? null);
    return { geometry, outputs: [{ shape: y, dtype: 'f32', strides: channelsLastStrides(y) }] };
  },
  lower(emit, geometry, [x, weight, bias, residual, scale], [y]) {
    emittersOf(geometry.algorithm).forward(emit, geometry, {
      y: y!,
      x: x!,
      weight: weight!,
      bias: bias ?? null,
      residual: residual ?? null,
      scale: scale ?? null,
    });
  },
  backward({ geometry, inputs: [x, weight], gradients: [dy], needs }) {
    return [
      needs[0] ? conv2dInputGrad(dy!, weight!, geometry) : null,
      needs[1] ? conv2dWeightGrad(x!, dy!, geometry) : null,
      needs[2] ? sum(dy!, { dim: [0, 2, 3] }) : null,
      null,
      null,
    ];
  },
  saves: { inputs: [0, 1] },
};

/** Gradient operands must have the shapes of the convolution they belong to. */
function checkShapes(
  op: string,
  expected: readonly (readonly [name: string, x: Tensor, shape: readonly number[]])[],
): void {
  for (const [name, x, shape] of expected)
    if (show(x.shape) !== show(shape))
      throw new RangeError(`${op}: ${name} has shape ${show(x.shape)}, expected ${show(shape)}`);
}

const conv2dInputGradOp: Op<Conv2dGeometry, Conv2dGeometry> = {
  name: 'conv2dInputGrad',
  infer([dy, weight], geometry) {
    checkShapes('conv2dInputGrad', [
      ['dy', dy!, geometry.y],
      ['weight', weight!, geometry.weight],
    ]);
    const outputs = [{ shape: geometry.x, dtype: 'f32' as const, strides: channelsLastStrides(geometry.x) }];
    return { geometry: plain(geometry, inputGradAlgorithm(geometry)), outputs };
  },
  lower(emit, geometry, [gradient, weight], [dx]) {
    const dy = withChannelsInside(emit, gradient!);
    emittersOf(geometry.algorithm).inputGrad(emit, geometry, { dx: dx!, dy, weight: weight! });
  },
  backward({ geometry, inputs: [dy, weight], gradients: [ddx], needs }) {
    return [
      needs[0] ? convolve(ddx!, weight!, geometry) : null,
      needs[1] ? conv2dWeightGrad(ddx!, dy!, geometry) : null,
    ];
  },
  saves: { inputs: [0, 1] },
};

const conv2dWeightGradOp: Op<Conv2dGeometry, Conv2dGeometry> = {
  name: 'conv2dWeightGrad',
  infer([x, dy], geometry) {
    checkShapes('conv2dWeightGrad', [
      ['x', x!, geometry.x],
      ['dy', dy!, geometry.y],
    ]);
    const outputs = [{ shape: geometry.weight, dtype: 'f32' as const, strides: channelsLastStrides(geometry.weight) }];
    return { geometry: plain(geometry, weightGradAlgorithm(geometry)), outputs };
  },
  lower(emit, geometry, [x, gradient], [dw]) {
    const dy = isChannelsLast(gradient!.shape, gradient!.strides)
      ? gradient!
      : temporaryCopy(emit, gradient!, channelsLastStrides(gradient!.shape));
    emittersOf(geometry.algorithm).weightGrad(emit, geometry, { dw: dw!, x: x!, dy });
  },
  backward({ geometry, inputs: [x, dy], gradients: [ddw], needs }) {
    return [needs[0] ? conv2dInputGrad(dy!, ddw!, geometry) : null, needs[1] ? convolve(x!, ddw!, geometry) : null];
  },
  saves: { inputs: [0, 1] },
};

/** The convolution that a geometry describes. */
function convolve(x: Tensor, weight: Tensor, { rows, columns, groups }: Conv2dGeometry): Tensor {
  return conv2d(x, weight, null, {
    stride: [rows.stride, columns.stride],
    dilation: [rows.dilation, columns.dilation],
    padding: [
      [rows.before, rows.after],
      [columns.before, columns.after],
    ],
    groups,
  });
}

/** Gradient of a convolution with respect to its input: dy [N,O,OH,OW], weight [O,C/groups,KH,KW] to [N,C,H,W]. */
export function conv2dInputGrad(dy: Tensor, weight: Tensor, geometry: Conv2dGeometry): Tensor {
  return apply(conv2dInputGradOp, [dy, weight], geometry)[0]!;
}

/** Gradient of a convolution with respect to its weight: x [N,C,H,W], dy [N,O,OH,OW] to [O,C/groups,KH,KW]. */
export function conv2dWeightGrad(x: Tensor, dy: Tensor, geometry: Conv2dGeometry): Tensor {
  return apply(conv2dWeightGradOp, [x, dy], geometry)[0]!;
}

const OPTIONS = ['stride', 'padding', 'dilation', 'groups'];

/**
 * Two-dimensional cross-correlation: input [N,C,H,W], weight [O,C/groups,KH,KW], bias [O] or null, to [N,O,OH,OW] with
 * OH = floor((H + top + bottom - dilation (KH - 1) - 1) / stride) + 1, OW alike. Source: torch.nn.functional.conv2d.
 *
 * Where it is faster, 3 x 3 and 5 x 5 with stride 1, dilated or not, are computed by Winograd's algorithm: rounding is about 1e-6 of the largest
 * result, and a NaN or an infinity in the input spoils every tile of outputs (4 x 4 or 2 x 2) that reads it.
 * `init({ winograd: false })` turns that off.
 *
 * @throws RangeError for shapes that do not fit, a stride or dilation below 1, negative padding, a kernel larger than the padded
 *   input, 'same' with a stride; TypeError for other dtypes and unknown options
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const x = tensor([[[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]]);
 * const y = F.conv2d(x, tensor([[[[0, 1], [2, 3]]]]));
 * if (y.data().join() !== '19,25,37,43') throw new Error('wrong');
 * ```
 */
export function conv2d(x: Tensor, weight: Tensor, bias?: Operand, options: Conv2dOptions = {}): Tensor {
  checkOptions('conv2d', options, OPTIONS);
  return apply(conv2dOp, [x, weight, bias ?? null, null, null], options)[0]!;
}
