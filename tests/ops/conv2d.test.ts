// Convolution: every case of the list exactly on integers, in every layout, and against PyTorch on typical numbers.
import { describe, expect, test } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { assignGradient, gradientOf } from '../../ts/autograd/gradient.ts';
import { conv2d } from '../../ts/ops/conv2d.ts';
import { tensor } from '../../ts/tensor/create.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import { type Conv2dCase, type Conv2dInputs, conv2dCases, conv2dInputs, conv2dTolerance } from '../cases/conv2d.ts';
import { golden } from '../golden/load.ts';
import { dot, expectClose, expectEqual } from '../reference/compare.ts';
import * as oracle from '../reference/conv2d.ts';
import { tapPosition } from '../reference/geometry.ts';
import { coordinates, offset, places } from '../reference/indices.ts';
import { type Shape, smallIntegers, values } from '../reference/values.ts';
import { combinations, conv2dProblem } from './conv2d-problem.ts';
import { solve, withEngine } from './harness.ts';

// The product alone: Winograd's algorithm has tests of its own.
withEngine({ threads: 1, debug: true, winograd: false });

describe('exact on integers', () => {
  test.each(conv2dCases)('$name', (task) => {
    const inputs = conv2dInputs(task, smallIntegers);
    const { geometry, x, weight, bias, dy } = inputs;
    const y = oracle.conv2d(x, weight, bias, geometry);
    const dx = oracle.conv2dInputGrad(dy, weight, geometry);
    const dw = oracle.conv2dWeightGrad(x, dy, geometry);
    const db = oracle.conv2dBiasGrad(dy, geometry);
    for (const layout of combinations) {
      const label = JSON.stringify(layout);
      const answer = solve(conv2dProblem(task, inputs, layout));
      expect(answer.shape).toEqual(geometry.y);
      expectEqual(answer.y, y, `y ${label}`);
      expectEqual(answer.gradients.x!, dx, `dx ${label}`);
      expectEqual(answer.gradients.weight!, dw, `dw ${label}`);
      if (bias) expectEqual(answer.gradients.bias!, db, `db ${label}`);
    }
  });
});

describe('adjoint identity, exact on integers', () => {
  test.each(conv2dCases)('$name', (task) => {
    const inputs = { ...conv2dInputs(task, smallIntegers), bias: null };
    const { y, gradients } = solve(conv2dProblem(task, inputs));
    const product = dot(y, inputs.dy);
    expect(dot(inputs.x, gradients.x!)).toBe(product);
    expect(dot(inputs.weight, gradients.weight!)).toBe(product);
  });
});

describe('PyTorch', () => {
  test.each(conv2dCases)('$name', (task) => {
    const inputs = conv2dInputs(task);
    const expected = golden('conv2d', task.name);
    const tolerance = conv2dTolerance(inputs.geometry);
    const { y, shape, gradients } = solve(conv2dProblem(task, inputs, { x: 'channelsLast', weight: 'channelsLast' }));
    expect(shape).toEqual(expected.y.shape);
    expectClose(y, expected.y.data, { tolerance: tolerance.y, label: 'y' });
    expectClose(gradients.x!, expected.dx!.data, { tolerance: tolerance.dx, label: 'dx' });
    expectClose(gradients.weight!, expected.dw!.data, { tolerance: tolerance.dw, label: 'dw' });
    if (inputs.bias) expectClose(gradients.bias!, expected.db!.data, { tolerance: tolerance.db, label: 'db' });
  });
});

test.each([1, 2, 3])('%i output channels: a pixel has the same bits wherever it stands', (outputs) => {
  const x = values('constant/x', [13]);
  const weight = values('constant/weight', [outputs, 13, 3, 3]);
  const image = Float32Array.from({ length: 13 * 54 }, (_, i) => x[Math.floor(i / 54)]!);
  const { y } = solve({
    inputs: { x: { data: image, shape: [1, 13, 6, 9] }, weight: { data: weight, shape: [outputs, 13, 3, 3] } },
    run: ({ x, weight }) => conv2d(x, weight),
    dy: { data: values('constant/dy', [1, outputs, 4, 7]), shape: [1, outputs, 4, 7] },
  });
  for (let o = 0; o < outputs; o++) expect(new Set(y.subarray(28 * o, 28 * (o + 1))).size).toBe(1);
});

describe('larger than every block: exact on integers', () => {
  const tasks: Conv2dCase[] = [
    { name: 'k 360, 136 outputs', x: [2, 40, 17, 19], weight: [136, 40, 3, 3], options: { padding: 1 } },
    {
      name: '5,000 pixels',
      x: [2, 3, 51, 53],
      weight: [5, 3, 3, 3],
      options: {
        padding: [
          [0, 2],
          [1, 0],
        ],
      },
    },
    {
      name: 'k 1200, stride 2, dilation 2',
      x: [1, 48, 31, 33],
      weight: [13, 48, 5, 5],
      options: { stride: 2, dilation: 2, padding: 4 },
    },
    {
      name: 'groups 3 of 50 outputs',
      x: [3, 21, 23, 22],
      weight: [150, 7, 3, 3],
      options: { groups: 3, stride: [1, 2] },
    },
    {
      name: 'groups 4 of 8 channels, several splits of the pixels',
      x: [3, 32, 41, 40],
      weight: [20, 8, 3, 3],
      options: { groups: 4, padding: 1 },
    },
    { name: 'groups 60 of 2 channels', x: [2, 120, 8, 8], weight: [120, 2, 3, 3], options: { groups: 60, padding: 1 } },
    {
      name: 'depthwise of 200 channels',
      x: [1, 200, 21, 20],
      weight: [200, 1, 3, 3],
      options: { groups: 200, padding: 'same' },
    },
  ];

  /** Every product that reaches one output element, summed. */
  function outputAt(iy: number, { x, weight, bias, geometry }: Conv2dInputs): number {
    const [n, o, oh, ow] = coordinates(iy, geometry.y);
    const [outputs, channels, KH, KW] = geometry.weight;
    const firstChannel = Math.floor(o / (outputs / geometry.groups)) * channels;
    let sum = bias ? bias[o]! : 0;
    for (const [c, kh, kw] of places([channels, KH, KW] as const)) {
      const [h, w] = [tapPosition(geometry.rows, oh, kh), tapPosition(geometry.columns, ow, kw)];
      if (h < 0 || w < 0) continue;
      sum += x[offset([n, firstChannel + c, h, w], geometry.x)]! * weight[offset([o, c, kh, kw], geometry.weight)]!;
    }
    return sum;
  }

  test.each(tasks)('$name', (task) => {
    const inputs = conv2dInputs(task, smallIntegers);
    const { y, gradients } = solve(conv2dProblem(task, inputs));
    for (let iy = 0; iy < y.length; iy += 97) expect(y[iy]).toBe(outputAt(iy, inputs));
    const product = dot(y, inputs.dy) - dot(inputs.bias!, gradients.bias!);
    expect(dot(inputs.x, gradients.x!)).toBe(product);
    expect(dot(inputs.weight, gradients.weight!)).toBe(product);
  });
});

describe('gradients that nobody wants are not computed', () => {
  test.each(['x', 'weight', 'bias'])('%s alone', (wanted) => {
    const task = conv2dCases.find(({ name }) => name === '3x3')!;
    const all = conv2dProblem(task, conv2dInputs(task, smallIntegers));
    const inputs = Object.entries(all.inputs).map(([name, input]) => [name, { ...input, constant: name !== wanted }]);
    const { gradients } = solve({ ...all, inputs: Object.fromEntries(inputs) });
    expect(Object.keys(gradients)).toEqual([wanted]);
    expectEqual(gradients[wanted]!, solve(all).gradients[wanted]!, wanted);
  });
});

test('second derivatives: the gradient of <dx, u> is the convolution of u', () => {
  const options = { stride: 2, padding: 1, groups: 2, dilation: [1, 2] as const };
  const [xShape, wShape] = [
    [2, 4, 9, 8],
    [6, 2, 3, 3],
  ] as const;
  const geometry = oracle.conv2dGeometry(xShape, wShape, options);
  const draw = (name: string, shape: Shape): Float32Array => smallIntegers(`second/${name}`, shape);
  const [u, dyData] = [draw('u', xShape), draw('dy', geometry.y)];
  const x = tensor(draw('x', xShape), { shape: xShape, requiresGrad: true });
  const weight = tensor(draw('w', wShape), { shape: wShape, requiresGrad: true });
  const dy = tensor(dyData, { shape: geometry.y, requiresGrad: true });
  let dx: Tensor | undefined;
  x.hooks = [
    (gradient) => {
      dx = gradient;
    },
  ];
  backward(conv2d(x, weight, null, options), { gradient: dy, createGraph: true });
  assignGradient(weight, null);
  backward(dx!, { gradient: tensor(u, { shape: xShape }) });
  expectEqual(data(gradientOf(dy)!), oracle.conv2d(u, data(weight), null, geometry), 'd<dx,u>/d dy');
  expectEqual(data(gradientOf(weight)!), oracle.conv2dWeightGrad(u, dyData, geometry), 'd<dx,u>/d weight');
});
