// The oracles of tests/reference against the golden numbers from PyTorch: two answers made independently of the engine.
import { describe, expect, test } from 'vitest';
import { conv2dCases, conv2dInputs } from './cases/conv2d.ts';
import { binaryCases, binaryInputs, specialOps, type UnaryCase, unaryCases, unaryInputs } from './cases/elementwise.ts';
import { gemmCases, gemmInputs, matmulCases, matmulInputs } from './cases/gemm.ts';
import { lenetBatch, lenetChecksum, lenetParameters, lenetShapes, lenetVariants } from './cases/lenet.ts';
import { crossEntropyCases, crossEntropyInputs, mseLossCases, mseLossInputs } from './cases/loss.ts';
import { optimCases, optimInputs, scheduleCases } from './cases/optim.ts';
import { poolCases, poolInputs } from './cases/pool.ts';
import { reduceCases, reduceInputs } from './cases/reduce.ts';
import { softmaxCases, softmaxInputs } from './cases/softmax.ts';
import { type Golden, golden, goldenList, goldenTensor } from './golden/load.ts';
import { dot, expectClose, expectEqual, expectUlps, ulpDistance } from './reference/compare.ts';
import { conv2d, conv2dBiasGrad, conv2dGeometry, conv2dInputGrad, conv2dWeightGrad } from './reference/conv2d.ts';
import {
  applyBinary,
  type Binary,
  binary,
  binaryGrad,
  clamp,
  power,
  type Unary,
  unary,
  where,
  whereGrad,
} from './reference/elementwise.ts';
import { gemm, matmul, matmulGrad } from './reference/gemm.ts';
import { crossEntropy, crossEntropyGrad, mseLoss, mseLossGrad } from './reference/loss.ts';
import { avgPool2d, avgPool2dGrad, maxPool2d, maxPool2dGrad, pool2dGeometry } from './reference/pool.ts';
import { type Reduction, reduce, reduceGeometry, reduceGrad, reductions } from './reference/reduce.ts';
import { logSoftmax, logSoftmaxGrad, softmax, softmaxGrad } from './reference/softmax.ts';
import {
  type Four,
  hashes,
  integers,
  type Numbers,
  type Shape,
  smallIntegers,
  uniform,
  values,
} from './reference/values.ts';

/** Both sides are float64; the golden one was rounded to float32 at the end. */
const rounding = { c: 1.001 };

/** The oracle's answer has the golden shape and, up to the rounding, its numbers. */
function expectGolden(actual: Numbers, expected: Golden | undefined, label: string, shape?: Shape): void {
  if (!expected) throw new Error(`${label}: PyTorch gave no such tensor`);
  if (shape) expect(expected.shape, label).toEqual(shape);
  expectClose(Float32Array.from(actual), expected.data, { tolerance: rounding, label });
}

/** As expectGolden, but each number by itself: small ones do not hide behind large ones. */
function expectRounded(actual: Numbers, expected: Golden | undefined, label: string): void {
  if (!expected) throw new Error(`${label}: PyTorch gave no such tensor`);
  expectUlps(actual, expected.data, { ulps: 1, label });
}

describe('values', () => {
  test('hashes match the Python twin', () => {
    expect([...hashes('feathermap', 4)]).toEqual([1105460513, 4229334164, 3662256099, 3563699727]);
  });

  test('are exact in float32 and lie in [-1, 1)', () => {
    const numbers = uniform('range', 10000);
    expect(Math.min(...numbers)).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...numbers)).toBeLessThan(1);
    expect(Math.abs(dot(numbers, numbers) / 10000 - 1 / 3)).toBeLessThan(0.01);
  });

  test('integers reach both ends', () => {
    expect(new Set(integers('ends', 200, -3, 3))).toEqual(new Set([-3, -2, -1, 0, 1, 2, 3]));
  });
});

describe('compare', () => {
  test('names the worst element and what was allowed', () => {
    const options = { tolerance: { c: 1 }, label: 'op' };
    expect(() => expectClose([1, 2.5, 3], [1, 2, 3], options)).toThrow(
      'op: element 1 is 2.5, expected 2: off by 5.00e-1, allowed 1.79e-7',
    );
  });

  test('a NaN or an infinity must be met by its like', () => {
    const options = { tolerance: { c: 1e30 }, label: 'op' };
    expect(() => expectClose([Number.NaN], [1], options)).toThrow('off by Infinity');
    expect(() => expectClose([1], [Number.NaN], options)).toThrow('off by Infinity');
    expect(() => expectClose([-Infinity], [Infinity], options)).toThrow('off by Infinity');
    expectClose([Number.NaN, Infinity], [Number.NaN, Infinity], options);
  });

  test('lengths must agree', () => {
    expect(() => expectEqual([1], [1, 2], 'op')).toThrow('op: 1 elements, expected 2');
  });

  test('ulpDistance counts float32 numbers across zero', () => {
    expect(ulpDistance(1, 1 + 2 ** -23)).toBe(1);
    expect(ulpDistance(-0, 0)).toBe(0);
    expect(ulpDistance(-(2 ** -149), 2 ** -149)).toBe(2);
    expect(ulpDistance(Number.NaN, 1)).toBe(Infinity);
  });
});

describe('conv2d', () => {
  test('the list is long enough and names are unique', () => {
    expect(conv2dCases.length).toBeGreaterThanOrEqual(110);
    expect(new Set(conv2dCases.map(({ name }) => name)).size).toBe(conv2dCases.length);
  });

  test.each(conv2dCases)('$name', (task) => {
    const { geometry, x, weight, bias, dy } = conv2dInputs(task);
    const { y, dx, dw, db } = golden('conv2d', task.name);
    expectGolden(conv2d(x, weight, bias, geometry), y, 'y', geometry.y);
    expectGolden(conv2dInputGrad(dy, weight, geometry), dx, 'dx', geometry.x);
    expectGolden(conv2dWeightGrad(x, dy, geometry), dw, 'dw', geometry.weight);
    if (bias) expectGolden(conv2dBiasGrad(dy, geometry), db, 'db', [task.weight[0]]);
  });

  test.each(conv2dCases)('$name: adjoint, on integers', (task) => {
    const { geometry, x, weight, dy } = conv2dInputs(task, smallIntegers);
    const product = dot(conv2d(x, weight, null, geometry), dy);
    expect(dot(x, conv2dInputGrad(dy, weight, geometry))).toBe(product);
    expect(dot(weight, conv2dWeightGrad(x, dy, geometry))).toBe(product);
  });
});

describe('pool', () => {
  test('the list is long enough and names are unique', () => {
    expect(poolCases.length).toBeGreaterThanOrEqual(70);
    expect(new Set(poolCases.map(({ name }) => name)).size).toBe(poolCases.length);
  });

  test.each(poolCases)('$name', (task) => {
    const { geometry, x, dy } = poolInputs(task);
    const { y, dx } = golden('pool', task.name);
    const max = task.op === 'max';
    expectGolden(max ? maxPool2d(x, geometry) : avgPool2d(x, geometry), y, 'y', geometry.y);
    expectGolden(max ? maxPool2dGrad(dy, x, geometry) : avgPool2dGrad(dy, geometry), dx, 'dx', task.x);
  });
});

/** The oracle of a unary case; pow and clamp are made to measure. */
function unaryOracle({ op, exponent = 1, options = {} }: Pick<UnaryCase, 'op' | 'exponent' | 'options'>): Unary {
  if (op === 'clamp') return clamp(options);
  return op === 'pow' ? power(exponent) : unary[op];
}

describe('elementwise', () => {
  test.each(unaryCases)('$name', (task) => {
    const { x, dy } = unaryInputs(task);
    const { f, dx } = unaryOracle(task);
    const expected = golden('elementwise', task.name);
    expectRounded(Float64Array.from(x, f), expected.y, 'y');
    const gradient = Float64Array.from(x, (number, i) => dx(number, dy[i]!));
    expectGolden(gradient, expected.dx, 'dx');
  });

  test.each(specialOps)('%s of specials', (op) => {
    const x = goldenTensor('elementwise/specials').data;
    const dy = values(`elementwise/${op} of specials/dy`, [x.length]);
    const expected = golden('elementwise', `${op} of specials`);
    expectRounded(Float64Array.from(x, unary[op].f), expected.y, 'y');
    expectRounded(
      Float64Array.from(x, (number, i) => unary[op].dx(number, dy[i]!)),
      expected.dx,
      'dx',
    );
  });

  test.each(binaryCases)('$name', (task) => {
    const { condition, dy, y, ...operands } = binaryInputs(task);
    const { name, op } = task;
    const expected = golden('elementwise', name);
    if (op === 'where') {
      expectGolden(where(condition, operands), expected.y, 'y', y);
      const { da, db } = whereGrad(dy, condition, operands);
      expectGolden(da, expected.da, 'da', operands.shapes.a);
      expectGolden(db, expected.db, 'db', operands.shapes.b);
      return;
    }
    expectGolden(applyBinary(binary[op], operands), expected.y, 'y', y);
    if (!binary[op].da) return;
    const { da, db } = binaryGrad(binary[op] as Required<Binary>, dy, operands);
    expectGolden(da, expected.da, 'da', operands.shapes.a);
    expectGolden(db, expected.db, 'db', operands.shapes.b);
  });
});

describe('reduce', () => {
  test.each(reduceCases)('$name', (task) => {
    const { x, y, dy } = reduceInputs(task);
    const op = reductions[task.op];
    const expected = golden('reduce', task.name);
    expect(reduceGeometry(task.x, task.options).y).toEqual(y);
    expectGolden(reduce(op, x, task.x, task.options), expected.y, 'y', y);
    if (op.dx)
      expectGolden(reduceGrad(op as Required<Reduction>, dy, x, task.x, task.options), expected.dx, 'dx', task.x);
  });
});

describe('gemm', () => {
  test.each(matmulCases)('matmul: $name', (task) => {
    const { geometry, a, b, dy } = matmulInputs(task);
    const expected = golden('matmul', task.name);
    expectGolden(matmul(a, b, geometry), expected.y, 'y', geometry.y);
    const { da, db } = matmulGrad(dy, a, b, geometry);
    expectGolden(da, expected.da, 'da', task.a);
    expectGolden(db, expected.db, 'db', task.b);
  });

  test('the forms differ only in how operands are stored', () => {
    const { M, N, K } = gemmCases[8]!;
    const { a, b, bias } = gemmInputs(gemmCases[8]!, smallIntegers);
    const turned = (x: Numbers, rows: number, columns: number): Float64Array =>
      Float64Array.from({ length: rows * columns }, (_, i) => x[(i % rows) * columns + Math.floor(i / rows)]!);
    const c = gemm(a, b, { M, N, K, bias });
    expectEqual(gemm(a, turned(b, K, N), { M, N, K, form: 'NT', bias }), c, 'NT');
    expectEqual(gemm(turned(a, M, K), b, { M, N, K, form: 'TN', bias }), c, 'TN');
  });
});

describe('softmax', () => {
  test.each(softmaxCases)('$name', (task) => {
    const soft = softmaxInputs('softmax', task);
    const log = softmaxInputs('logSoftmax', task);
    const [expected, expectedLog] = [golden('softmax', task.name), golden('logSoftmax', task.name)];
    expectGolden(softmax(soft.x, task.x, task.dim), expected.y, 'softmax', task.x);
    expectGolden(softmaxGrad(soft.dy, soft.x, task.x, task.dim), expected.dx, 'softmax dx', task.x);
    expectGolden(logSoftmax(log.x, task.x, task.dim), expectedLog.y, 'logSoftmax', task.x);
    expectGolden(logSoftmaxGrad(log.dy, log.x, task.x, task.dim), expectedLog.dx, 'logSoftmax dx', task.x);
  });
});

describe('loss', () => {
  test.each(crossEntropyCases)('crossEntropy: $name', (task) => {
    const { x, target, targetShape, dy } = crossEntropyInputs(task);
    const problem = { x, shape: task.x, target, options: task.options };
    const { y, dx } = golden('crossEntropy', task.name);
    expectGolden(crossEntropy(problem), y, 'y', task.options.reduction === 'none' ? targetShape : []);
    expectGolden(crossEntropyGrad(dy, problem), dx, 'dx', task.x);
  });

  test.each(mseLossCases)('mseLoss: $name', (task) => {
    const { x, target, dy } = mseLossInputs(task);
    const { y, dx, dtarget } = golden('mseLoss', task.name);
    const { reduction } = task.options;
    expectGolden(mseLoss(x, target, reduction), y, 'y', reduction === 'none' ? task.x : []);
    const gradient = mseLossGrad(dy, x, target, reduction);
    expectGolden(gradient, dx, 'dx', task.x);
    expectGolden(
      gradient.map((number) => -number),
      dtarget,
      'dtarget',
      task.x,
    );
  });
});

describe('optim', () => {
  test.each(optimCases)('$name has a path', (task) => {
    const { w, gradients } = optimInputs(task);
    expect(goldenTensor(`optim/${task.name}`).shape).toEqual([gradients.length, w.length]);
  });

  test('plain SGD walks against the gradient', () => {
    const { w, gradients } = optimInputs(optimCases[0]!);
    const path = goldenTensor('optim/SGD').data;
    const place = Float64Array.from(w);
    gradients.forEach((gradient, step) => {
      gradient.forEach((slope, i) => {
        place[i]! -= 0.1 * slope;
      });
      expectGolden(place, { shape: [w.length], data: path.subarray(step * w.length, (step + 1) * w.length) }, 'SGD');
    });
  });

  test.each(scheduleCases)('$name has 25 rates', ({ name }) => {
    expect(goldenList(`schedule/${name}`)).toHaveLength(25);
  });
});

/** LeNet's logits, from the oracles of its layers. */
function lenetLogits(activation: 'Sigmoid' | 'ReLU'): Float64Array {
  const parameters = lenetParameters();
  const data = (key: string): Float32Array => parameters[key]!.data;
  const act = (x: Float64Array): Float64Array => x.map(activation === 'ReLU' ? unary.relu.f : unary.sigmoid.f);
  const pool = activation === 'ReLU' ? maxPool2d : avgPool2d;
  const batch = lenetBatch();
  let [x, shape]: [Numbers, Four] = [batch.x, batch.shape];
  for (const [layer, padding] of [
    ['features.0', 2],
    ['features.3', 0],
  ] as const) {
    const geometry = conv2dGeometry(shape, lenetShapes[`${layer}.weight`] as unknown as Four, { padding });
    const window = pool2dGeometry(geometry.y, 2);
    x = pool(act(conv2d(x, data(`${layer}.weight`), data(`${layer}.bias`), geometry)), window);
    shape = window.y;
  }
  for (const layer of ['classifier.0', 'classifier.2', 'classifier.4']) {
    const [N, K] = lenetShapes[`${layer}.weight`] as [number, number];
    const sums = gemm(x, data(`${layer}.weight`), { M: 16, N, K, form: 'NT', bias: data(`${layer}.bias`) });
    x = layer === 'classifier.4' ? sums : act(sums);
  }
  return Float64Array.from(x);
}

describe('lenet', () => {
  test.each(lenetVariants)('$name: logits, and the first of the training losses', ({ name, activation }) => {
    const logits = lenetLogits(activation);
    expectGolden(logits, goldenTensor(`lenet/${name}/logits`), 'logits', [16, 10]);
    const loss = crossEntropy({ x: logits, shape: [16, 10], target: lenetBatch().target });
    const losses = goldenList(`lenet/${name}/losses`);
    expect(loss[0]).toBeCloseTo(losses[0]!, 12);
    expect(losses).toHaveLength(10);
  });

  test.each(lenetVariants)('$name: every parameter has a gradient and a checksum', ({ name }) => {
    for (const [key, shape] of Object.entries(lenetShapes)) {
      expect(goldenTensor(`lenet/${name}/grad/${key}`).shape).toEqual(shape);
      expect(goldenList(`lenet/${name}/trained/${key}`)).toHaveLength(2);
    }
  });

  test('has 61,706 parameters, and a checksum sees their order', () => {
    const parameters = Object.entries(lenetParameters());
    expect(parameters.reduce((count, [, { data }]) => count + data.length, 0)).toBe(61706);
    const [key, { data }] = parameters[0]!;
    expect(lenetChecksum(key, data.slice().reverse())[1]).not.toBeCloseTo(lenetChecksum(key, data)[1], 3);
  });
});
