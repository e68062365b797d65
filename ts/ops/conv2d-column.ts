// Convolutions of images one pixel wide, such as signals that lie along the height: in memory they are images one pixel high, whose
// single long row needs no gathering.
import type { Tensor } from '../tensor/tensor.ts';
import type { Four } from './conv2d-geometry.ts';
import type { Phase } from './conv2d-phases.ts';
import { part } from './loops.ts';

/** A convolution as its phases see it: images with their channels inside, and [vertical, horizontal] distances. */
export interface Placed {
  readonly y: Tensor;
  readonly x: Tensor;
  readonly phases: readonly Phase[];
  /** Distance between windows on x, and between the pixels of a phase on y. */
  readonly step: readonly [number, number];
  readonly spread: readonly [number, number];
}

/** Whether images are one pixel wide, and the taps stay in that column. */
export function isColumn({ x, y, phases }: Placed): boolean {
  return x.shape[3] === 1 && y.shape[3] === 1 && phases.every(({ taps }) => taps.every(({ dx }) => dx === 0));
}

/** The same convolution with rows and columns exchanged. */
export function lyingDown<Convolution extends Placed>(convolution: Convolution): Convolution {
  const { x, y, phases, step, spread } = convolution;
  const turned = phases.map((phase) => ({
    ...phase,
    rows: phase.columns,
    columns: phase.rows,
    taps: phase.taps.map((tap) => ({ ...tap, dy: tap.dx, dx: tap.dy })),
  }));
  return {
    ...convolution,
    x: onItsSide(x),
    y: onItsSide(y),
    phases: turned,
    step: [step[1], step[0]],
    spread: [spread[1], spread[0]],
  };
}

function onItsSide(tensor: Tensor): Tensor {
  const [images, channels, height] = tensor.shape as Four;
  const [image, channel, row] = tensor.strides as Four;
  return part(tensor, [images, channels, 1, height], [image, channel, row * height, row]);
}
