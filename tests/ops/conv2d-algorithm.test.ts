// Which algorithm a geometry gets: from the sizes alone, and never Winograd where it was switched off.
import { describe, expect, test } from 'vitest';
import { conv2dGeometry } from '../../ts/ops/conv2d.ts';
import {
  forwardAlgorithm,
  forwardApplies,
  forwardCandidates,
  inputGradAlgorithm,
  weightGradAlgorithm,
} from '../../ts/ops/conv2d-algorithm.ts';
import type { Conv2dGeometry } from '../../ts/ops/conv2d-geometry.ts';
import { init, shutdown } from '../../ts/runtime/engine.ts';
import { zeros } from '../../ts/tensor/create.ts';
import { withEngine } from './harness.ts';

withEngine();

interface Layer {
  images: number;
  channels: number;
  outputs: number;
  side: number;
  kernel?: number;
  stride?: number;
  dilation?: number;
  groups?: number;
}

function geometryOf(layer: Layer): Conv2dGeometry {
  const { images, channels, outputs, side, kernel = 3, stride = 1, dilation = 1, groups = 1 } = layer;
  const weight = zeros([outputs, channels / groups, kernel, kernel]);
  const options = { padding: dilation, stride, dilation, groups };
  return conv2dGeometry(zeros([images, channels, side, side]), weight, null, options);
}

const resnet: readonly Layer[] = [
  { images: 1, channels: 64, outputs: 64, side: 56 },
  { images: 1, channels: 128, outputs: 128, side: 28 },
];

test.each(resnet)('$channels channels, $side x $side: F(4x4, 3x3) in all directions', (layer) => {
  const geometry = geometryOf(layer);
  expect(geometry.algorithm).toBe('winograd4');
  expect(inputGradAlgorithm(geometry)).toBe('winograd4');
  expect(weightGradAlgorithm(geometry)).toBe('winograd4');
});

const fives: readonly Layer[] = [
  { images: 1, channels: 64, outputs: 192, side: 27, kernel: 5 },
  { images: 8, channels: 16, outputs: 32, side: 28, kernel: 5 },
];
test.each(fives)(
  '5 x 5, $channels to $outputs channels: F(2x2, 5x5), and F(5x5, 2x2) for the weight gradient',
  (layer) => {
    const geometry = geometryOf(layer);
    expect(geometry.algorithm).toBe('winograd2');
    expect(inputGradAlgorithm(geometry)).toBe('winograd2');
    expect(weightGradAlgorithm(geometry)).toBe('winograd2');
    expect(forwardCandidates(geometry)[0]).toBe('winograd2');
    expect(forwardApplies(geometry, 'winograd4')).toBe(false);
  },
);

test('dilated: by remainders where enough tiles of each are left; the weight gradient is direct', () => {
  const geometry = geometryOf({ images: 1, channels: 128, outputs: 128, side: 28, dilation: 2 });
  expect(geometry.algorithm).toBe('winograd4');
  expect(inputGradAlgorithm(geometry)).toBe('winograd4');
  expect(weightGradAlgorithm(geometry)).toBe('direct');
  expect(geometryOf({ images: 1, channels: 128, outputs: 128, side: 28, dilation: 18 }).algorithm).toBe('direct');
});

test('few tiles of many channels: transforming weights costs more than it saves, unless they are constant', () => {
  const geometry = geometryOf({ images: 1, channels: 512, outputs: 512, side: 7 });
  expect(geometry.algorithm).toBe('direct');
  expect(forwardAlgorithm(geometry, false)).toBe('winograd2');
  expect(weightGradAlgorithm(geometry)).toBe('direct');
  expect(geometryOf({ images: 8, channels: 512, outputs: 512, side: 7 }).algorithm).toBe('winograd4');
});

const unfit: readonly (Layer & { name: string })[] = [
  { name: 'stride 2', images: 8, channels: 64, outputs: 64, side: 56, stride: 2 },
  { name: '7 x 7', images: 8, channels: 64, outputs: 64, side: 28, kernel: 7 },
  { name: 'the second layer of LeNet', images: 256, channels: 6, outputs: 16, side: 12, kernel: 5 },
  { name: 'groups', images: 8, channels: 64, outputs: 64, side: 56, groups: 2 },
  { name: 'a first layer', images: 8, channels: 3, outputs: 64, side: 64 },
  { name: 'little work', images: 1, channels: 16, outputs: 16, side: 8 },
];
test.each(unfit)('$name: direct', (layer) => {
  const geometry = geometryOf(layer);
  expect(geometry.algorithm).toBe('direct');
  expect(inputGradAlgorithm(geometry)).toBe('direct');
  expect(weightGradAlgorithm(geometry)).toBe('direct');
});

describe('switched off', () => {
  test.each(resnet)('$channels channels, $side x $side: direct', async (layer) => {
    await shutdown();
    await init({ threads: 1, winograd: false });
    const geometry = geometryOf(layer);
    expect(geometry.algorithm).toBe('direct');
    expect(inputGradAlgorithm(geometry)).toBe('direct');
    expect(weightGradAlgorithm(geometry)).toBe('direct');
  });
});
