// Max and average pooling of images [N,C,H,W] (or [C,H,W]), channels-last in memory.
import * as kernels from '../generated/kernels.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import { checkFlag, checkOptions } from '../tensor/create.ts';
import type { Op, OutputSpec } from '../tensor/op.ts';
import { channelsLastStrides, show } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { channelsLast } from './copy.ts';
import { squeeze, unsqueeze } from './shape.ts';
import { checkFloat } from './unary-op.ts';
import { type Padding, type Pair, pairOf, type WindowAxis, type WindowOptions, windowAxes } from './window.ts';

/** Options of `maxPool2d`. */
export interface MaxPool2dOptions extends WindowOptions {
  /** Default: the kernel size. */
  stride?: Pair | undefined;
  /** At most half of the kernel on each side. Default 0. */
  padding?: Padding | undefined;
  /** Returns [values, indices]. Default false. */
  returnIndices?: boolean | undefined;
}

/** Options of `avgPool2d`. */
export interface AvgPool2dOptions extends Omit<WindowOptions, 'dilation'> {
  /** Default: the kernel size. */
  stride?: Pair | undefined;
  /** At most half of the kernel on each side. Default 0. */
  padding?: Padding | undefined;
  /** Whether padding counts in the divisor. Default true. */
  countIncludePad?: boolean | undefined;
  /** Divides by this instead of the size of the window. */
  divisorOverride?: number | undefined;
}

const MAX_OPTIONS = ['stride', 'padding', 'dilation', 'ceilMode', 'returnIndices'];
const AVG_OPTIONS = ['stride', 'padding', 'ceilMode', 'countIncludePad', 'divisorOverride'];

/** Sizes of input, output and window, in the words of assembly/avg-pool.ts. */
interface PoolGeometry {
  readonly x: readonly number[];
  readonly y: readonly number[];
  readonly fields: Readonly<
    Record<'N' | 'C' | 'H' | 'W' | 'OH' | 'OW' | 'KH' | 'KW' | 'SH' | 'SW' | 'PT' | 'PL', number>
  >;
  readonly rows: WindowAxis;
  readonly columns: WindowAxis;
}

/** Elements read per tile: some 10 us. */
const TILE_ELEMENTS = 16384;
/** Channels per tile of the gradient of max pooling. */
const GRAD_CHANNELS = 64;

function inferPool(op: string, x: Tensor, kernelSize: Pair, options: WindowOptions): PoolGeometry {
  checkFloat(op, x);
  if (x.shape.length !== 4) throw new RangeError(`${op}: expected images [N,C,H,W] or [C,H,W], got ${show(x.shape)}`);
  const [N, C, H, W] = x.shape as [number, number, number, number];
  const kernel = pairOf(op, 'kernelSize', kernelSize);
  const [rows, columns] = windowAxes(op, [H, W], kernel, {
    ...options,
    stride: options.stride === undefined ? kernelSize : options.stride,
  });
  checkPadding(op, rows, columns);
  const [OH, OW] = [rows.outputs, columns.outputs];
  const sizes = { N, C, H, W, OH, OW, KH: kernel[0], KW: kernel[1], SH: rows.stride, SW: columns.stride };
  return { x: x.shape, y: [N, C, OH, OW], fields: { ...sizes, PT: rows.before, PL: columns.before }, rows, columns };
}

/** PyTorch's rule, so that every window holds an element. */
function checkPadding(op: string, ...axes: readonly WindowAxis[]): void {
  for (const { kernel, before, after } of axes)
    if (Math.max(before, after) > kernel / 2)
      throw new RangeError(`${op}: padding ${Math.max(before, after)} is more than half of the kernel size ${kernel}`);
}

function imageSpec(shape: readonly number[], dtype: 'f32' | 'i32' = 'f32'): OutputSpec {
  return { shape, dtype, strides: channelsLastStrides(shape) };
}

/** Output rows (over all images) per tile, and the grid. */
function rowTiles(
  rows: number,
  perRow: number,
  cost: number,
): { block: number; grid: { tiles: number; work: number } } {
  const block = Math.max(1, Math.floor(TILE_ELEMENTS / Math.max(1, perRow)));
  return { block, grid: { tiles: Math.ceil(rows / block), work: rows * perRow * cost } };
}

// ---- Maximum --------------------------------------------------------------------------------------------------------

interface MaxOptions extends WindowOptions {
  readonly kernelSize: Pair;
  /** Whether the indices are needed, by the caller or by backward. */
  readonly track: boolean;
}

interface MaxGeometry extends PoolGeometry {
  readonly track: boolean;
}

/** Outputs: values, and indices if they are tracked. */
const maxPool2dOp: Op<MaxOptions, MaxGeometry> = {
  name: 'maxPool2d',
  infer([x], { kernelSize, track, ...options }) {
    const geometry = { ...inferPool('maxPool2d', x!, kernelSize, options), track };
    const outputs = track ? [imageSpec(geometry.y), imageSpec(geometry.y, 'i32')] : [imageSpec(geometry.y)];
    return { geometry, outputs };
  },
  lower(emit, { fields, rows, columns }, [x], [y, indices]) {
    const { N, C, OH, OW, KH, KW } = fields;
    const { block, grid } = rowTiles(N * OH, OW * C * KH * KW, 0.3);
    const args = { y: locationOf(y!), x: locationOf(x!), ...fields, DH: rows.dilation, DW: columns.dilation, block };
    if (indices) emit.command(kernels.maxPool2dIndices, { ...args, indices: locationOf(indices) }, grid);
    else emit.command(kernels.maxPool2d, args, grid);
  },
  backward: ({ geometry, outputs: [, indices], gradients: [dy] }) => [
    dy ? apply(maxPool2dGradOp, [channelsLast(dy), indices!], geometry)[0]! : null,
  ],
  saves: { outputs: [1] },
};

/** Scatters dy to where the maxima were. Linear in dy. */
const maxPool2dGradOp: Op<PoolGeometry, PoolGeometry> = {
  name: 'maxPool2dGrad',
  infer: (_inputs, geometry) => ({ geometry, outputs: [imageSpec(geometry.x)] }),
  lower(emit, { fields: { N, C, H, W, OH, OW } }, [dy, indices], [dx]) {
    const operands = { dx: locationOf(dx!), dy: locationOf(dy!), indices: locationOf(indices!) };
    const block = Math.max(1, Math.min(C, GRAD_CHANNELS));
    const tiles = N * Math.ceil(C / block);
    const sizes = { N, C, inputs: H * W, outputs: OH * OW, block };
    emit.command(
      kernels.maxPool2dGrad,
      { ...operands, ...sizes },
      { tiles, work: N * C * (OH * OW * 1.5 + H * W * 0.1) },
    );
  },
  backward: ({ geometry, inputs: [, indices], gradients: [ddx] }) => [
    apply(maxPool2dPickOp, [channelsLast(ddx!), indices!], geometry)[0]!,
    null,
  ],
  saves: { inputs: [1] },
};

/** The elements where the maxima were, the transpose of `maxPool2dGrad`. Linear in its first operand. */
const maxPool2dPickOp: Op<PoolGeometry, PoolGeometry> = {
  name: 'maxPool2dPick',
  infer: (_inputs, geometry) => ({ geometry, outputs: [imageSpec(geometry.y)] }),
  lower(emit, { fields: { N, C, H, W, OH, OW } }, [x, indices], [y]) {
    const operands = { y: locationOf(y!), x: locationOf(x!), indices: locationOf(indices!) };
    const { block, grid } = rowTiles(N * OH * OW, C, 1.5);
    emit.command(kernels.maxPool2dPick, { ...operands, N, C, inputs: H * W, outputs: OH * OW, block }, grid);
  },
  backward: ({ geometry, inputs: [, indices], gradients: [dy] }) => [
    apply(maxPool2dGradOp, [channelsLast(dy!), indices!], geometry)[0]!,
    null,
  ],
  saves: { inputs: [1] },
};

/** [C,H,W] as one image of a batch; other ranks stay, for `infer` to judge. */
function batched(x: Tensor): Tensor {
  return x.shape.length === 3 ? unsqueeze(x, 0) : x;
}

/** Undoes `batched`. */
function unbatched(y: Tensor, x: Tensor): Tensor {
  return x.shape.length === 3 ? squeeze(y, 0) : y;
}

/**
 * Largest element of each window: x [N,C,H,W] or [C,H,W] to [N,C,OH,OW], OH = floor((H + top + bottom - dilation (KH - 1) - 1) / stride) + 1,
 * ceil with `ceilMode` (the last window then still starts inside the input or the padding before it). NaN wins; the first of equal
 * elements gets the gradient. With `returnIndices`: `[values, indices]`, where an index (i32) is h W + w in the input plane.
 *
 * Source: torch.nn.functional.max_pool2d.
 *
 * @param kernelSize height and width of the window, or one number for both
 * @throws RangeError for another rank, options out of range, padding of more than half the kernel, or a window larger than the
 *   padded input; TypeError for an unknown option or another dtype
 * @example
 * ```ts
 * import { arange, init } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const x = arange(9).reshape([1, 1, 3, 3]);
 * if (F.maxPool2d(x, 2, { stride: 1 }).data().join() !== '4,5,7,8') throw new Error('wrong');
 * ```
 */
export function maxPool2d(
  x: Tensor,
  kernelSize: Pair,
  options: MaxPool2dOptions & { returnIndices: true },
): [values: Tensor, indices: Tensor];
export function maxPool2d(
  x: Tensor,
  kernelSize: Pair,
  options?: MaxPool2dOptions & { returnIndices?: false | undefined },
): Tensor;
export function maxPool2d(x: Tensor, kernelSize: Pair, options: MaxPool2dOptions = {}): Tensor | [Tensor, Tensor] {
  checkReadable('maxPool2d', x);
  checkOptions('maxPool2d', options, MAX_OPTIONS);
  const { returnIndices = false, ...window } = options;
  checkFlag('maxPool2d', 'returnIndices', returnIndices);
  const images = channelsLast(batched(x));
  const track = returnIndices || images.requiresGrad;
  const [values, indices] = apply(maxPool2dOp, [images], { ...window, kernelSize, track });
  return returnIndices ? [unbatched(values!, x), unbatched(indices!, x)] : unbatched(values!, x);
}

// ---- Average --------------------------------------------------------------------------------------------------------

interface AvgOptions extends WindowOptions {
  readonly kernelSize: Pair;
  readonly countIncludePad: boolean;
  readonly divisorOverride: number | undefined;
}

interface AvgGeometry extends PoolGeometry {
  readonly divisor: Readonly<Record<'PB' | 'PR' | 'includePad' | 'divisor', number>>;
}

const avgPool2dOp: Op<AvgOptions, AvgGeometry> = {
  name: 'avgPool2d',
  infer([x], { kernelSize, countIncludePad, divisorOverride, ...options }) {
    const pool = inferPool('avgPool2d', x!, kernelSize, options);
    if (divisorOverride !== undefined && !(Number.isInteger(divisorOverride) && divisorOverride > 0))
      throw new RangeError(`avgPool2d: divisorOverride must be a whole number >= 1, got ${divisorOverride}`);
    const padding = { PB: pool.rows.after, PR: pool.columns.after };
    const divisor = { ...padding, includePad: countIncludePad ? 1 : 0, divisor: divisorOverride ?? 0 };
    return { geometry: { ...pool, divisor }, outputs: [imageSpec(pool.y)] };
  },
  lower(emit, { fields, divisor }, [x], [y]) {
    const { N, C, OH, OW, KH, KW } = fields;
    const { block, grid } = rowTiles(N * OH, OW * C * KH * KW, 0.25);
    emit.command(kernels.avgPool2d, { y: locationOf(y!), x: locationOf(x!), ...fields, ...divisor, block }, grid);
  },
  backward: ({ geometry, gradients: [dy] }) => [apply(avgPool2dGradOp, [channelsLast(dy!)], geometry)[0]!],
  saves: {},
};

/** The transpose of avgPool2d: gives each input element its share of every window that covers it. */
const avgPool2dGradOp: Op<AvgGeometry, AvgGeometry> = {
  name: 'avgPool2dGrad',
  infer: (_inputs, geometry) => ({ geometry, outputs: [imageSpec(geometry.x)] }),
  lower(emit, { fields, divisor }, [dy], [dx]) {
    const { N, C, H, W, KH, KW, SH, SW } = fields;
    const overlap = Math.ceil(KH / SH) * Math.ceil(KW / SW);
    const { block, grid } = rowTiles(N * H, W * C * overlap, 0.5);
    emit.command(kernels.avgPool2dGrad, { y: locationOf(dx!), x: locationOf(dy!), ...fields, ...divisor, block }, grid);
  },
  backward: ({ geometry, gradients: [g] }) => [apply(avgPool2dFromGeometryOp, [channelsLast(g!)], geometry)[0]!],
  saves: {},
};

/** avgPool2d with geometry that is known already: the gradient of its gradient. */
const avgPool2dFromGeometryOp: Op<AvgGeometry, AvgGeometry> = {
  ...avgPool2dOp,
  infer: (_inputs, geometry) => ({ geometry, outputs: [imageSpec(geometry.y)] }),
};

/**
 * Mean of each window: x [N,C,H,W] or [C,H,W] to [N,C,OH,OW], sizes as `maxPool2d` without dilation. Padding counts as zeros; with
 * `countIncludePad` false it does not count in the divisor either.
 *
 * Source: torch.nn.functional.avg_pool2d.
 *
 * @param kernelSize height and width of the window, or one number for both
 * @throws as `maxPool2d`
 * @example
 * ```ts
 * import { arange, init } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const x = arange(9).reshape([1, 1, 3, 3]);
 * if (F.avgPool2d(x, 2, { stride: 1 }).data().join() !== '2,3,5,6') throw new Error('wrong');
 * ```
 */
export function avgPool2d(x: Tensor, kernelSize: Pair, options: AvgPool2dOptions = {}): Tensor {
  checkReadable('avgPool2d', x);
  checkOptions('avgPool2d', options, AVG_OPTIONS);
  const { countIncludePad = true, divisorOverride, ...window } = options;
  checkFlag('avgPool2d', 'countIncludePad', countIncludePad);
  const settings = { ...window, kernelSize, countIncludePad, divisorOverride };
  return unbatched(apply(avgPool2dOp, [channelsLast(batched(x))], settings)[0]!, x);
}
