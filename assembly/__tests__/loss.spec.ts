// Cross-entropy and squared error on numbers that can be checked by hand, ignored labels, labels out of range.
import { DETAIL, EXTENT, STATUS, field, initialise } from '../control';
import {
  CrossEntropyArgs,
  CrossEntropyGradArgs,
  LossTotalArgs,
  SquaredErrorArgs,
  crossEntropy,
  crossEntropyGrad,
  lossTotal,
  squaredError,
} from '../loss';
import { INDEX_OUT_OF_RANGE } from '../status';
import { floats, words } from './numbers';

const LN2: f32 = 0.6931471805599453;

function close(address: usize, expected: f32[]): void {
  for (let i = 0; i < expected.length; i++) {
    const value = load<f32>(address + 4 * i);
    expect<bool>(abs(value - expected[i]) < 1e-6).toBe(true, `element ${i}: ${value}, expected ${expected[i]}`);
  }
}

/** Scores log 1, log 2, log 1 twice: probabilities 1/4, 1/2, 1/4. */
function forward(labels: i32[]): CrossEntropyArgs {
  const args = changetype<CrossEntropyArgs>(heap.alloc(offsetof<CrossEntropyArgs>()));
  args.losses = heap.alloc(8);
  args.counts = heap.alloc(8);
  args.probabilities = heap.alloc(24 + 64);
  args.x = floats([0, LN2, 0, 100, 100 + LN2, 100]);
  args.labels = words(labels);
  args.weight = 0;
  args.rows = 2;
  args.n = 3;
  args.block = 2;
  args.ignoreIndex = -100;
  args.smoothing = 0;
  crossEntropy(args, 0, 1, 0);
  return args;
}

describe('crossEntropy', () => {
  beforeAll(() => {
    const control = heap.alloc(1024);
    memory.fill(control, 0, 1024);
    initialise(control);
  });

  it('is the logarithm of the probability', () => {
    const args = forward([1, 0]);
    close(args.losses, [LN2, 2 * LN2]);
    close(args.probabilities, [0.25, 0.5, 0.25]);
  });

  it('has the gradient p - target, and none where it is ignored', () => {
    const args = forward([1, -100]);
    const total = changetype<LossTotalArgs>(heap.alloc(offsetof<LossTotalArgs>()));
    total.y = heap.alloc(4);
    total.divisor = heap.alloc(4);
    total.losses = args.losses;
    total.counts = args.counts;
    total.rows = 2;
    total.mean = 1;
    lossTotal(total, 0, 1, 0);
    close(total.y, [LN2]);
    const grad = changetype<CrossEntropyGradArgs>(heap.alloc(offsetof<CrossEntropyGradArgs>()));
    grad.dx = heap.alloc(24);
    grad.probabilities = args.probabilities;
    grad.labels = args.labels;
    grad.weight = 0;
    grad.g = floats([2]);
    grad.divisor = total.divisor;
    grad.rows = 2;
    grad.n = 3;
    grad.block = 2;
    grad.ignoreIndex = -100;
    grad.smoothing = 0;
    grad.perRow = 0;
    crossEntropyGrad(grad, 0, 1, 0);
    close(grad.dx, [0.5, -1, 0.5, 0, 0, 0]);
  });

  it('reports a label out of range and counts it as nothing', () => {
    const args = forward([1, 3]);
    expect<i32>(load<i32>(field(STATUS))).toBe(INDEX_OUT_OF_RANGE);
    expect<i32>(load<i32>(field(DETAIL))).toBe(3);
    expect<i32>(load<i32>(field(EXTENT))).toBe(3);
    expect<f32>(load<f32>(args.counts, 4)).toBe(0);
  });
});

describe('squaredError', () => {
  it('adds squares of differences', () => {
    const args = changetype<SquaredErrorArgs>(heap.alloc(offsetof<SquaredErrorArgs>()));
    args.y = heap.alloc(4);
    args.x = floats([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    args.target = floats([1, 2, 3, 4, 5, 6, 7, 8, 9, 7, 7]);
    args.n = 11;
    squaredError(args, 0, 1, 0);
    expect<f32>(load<f32>(args.y)).toBe(25);
  });
});
