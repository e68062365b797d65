// 256-bit mode against the relaxed build: the same bits, forward and backward. Only Node 24 and later on x64 have it.
import { setFlagsFromString } from 'node:v8';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { backward } from '../ts/autograd/backward.ts';
import { gradientOf } from '../ts/autograd/gradient.ts';
import * as F from '../ts/functional.ts';
import { type Conv2dCase, conv2dCases, conv2dInputs } from './cases/conv2d.ts';
import { engineInfo, type InitOptions, init, scope, shutdown, tensor } from './feathermap.ts';

const available = process.arch === 'x64' && Number.parseInt(process.versions.node, 10) >= 24;

const larger: readonly Conv2dCase[] = [
  { name: '3x3, 40 to 136', x: [2, 40, 17, 19], weight: [136, 40, 3, 3], options: { padding: 1 } },
  { name: '1x1, 96 to 44', x: [1, 96, 9, 9], weight: [44, 96, 1, 1] },
  { name: '1x1, 1300 to 31', x: [1, 1300, 3, 5], weight: [31, 1300, 1, 1] },
  { name: '7x7, stride 2', x: [1, 3, 33, 35], weight: [24, 3, 7, 7], options: { padding: 3, stride: 2 } },
  { name: '3x3, dilated', x: [1, 8, 20, 21], weight: [27, 8, 3, 3], options: { dilation: 2 } },
  { name: 'depthwise 3x3', x: [1, 24, 12, 13], weight: [24, 1, 3, 3], options: { padding: 1, groups: 24 } },
];

/** y, dx, dw and db of a convolution followed by pooling and an exponential. */
function answers(task: Conv2dCase): Uint8Array[] {
  return scope(() => {
    const inputs = conv2dInputs(task);
    const x = tensor(inputs.x, { shape: task.x, requiresGrad: true });
    const weight = tensor(inputs.weight, { shape: task.weight, requiresGrad: true });
    const bias = inputs.bias ? tensor(inputs.bias, { requiresGrad: true }) : null;
    const sums = F.conv2d(x, weight, bias, task.options);
    const y = F.maxPool2d(sums, 1).mul(0.01).exp();
    backward(y, { gradient: tensor(inputs.dy, { shape: y.shape }) });
    const leaves = bias ? [x, weight, bias] : [x, weight];
    return [sums, y, ...leaves.map((leaf) => gradientOf(leaf)!)].map((t) => new Uint8Array(t.data().slice().buffer));
  });
}

async function answersWith(options: InitOptions): Promise<Uint8Array[][]> {
  await init(options);
  const all = [...conv2dCases, ...larger].map(answers);
  await shutdown();
  return all;
}

describe.runIf(available)('256-bit mode', () => {
  // All code is compiled with all optimisations from the first call on: it is they that pair vectors.
  beforeAll(() => setFlagsFromString('--no-liftoff'));
  afterAll(() => setFlagsFromString('--liftoff'));

  test.each([1, 3])('the same bits as without it, %i threads', async (threads) => {
    const expected = await answersWith({ threads: 1, build: 'relaxed' });
    await init({ threads, experimentalSimd256: true });
    const info = engineInfo();
    await shutdown();
    // Processors without AVX2, and machines too busy to show a gain, may refuse the mode, but for no other reason.
    if (info.simd256Fallback) return void expect(info.simd256Fallback).toMatch(/^V8 did not pair vectors: /);
    expect(info).toEqual({ build: 'relaxed', threads, threadsFallback: null, vectorBits: 256, simd256Fallback: null });
    const actual = await answersWith({ threads, experimentalSimd256: true });
    [...conv2dCases, ...larger].forEach(({ name }, i) => {
      for (const [j, bits] of expected[i]!.entries())
        expect(Buffer.compare(bits, actual[i]![j]!), `${name}, result ${j}`).toBe(0);
    });
  });
});
