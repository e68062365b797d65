// Softmax of rows whose exponentials are powers of two, and of rows that hold infinities.
import { SoftmaxArgs, logSoftmax, softmax } from '../softmax';

const LN2: f32 = 0.6931471805599453;
const CANARY: f32 = -77;

function rows(values: f32[], n: i32): SoftmaxArgs {
  const args = changetype<SoftmaxArgs>(heap.alloc(offsetof<SoftmaxArgs>()));
  args.x = heap.alloc(4 * values.length + 64);
  args.y = heap.alloc(4 * values.length + 64);
  for (let i = 0; i < values.length; i++) store<f32>(args.x + 4 * i, values[i]);
  store<f32>(args.y + 4 * values.length, CANARY);
  args.rows = values.length / n;
  args.n = n;
  args.block = 1;
  return args;
}

function expectClose(address: usize, expected: f32[]): void {
  for (let i = 0; i < expected.length; i++) {
    const value = load<f32>(address + 4 * i);
    expect<bool>(abs(value - expected[i]) <= 3e-7 * max<f32>(1, abs(expected[i]))).toBe(true, `element ${i}: ${value}`);
  }
  expect<f32>(load<f32>(address + 4 * expected.length)).toBe(CANARY, 'the canary behind');
}

describe('softmax', () => {
  it('is a share of the whole', () => {
    const args = rows([0, LN2, LN2, 2 * LN2, 0, 5, 5, 5, 5, 5], 5);
    softmax(args, 0, 2, 0);
    expectClose(args.y, [0.1, 0.2, 0.2, 0.4, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2]);
  });

  it('does not overflow', () => {
    const args = rows([1000, 1000, -Infinity], 3);
    softmax(args, 0, 1, 0);
    expectClose(args.y, [0.5, 0.5, 0]);
  });

  it('has a logarithm', () => {
    const args = rows([0, 0, 1000, 0], 2);
    logSoftmax(args, 0, 2, 0);
    expectClose(args.y, [-LN2, -LN2, 0, -1000]);
  });

  it('of nothing but -inf is NaN', () => {
    const args = rows([-Infinity, -Infinity], 2);
    softmax(args, 0, 1, 0);
    expect<bool>(isNaN(load<f32>(args.y))).toBe(true);
  });
});
