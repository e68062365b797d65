// Reductions of a 3 x 5 table by rows, by columns and in parts, against sums written out.
import { MAX_FLOAT, MIN_FLOAT, PositionArgs, positionColumns, positionRows } from '../extremum';
import {
  COLUMN_SCRATCH,
  DeviationArgs,
  IntegerSumArgs,
  ReduceArgs,
  deviationRows,
  sumColumns,
  sumIntegers,
  sumRows,
} from '../reduce';
import { floats, prepareScratch, words } from './numbers';

/** A record over `dims` (kept: size, strideY, strideX; reduced: size, strideX), with a canary behind its `outputs`. */
function reduction(bytes: usize, x: usize, dims: i32[], kept: i32, outputs: i32, chunk: i32): ReduceArgs {
  const args = changetype<ReduceArgs>(heap.alloc(bytes));
  args.x = x;
  args.y = heap.alloc(4 * outputs + 4);
  store<i32>(args.y + 4 * outputs, -77);
  args.dims = words(dims);
  args.kept = kept;
  args.reduced = (dims.length - 3 * kept) / 2;
  args.outputs = outputs;
  args.block = 8;
  args.chunk = chunk;
  args.divisor = 1;
  return args;
}

function expectFloats(address: usize, expected: f32[]): void {
  for (let i = 0; i < expected.length; i++) expect<f32>(load<f32>(address + 4 * i)).toBe(expected[i], `element ${i}`);
  expect<i32>(load<i32>(address + 4 * expected.length)).toBe(-77, 'the canary behind');
}

function expectWords(address: usize, expected: i32[]): void {
  for (let i = 0; i < expected.length; i++) expect<i32>(load<i32>(address + 4 * i)).toBe(expected[i], `element ${i}`);
}

const table: f32[] = [1, 2, 3, 4, 5, -1, 7, 0, 7, 2, 3, -2, 8, 0, -9];
const size = offsetof<ReduceArgs>();

describe('sums', () => {
  beforeAll(() => prepareScratch(COLUMN_SCRATCH));

  it('go along rows', () => {
    const args = reduction(size, floats(table), [3, 1, 5, 5, 1], 1, 3, 0);
    sumRows(args, 0, 1, 0);
    expectFloats(args.y, [15, 15, 0]);
  });

  it('go down columns', () => {
    const args = reduction(size, floats(table), [5, 1, 1, 3, 5], 1, 5, 0);
    sumColumns(args, 0, 1, 0);
    expectFloats(args.y, [3, 7, 11, 11, -2]);
  });

  it('come in parts, the last one shorter', () => {
    const args = reduction(size, floats(table), [4, 1, 4, 15, 1], 1, 4, 4);
    sumRows(args, 0, 1, 0);
    expectFloats(args.y, [10, 11, 10, -1]);
  });

  it('take any strides', () => {
    const args = reduction(size, floats(table), [3, 5], 0, 1, 0);
    args.divisor = 4;
    sumRows(args, 0, 1, 0);
    expectFloats(args.y, [0.75]);
  });

  it('of squared deviations have a centre each', () => {
    const args = changetype<DeviationArgs>(
      reduction(offsetof<DeviationArgs>(), floats(table), [3, 1, 5, 5, 1], 1, 3, 0),
    );
    args.centre = floats([3, 0, 1]);
    deviationRows(args, 0, 1, 0);
    expectFloats(args.y, [10, 103, 4 + 9 + 49 + 1 + 100]);
  });

  it('of bytes are exact', () => {
    const bytes = heap.alloc(1000);
    memory.fill(bytes, 255, 1000);
    const args = changetype<IntegerSumArgs>(reduction(offsetof<IntegerSumArgs>(), bytes, [997, 1], 0, 1, 0));
    args.bytes = 1;
    sumIntegers(args, 0, 1, 0);
    expectWords(args.y, [997 * 255, -77]);
  });
});

function position(kind: i32, x: usize, dims: i32[], outputs: i32): PositionArgs {
  const args = changetype<PositionArgs>(reduction(offsetof<PositionArgs>(), x, dims, 1, outputs, 0));
  args.kind = kind;
  args.positions = heap.alloc(4 * outputs);
  return args;
}

describe('positions', () => {
  it('are those of the first maximum', () => {
    const args = position(MAX_FLOAT, floats(table), [3, 1, 5, 5, 1], 3);
    positionRows(args, 0, 1, 0);
    expectFloats(args.y, [5, 7, 8]);
    expectWords(args.positions, [4, 1, 2]);
  });

  it('are those of the first minimum, down columns', () => {
    const args = position(MIN_FLOAT, floats(table), [5, 1, 1, 3, 5], 5);
    positionColumns(args, 0, 1, 0);
    expectFloats(args.y, [-1, -2, 0, 0, -9]);
    expectWords(args.positions, [1, 2, 1, 2, 2]);
  });

  it('are those of the first NaN', () => {
    const args = position(MAX_FLOAT, floats([1, NaN, Infinity, NaN, 2]), [1, 1, 5, 5, 1], 1);
    positionRows(args, 0, 1, 0);
    expect<bool>(isNaN(load<f32>(args.y))).toBe(true);
    expectWords(args.positions, [1]);
  });
});
