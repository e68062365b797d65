// Adaptive average pooling: the output size is given, the windows follow from it.
import * as kernels from '../generated/kernels.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import type { Op } from '../tensor/op.ts';
import { printed } from '../tensor/printed.ts';
import { channelsLastStrides, show } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { channelsLast } from './copy.ts';
import { avgPool2d } from './pool.ts';
import { squeeze, unsqueeze } from './shape.ts';
import { checkFloat } from './unary-op.ts';

/** Height and width of the output; null keeps that of the input. */
export type OutputSize = number | readonly [number | null, number | null];

interface AdaptiveGeometry {
  readonly x: readonly number[];
  readonly y: readonly number[];
}

/** Record fields, pixels of the larger side doing most of the work. */
function fieldsOf({ x, y }: AdaptiveGeometry): Record<'N' | 'C' | 'H' | 'W' | 'OH' | 'OW', number> {
  const [N, C, H, W] = x as [number, number, number, number];
  return { N, C, H, W, OH: y[2]!, OW: y[3]! };
}

function workOf({ N, C, H, W, OH, OW }: ReturnType<typeof fieldsOf>): number {
  return N * C * Math.max(H, OH) * Math.max(W, OW);
}

const adaptiveAvgPool2dOp: Op<AdaptiveGeometry, AdaptiveGeometry> = {
  name: 'adaptiveAvgPool2d',
  infer: (_inputs, geometry) => ({
    geometry,
    outputs: [{ shape: geometry.y, dtype: 'f32', strides: channelsLastStrides(geometry.y) }],
  }),
  lower(emit, geometry, [x], [y]) {
    const fields = fieldsOf(geometry);
    const grid = { tiles: fields.N * fields.OH * fields.OW, work: workOf(fields) };
    emit.command(kernels.adaptiveAvgPool2d, { y: locationOf(y!), x: locationOf(x!), ...fields }, grid);
  },
  backward: ({ geometry, gradients: [dy] }) => [apply(adaptiveAvgPool2dGradOp, [channelsLast(dy!)], geometry)[0]!],
  saves: {},
};

/** The transpose of adaptiveAvgPool2d. */
const adaptiveAvgPool2dGradOp: Op<AdaptiveGeometry, AdaptiveGeometry> = {
  name: 'adaptiveAvgPool2dGrad',
  infer: (_inputs, geometry) => ({
    geometry,
    outputs: [{ shape: geometry.x, dtype: 'f32', strides: channelsLastStrides(geometry.x) }],
  }),
  lower(emit, geometry, [dy], [dx]) {
    const fields = fieldsOf(geometry);
    const grid = { tiles: fields.N * fields.H * fields.W, work: 4 * workOf(fields) };
    emit.command(kernels.adaptiveAvgPool2dGrad, { y: locationOf(dx!), x: locationOf(dy!), ...fields }, grid);
  },
  backward: ({ geometry, gradients: [g] }) => [apply(adaptiveAvgPool2dOp, [channelsLast(g!)], geometry)[0]!],
  saves: {},
};

function outputSizeOf(size: OutputSize, height: number, width: number): [number, number] {
  const pair = Array.isArray(size) ? (size as readonly (number | null)[]) : [size as number, size as number];
  if (pair.length !== 2 || !pair.every((each) => each === null || typeof each === 'number'))
    throw new TypeError(
      `adaptiveAvgPool2d: outputSize must be a number or a pair of numbers (null keeps an extent), got ${printed(size)}`,
    );
  if (!pair.every((each) => each === null || (Number.isInteger(each) && each >= 1)))
    throw new RangeError(`adaptiveAvgPool2d: outputSize must be a whole number >= 1, got ${printed(size)}`);
  return [pair[0] ?? height, pair[1] ?? width];
}

/**
 * Mean of windows that divide the image into `outputSize` rows and columns: x [N,C,H,W] or [C,H,W] to [N,C,OH,OW]. Window i of
 * OH covers the rows floor(i H / OH) to ceil((i + 1) H / OH) - 1. An image of that size already is returned as it is.
 *
 * Source: torch.nn.functional.adaptive_avg_pool2d.
 *
 * @param outputSize height and width, or one number for both; null keeps that of the input
 * @throws RangeError for another rank, an empty image or a size that is no whole number >= 1; TypeError for another dtype
 * @example
 * ```ts
 * import { arange, init } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const x = arange(9).reshape([1, 1, 3, 3]);
 * if (F.adaptiveAvgPool2d(x, 2).data().join() !== '2,3,5,6') throw new Error('wrong');
 * ```
 */
export function adaptiveAvgPool2d(x: Tensor, outputSize: OutputSize): Tensor {
  checkReadable('adaptiveAvgPool2d', x);
  checkFloat('adaptiveAvgPool2d', x);
  if (x.shape.length === 3) return squeeze(adaptiveAvgPool2d(unsqueeze(x, 0), outputSize), 0);
  const [N, C, H, W] = x.shape as [number, number, number, number];
  if (x.shape.length !== 4)
    throw new RangeError(`adaptiveAvgPool2d: expected images [N,C,H,W] or [C,H,W], got ${show(x.shape)}`);
  if (!H || !W) throw new RangeError(`adaptiveAvgPool2d: the images of ${show(x.shape)} are empty`);
  const [OH, OW] = outputSizeOf(outputSize, H, W);
  if (OH === H && OW === W) return x;
  if (H % OH === 0 && W % OW === 0) return avgPool2d(x, [H / OH, W / OW]);
  return apply(adaptiveAvgPool2dOp, [channelsLast(x)], { x: x.shape, y: [N, C, OH, OW] })[0]!;
}
