// Batch normalisation, adaptive pooling and hardtanh: against PyTorch and the oracle, in every layout, eagerly and captured.
import { describe, expect, test } from 'vitest';
import {
  adaptiveAvgPool2d,
  add,
  batchNorm,
  captureStep,
  channelsLast,
  hardtanh,
  mul,
  nn,
  relu6,
  scope,
  sum,
  type Tensor,
  tensor,
  zeros,
} from '../../ts/index.ts';
import { batchNormOp } from '../../ts/ops/batch-norm.ts';
import { type BatchNormBackwardGeometry, batchNormBackwardOp } from '../../ts/ops/batch-norm-backward.ts';
import type { BatchNormGeometry } from '../../ts/ops/batch-norm-geometry.ts';
import { apply } from '../../ts/tensor/apply.ts';
import {
  adaptiveCases,
  adaptiveName,
  type BatchNormCase,
  type BatchNormInputs,
  batchNormCases,
  batchNormInputs,
  hardtanhCases,
  hardtanhInputs,
  layerAnswer,
} from '../cases/batch-norm.ts';
import * as oracle from '../reference/batch-norm.ts';
import { dot, expectClose, expectEqual } from '../reference/compare.ts';
import { integers, type Numbers, sizeOf, uniform, values } from '../reference/values.ts';
import { type Answer, type Layout, layouts, type Problem, solve, withEngine } from './harness.ts';

withEngine();

/** A test that makes tensors outside of `solve`, which counts bytes, gives them back at its end. */
const inScope = (body: () => void) => (): void => scope(body);

/** The problem of a case; running statistics are tested apart, since they change from run to run. */
function problem(
  task: BatchNormCase,
  inputs: BatchNormInputs,
  layout: Layout = 'rowMajor',
  dy: Layout = layout,
): Problem {
  const { x: shape, options } = task;
  const placed = {
    x: { data: inputs.x, shape, layout: shape.length === 4 || layout !== 'channelsLast' ? layout : undefined },
  };
  const vector = (data: Float32Array) => ({ data, shape: [shape[1]!] });
  const affine = inputs.weight ? { weight: vector(inputs.weight), bias: vector(inputs.bias!) } : {};
  const given = options.training
    ? {}
    : { mean: { ...vector(inputs.mean), constant: true }, variance: { ...vector(inputs.variance), constant: true } };
  return {
    inputs: { ...placed, ...affine, ...given },
    run: ({ x, weight, bias, mean, variance }) =>
      batchNorm(x!, mean ?? null, variance ?? null, { weight: weight ?? null, bias: bias ?? null, ...options }),
    dy: { data: inputs.dy, shape, layout: shape.length === 4 || dy !== 'channelsLast' ? dy : undefined },
  };
}

/** y, dx, dweight and dbias in f64. */
function truth(task: BatchNormCase, inputs: BatchNormInputs): Record<'y' | 'dx' | 'dweight' | 'dbias', Numbers> {
  const { x: shape, options } = task;
  const norm = { ...inputs, shape, eps: options.eps ?? 1e-5 };
  const count = sizeOf(shape) / shape[1]!;
  const given = { mean: [...inputs.mean], variance: [...inputs.variance], count };
  const moments = options.training ? oracle.momentsOf(inputs.x, shape) : given;
  return {
    y: oracle.batchNorm(norm, moments),
    ...oracle.batchNormGrad(norm, moments, inputs.dy, options.training === true),
  };
}

/** Few values per channel make small deviations. */
function toleranceOf({ x: shape }: BatchNormCase): { c: number; terms: number } {
  const count = sizeOf(shape) / shape[1]!;
  return { c: 8 + (count < 8 ? 100 : 0), terms: Math.max(4, Math.sqrt(count)) };
}

function expectAnswer(
  task: BatchNormCase,
  answer: Answer,
  expected: Partial<Record<string, Numbers>>,
  label: string,
): void {
  const tolerance = toleranceOf(task);
  const { y, gradients } = answer;
  const found: Record<string, Numbers | undefined> = {
    y,
    dx: gradients.x,
    dweight: gradients.weight,
    dbias: gradients.bias,
  };
  for (const [name, numbers] of Object.entries(expected))
    if (found[name] && numbers) expectClose(found[name], numbers, { tolerance, label: `${name} ${label}` });
}

describe('batchNorm', () => {
  describe.each(batchNormCases)('$name', (task) => {
    const inputs = batchNormInputs(task);

    test('every layout agrees with the oracle', () => {
      const expected = truth(task, inputs);
      layouts.forEach((layout, i) => {
        const answer = solve(problem(task, inputs, layout, layouts[(i + 1) % layouts.length]!));
        expect(answer.shape).toEqual(task.x);
        expectAnswer(task, answer, expected, layout);
      });
    });

    if (task.golden !== false)
      test('PyTorch', () => {
        const of = (result: string) => layerAnswer(`batchNorm/${task.name}`, result);
        const expected = { y: of('y'), dx: of('dx'), dweight: of('dweight'), dbias: of('dbias') };
        expect(expected.y).toBeDefined();
        expectAnswer(task, solve(problem(task, inputs)), expected, 'of PyTorch');
      });

    if (task.golden !== false)
      test(
        'gradients of gradients',
        inScope(() => {
          const leaf = (data: Float32Array | null, shape: readonly number[]) =>
            data && tensor(data, { shape, requiresGrad: true });
          const channels = [task.x[1]!];
          const x = leaf(inputs.x, task.x)!;
          const [weight, bias] = [leaf(inputs.weight, channels), leaf(inputs.bias, channels)];
          const given = task.options.training ? [null, null] : [tensor(inputs.mean), tensor(inputs.variance)];
          const y = batchNorm(x, given[0]!, given[1]!, { weight, bias, ...task.options });
          y.backward({ gradient: tensor(inputs.dy, { shape: task.x }), createGraph: true });
          const leaves = [x, weight, bias].filter((each) => each !== null);
          const total = leaves
            .map(({ grad, shape }, i) => sum(mul(grad!, tensor(inputs.second[i]!, { shape }))))
            .reduce((a, b) => add(a, b));
          for (const each of leaves) each.grad = null;
          total.backward();
          const tolerance = { c: 40 * toleranceOf(task).c, terms: toleranceOf(task).terms, scale: 1 };
          for (const [name, each] of [
            ['ddx', x],
            ['ddweight', weight],
          ] as const) {
            const expected = layerAnswer(`batchNorm/${task.name}`, name);
            if (expected && each) expectClose(each.grad!.data(), expected, { tolerance, label: name });
          }
        }),
      );

    if (task.golden !== false && task.options.training)
      test(
        'running statistics',
        inScope(() => {
          const [runningMean, runningVar] = [tensor(inputs.mean), tensor(inputs.variance)];
          const x = tensor(inputs.x, { shape: task.x });
          batchNorm(task.x.length === 4 ? channelsLast(x) : x, runningMean, runningVar, task.options);
          for (const [name, found] of Object.entries({ runningMean, runningVar })) {
            const expected = layerAnswer(`batchNorm/${task.name}`, name)!;
            expectClose(found.data(), expected, { tolerance: { c: 8 + (task.shift ?? 0), scale: 1 }, label: name });
          }
        }),
      );
  });

  test('the gradient of the oracle is the slope of the oracle', () => {
    const task = batchNormCases[0]!;
    const inputs = batchNormInputs(task);
    const direction = uniform('direction', inputs.x.length);
    const at = (step: number): number => {
      const x = Float64Array.from(inputs.x, (value, i) => value + step * direction[i]!);
      const norm = { ...inputs, x, shape: task.x, eps: 1e-5 };
      return dot(oracle.batchNorm(norm, oracle.momentsOf(x, task.x)), inputs.dy);
    };
    const slope = (at(1e-6) - at(-1e-6)) / 2e-6;
    expect(dot(truth(task, inputs).dx, direction)).toBeCloseTo(slope, 6);
  });

  test.each(layouts)('exact: values at one deviation from the mean, %s', (layout) => {
    // Every channel holds as many -1 as 1, so mean and variance are 0 and 1, and count is a power of two.
    const shape = [4, 5, 2, 4];
    const x = Float32Array.from({ length: 160 }, (_, i) => (i % 2 ? 1 : -1));
    const inputs = { ...batchNormInputs({ name: 'exact', x: shape, options: {} }), x };
    const data = { weight: integers('w', 5, 1, 4), bias: integers('b', 5, -3, 3), dy: integers('dy', 160, -3, 3) };
    const task = { name: 'exact', x: shape, options: { training: true, eps: 0 } };
    const expected = truth(task, { ...inputs, ...data });
    const { y, gradients } = solve(problem(task, { ...inputs, ...data }, layout));
    expectEqual(y, expected.y, 'y');
    expectEqual(gradients.x!, expected.dx, 'dx');
    expectEqual(gradients.weight!, expected.dweight, 'dweight');
    expectEqual(gradients.bias!, expected.dbias, 'dbias');
  });

  test.each(layouts)('adjoint: with given statistics y is linear in x, exactly on integers, %s', (layout) => {
    const shape = [2, 7, 3, 5];
    const task = { name: 'adjoint', x: shape, options: { eps: 0 } };
    const inputs = {
      ...batchNormInputs(task),
      x: integers('x', 210, -3, 3),
      weight: integers('w', 7, 1, 4),
      bias: new Float32Array(7),
      mean: new Float32Array(7),
      variance: Float32Array.from([1, 4, 16, 0.25, 1, 4, 1]),
      dy: integers('dy', 210, -3, 3),
    };
    const { y, gradients } = solve(problem(task, inputs, layout));
    expect(dot(inputs.x, gradients.x!)).toBe(dot(y, inputs.dy));
    expect(dot(inputs.weight, gradients.weight!)).toBe(dot(y, inputs.dy));
  });

  test('a constant channel far from 0 has variance 0 and comes out as the bias', () => {
    for (const layout of ['rowMajor', 'channelsLast'] as const) {
      const x = new Float32Array(3 * 2 * 49).fill(0.1);
      const y = solve({
        inputs: { x: { data: x, shape: [3, 2, 7, 7], layout }, bias: { data: Float32Array.of(3, -1), shape: [2] } },
        run: ({ x, bias }) => batchNorm(x!, null, null, { training: true, bias: bias! }),
      }).y;
      y.forEach((value, i) => {
        expect(value).toBe(Math.floor(i / 49) % 2 ? -1 : 3);
      });
    }
  });

  test('numbers whose sum no f32 holds have the mean and variance of PyTorch', () => {
    const moments = (data: Float32Array, shape: number[], layout: Layout): { mean: number[]; variance: number[] } =>
      scope(() => {
        const [mean, variance] = [zeros([shape[1]!]), zeros([shape[1]!])];
        const x = tensor(data, { shape });
        batchNorm(layout === 'channelsLast' ? channelsLast(x) : x, mean, variance, { training: true, momentum: 1 });
        return { mean: [...mean.data()], variance: [...variance.data()] };
      });
    for (const layout of ['rowMajor', 'channelsLast'] as const) {
      // Channels all equal, half and half, and small.
      const [images, pixels] = [4, 64];
      const large = Math.fround(1e37);
      const data = new Float32Array(images * 3 * pixels);
      for (let i = 0; i < data.length; i++) {
        const channel = Math.floor(i / pixels) % 3;
        data[i] = channel === 0 ? large : channel === 1 ? (i < data.length / 2 ? large : -large) : i % 2;
      }
      const { mean, variance } = moments(data, [images, 3, 8, 8], layout);
      expect(mean).toEqual([large, 0, 0.5]);
      expect(variance).toEqual([0, Number.POSITIVE_INFINITY, Math.fround((0.25 * 256) / 255)]);
    }
    expect(moments(new Float32Array(256).fill(1e37), [256, 1], 'rowMajor')).toEqual({
      mean: [Math.fround(1e37)],
      variance: [0],
    });
    expect(moments(Float32Array.of(1, Number.POSITIVE_INFINITY, 2, 3), [4, 1], 'rowMajor')).toEqual({
      mean: [Number.POSITIVE_INFINITY],
      variance: [Number.NaN],
    });
  });

  // f32 knows 10^4 to 10^-3 only, and the mean of a batch lies between its numbers.
  test.each([
    { mean: 100, deviation: 1, shape: [100_000, 1] },
    { mean: 1e4, deviation: 1e-2, shape: [8, 5, 9, 7] },
    { mean: -1e5, deviation: 0.1, shape: [4, 3, 40, 40] },
    { mean: 1e-3, deviation: 1e-6, shape: [64, 10] },
  ])('mean $mean, deviation $deviation: nothing drowns', ({ mean, deviation, shape }) => {
    const C = shape[1]!;
    const x = uniform('drown', sizeOf(shape)).map((value) => mean + Math.sqrt(3) * deviation * value);
    const task: BatchNormCase = { name: 'drown', x: shape, options: { training: true, eps: 1e-14 }, golden: false };
    const inputs: BatchNormInputs = { ...batchNormInputs(task), x };
    const expected = truth(task, inputs);
    const { variance, count } = oracle.momentsOf(x, shape);
    const tolerance = { c: 16 };
    for (const layout of ['rowMajor', 'channelsLast'] as const) {
      expectAnswer(task, solve(problem(task, inputs, layout)), expected, layout);
      scope(() => {
        const running = zeros([C]);
        const given = tensor(x, { shape });
        const placed = layout === 'channelsLast' ? channelsLast(given) : given;
        batchNorm(placed, zeros([C]), running, { training: true, momentum: 1 });
        const unbiased = variance.map((value) => (value * count) / (count - 1));
        expectClose(running.data(), unbiased, { tolerance, label: `variance ${layout}` });
      });
    }
  });
});

describe('what a pass may fold into it', () => {
  const shape = [2, 9, 5, 3];
  const data = (name: string) => tensor(values(`folded/${name}`, shape, { scale: 2 }), { shape });
  const bounded: typeof batchNormOp = {
    ...batchNormOp,
    infer(inputs, options) {
      const inferred = batchNormOp.infer(inputs, options);
      return { ...inferred, geometry: { ...inferred.geometry, lo: 0, hi: 1.5 } };
    },
  };

  test.each(['rowMajor', 'channelsLast'] as const)('addition and clamp, forward and backward, %s', (layout) => {
    const as = (x: Tensor): Tensor => (layout === 'channelsLast' ? channelsLast(x) : x);
    const [x, residual, dy] = [as(data('x')), as(data('residual')), as(data('dy'))];
    const [weight, bias] = [tensor(uniform('weight', 9)), tensor(uniform('bias', 9))];
    const [plain, mean, variance] = apply(batchNormOp, [x, weight, bias, null], { eps: 1e-5 });
    const [folded] = apply(bounded, [x, weight, bias, residual], { eps: 1e-5 });
    const expected = hardtanh(add(plain!, residual), { minVal: 0, maxVal: 1.5 });
    expectEqual(folded!.data(), expected.data(), 'y');
    const passed = expected.data().map((y, i) => (y > 0 && y < 1.5 ? dy.data()[i]! : 0));
    const geometry: BatchNormGeometry = batchNormOp.infer([x], { eps: 1e-5 }).geometry;
    const backward = (gradient: Tensor, y: Tensor | null, bounds: object): Float32Array[] => {
      const options: BatchNormBackwardGeometry = { ...geometry, ...bounds, batch: true, input: true };
      return apply(batchNormBackwardOp, [gradient, x, weight, mean!, variance!, y], options).map(
        (each) => each.data() as Float32Array,
      );
    };
    const masked = backward(as(tensor(passed, { shape })), null, {});
    backward(dy, folded!, { lo: 0, hi: 1.5 }).forEach((found, i) => {
      expectEqual(found, masked[i]!, `output ${i}`);
    });
  });
});

describe('BatchNorm2d', () => {
  test('has the buffers of PyTorch, and moves them in training alone', () => {
    const norm = new nn.BatchNorm2d(2);
    expect(Object.keys(norm.stateDict())).toEqual([
      'weight',
      'bias',
      'running_mean',
      'running_var',
      'num_batches_tracked',
    ]);
    expect(norm.stateDict().num_batches_tracked!.dtype).toBe('i32');
    const x = tensor([1, 3, 5, 9], { shape: [2, 2, 1, 1] });
    norm.forward(x);
    expect(norm.numBatchesTracked!.item()).toBe(1);
    // Means 3 and 6, unbiased variances 8 and 18.
    expectClose(norm.runningMean!.data(), [0.3, 0.6], { tolerance: { c: 1 }, label: 'mean' });
    expectClose(norm.runningVar!.data(), [1.7, 2.7], { tolerance: { c: 1 }, label: 'variance' });
    const before = norm.runningMean!.data();
    norm.eval().forward(x);
    expect(norm.runningMean!.data()).toEqual(before);
    expect(norm.numBatchesTracked!.item()).toBe(1);
  });

  test('momentum null averages over all batches', () => {
    const norm = new nn.BatchNorm2d(1, { momentum: null });
    for (const level of [1, 2, 6]) norm.forward(tensor([level - 1, level + 1], { shape: [2, 1, 1, 1] }));
    expect(norm.runningMean!.item()).toBeCloseTo(3, 6);
    expect(norm.runningVar!.item()).toBeCloseTo(2, 6);
  });

  test('without running statistics evaluation uses the batch', () => {
    const norm = new nn.BatchNorm2d(1, { trackRunningStats: false, affine: false, eps: 0 }).eval();
    expect(Object.keys(norm.stateDict())).toEqual([]);
    expect([...norm.forward(tensor([5, 9], { shape: [2, 1, 1, 1] })).data()]).toEqual([-1, 1]);
  });

  test('captured steps move the running statistics once per step', () => {
    const [eager, captured] = [new nn.BatchNorm2d(3), new nn.BatchNorm2d(3)];
    const step = captureStep((x: Tensor) => sum(captured.forward(x)));
    for (let i = 0; i < 3; i++) {
      const x = tensor(values(`step ${i}`, [2, 3, 4, 4]), { shape: [2, 3, 4, 4] });
      eager.forward(x);
      step(x);
    }
    for (const [name, value] of Object.entries(eager.stateDict()))
      expectEqual(captured.stateDict()[name]!.data(), value.data(), name);
    step.dispose();
  });

  test('loads a state without num_batches_tracked, as PyTorch does', () => {
    const norm = new nn.BatchNorm2d(2);
    const { num_batches_tracked: _, ...state } = new nn.BatchNorm2d(2).stateDict();
    expect(norm.loadStateDict(state).missingKeys).toEqual([]);
    const { running_var: __, ...broken } = state;
    expect(() => norm.loadStateDict(broken)).toThrow("missing keys 'running_var'");
  });

  test('speaks of what is wrong', () => {
    const norm = new nn.BatchNorm2d(3);
    const cases: [message: string, call: () => unknown][] = [
      ['BatchNorm2d: expected input [N,C,H,W], got shape [3,4,4]', () => norm.forward(zeros([3, 4, 4]))],
      ['BatchNorm2d: input [1,2,4,4] has 2 channels, expected 3', () => norm.forward(zeros([1, 2, 4, 4]))],
      [
        'expected more than 1 value per channel when training, got input size [1,3,1,1]',
        () => norm.forward(zeros([1, 3, 1, 1])),
      ],
      ['runningMean and runningVar must be given in evaluation mode', () => batchNorm(zeros([2, 3]), null, null)],
      ['runningMean and runningVar must be given together', () => batchNorm(zeros([2, 3]), zeros([3]), null)],
      [
        'batchNorm: weight [2] must be [3]',
        () => batchNorm(zeros([2, 3]), null, null, { weight: zeros([2]), training: true }),
      ],
      ['batchNorm: expected at least 2 dimensions', () => batchNorm(zeros([3]), null, null)],
      ["batchNorm: unknown option 'weigth'", () => batchNorm(zeros([2, 3]), null, null, { weigth: 1 } as never)],
      ['batchNorm: expected an f32 tensor, got i32', () => batchNorm(zeros([2, 3], { dtype: 'i32' }), null, null)],
      ['BatchNorm2d: momentum must be a number', () => new nn.BatchNorm2d(3, { momentum: -1 })],
    ];
    for (const [message, call] of cases) expect(call, message).toThrow(message);
  });
});

describe('adaptiveAvgPool2d', () => {
  test.each(adaptiveCases.map((task) => [adaptiveName(task), task] as const))('%s', (name, { x: shape, size }) => {
    const [y, dx] = [layerAnswer(name, 'y')!, layerAnswer(name, 'dx')!];
    const output = adaptiveAvgPool2d(zeros(shape), size).shape;
    for (const layout of layouts) {
      const answer = solve({
        inputs: { x: { data: values(`${name}/x`, shape), shape, layout: shape.length === 4 ? layout : 'rowMajor' } },
        run: (each) => adaptiveAvgPool2d(each.x!, size),
        dy: { data: values(`${name}/dy`, output), shape: output },
      });
      expectClose(answer.y, y, { tolerance: { c: 2, terms: 16, scale: 1 }, label: `y ${layout}` });
      expectClose(answer.gradients.x!, dx, { tolerance: { c: 2, terms: 16, scale: 1 }, label: `dx ${layout}` });
    }
  });

  test('adjoint identity, exact where windows hold powers of two', () => {
    const x = integers('adaptive/x', 2 * 5 * 6 * 6, -3, 3);
    const dy = integers('adaptive/dy', 2 * 5 * 4 * 4, -3, 3);
    const { y, gradients } = solve({
      inputs: { x: { data: x, shape: [2, 5, 6, 6], layout: 'channelsLast' } },
      run: (each) => adaptiveAvgPool2d(each.x!, 4),
      dy: { data: dy, shape: [2, 5, 4, 4] },
    });
    expect(dot(x, gradients.x!)).toBe(dot(y, dy));
  });

  test('speaks of what is wrong', () => {
    expect(() => adaptiveAvgPool2d(zeros([2, 3]), 1)).toThrow('expected images [N,C,H,W] or [C,H,W], got [2,3]');
    expect(() => adaptiveAvgPool2d(zeros([1, 2, 3, 3]), 0)).toThrow('outputSize must be a whole number >= 1, got 0');
    expect(() => adaptiveAvgPool2d(zeros([1, 2, 3, 3]), '1' as never)).toThrow(TypeError);
    expect(() => adaptiveAvgPool2d(zeros([1, 2, 0, 3]), 1)).toThrow('are empty');
  });
});

describe('hardtanh', () => {
  test.each(hardtanhCases)('$name', (task) => {
    const { x, dy } = hardtanhInputs(task);
    const answer = solve({
      inputs: { x: { data: x, shape: [99] } },
      run: (each) => (task.name === 'relu6' ? relu6(each.x!) : hardtanh(each.x!, task.options)),
      dy: { data: dy, shape: [99] },
    });
    expectEqual(answer.y, layerAnswer(`hardtanh/${task.name}`, 'y')!, 'y');
    expectEqual(answer.gradients.x!, layerAnswer(`hardtanh/${task.name}`, 'dx')!, 'dx');
  });

  test('keeps NaN, and refuses bounds in the wrong order', () => {
    expect(relu6(tensor([Number.NaN])).item()).toBeNaN();
    expect(() => hardtanh(zeros([1]), { minVal: 2, maxVal: 1 })).toThrow(
      'minVal must be less than maxVal, got 2 and 1',
    );
  });
});
