// Elementwise kernels on tails, broadcasts and special numbers; canaries behind every result.
import { BinaryArgs, add, maximum } from '../binary';
import { ltF32 } from '../compare';
import { ClampArgs, UnaryArgs, UnaryBackwardArgs, clamp, neg, relu, reluBackward } from '../unary';
import { at } from './numbers';

const CANARY: f32 = 12345;

/** A buffer of n numbers that count up from `start`, with a canary and slack behind. */
function numbers(n: i32, start: f32): usize {
  const p = heap.alloc(4 * n + 128);
  for (let i = 0; i < n; i++) store<f32>(p + 4 * i, start + <f32>i);
  for (let i = n; i < n + 16; i++) store<f32>(p + 4 * i, CANARY);
  return p;
}

function record<T>(): T {
  return changetype<T>(heap.alloc(64));
}

describe('unary kernels', () => {
  it('compute all elements of any count and none behind', () => {
    for (let n = 0; n < 18; n++) {
      const args = record<UnaryArgs>();
      args.x = numbers(n, -3);
      args.y = numbers(n, 0);
      args.count = n;
      neg(args, 0, 1, 0);
      for (let i = 0; i < n; i++) expect<f32>(at(args.y, i)).toBe(3 - <f32>i);
      expect<f32>(at(args.y, n)).toBe(CANARY);
    }
  });

  it('keep NaN in relu and clamp', () => {
    const args = record<ClampArgs>();
    args.x = numbers(4, -1);
    store<f32>(args.x + 4, NaN);
    args.y = numbers(4, 0);
    args.count = 4;
    args.lo = 0;
    args.hi = 1.5;
    clamp(args, 0, 1, 0);
    expect<f32>(at(args.y, 0)).toBe(0);
    expect<f32>(at(args.y, 1)).toBeNaN();
    expect<f32>(at(args.y, 3)).toBe(1.5);
    relu(changetype<UnaryArgs>(args), 0, 1, 0);
    expect<f32>(at(args.y, 1)).toBeNaN();
    expect<f32>(at(args.y, 3)).toBe(2);
  });

  it('take the gradient of relu from the sign of the result', () => {
    const args = record<UnaryBackwardArgs>();
    args.saved = numbers(3, -1);
    args.dy = numbers(3, 5);
    args.dx = numbers(3, 0);
    args.count = 3;
    reluBackward(args, 0, 1, 0);
    expect<f32>(at(args.dx, 0)).toBe(0);
    expect<f32>(at(args.dx, 1)).toBe(0, 'the gradient at 0');
    expect<f32>(at(args.dx, 2)).toBe(7);
  });
});

/** The record of a [rows, columns] result with byte strides for the inner and the outer dimension of a and b. */
function outer(rows: i32, columns: i32, width: i32): BinaryArgs {
  const args = record<BinaryArgs>();
  args.dims = heap.alloc(32);
  args.rank = 2;
  args.count = rows * columns;
  args.y = heap.alloc(width * rows * columns + 64);
  args.a = numbers(rows, 0);
  args.b = numbers(columns, 100);
  const words: i32[] = [columns, width, 0, 4, rows, width * columns, 4, 0];
  for (let i = 0; i < 8; i++) store<i32>(args.dims + 4 * i, words[i]);
  return args;
}

describe('binary kernels', () => {
  it('broadcast a column and a row', () => {
    const args = outer(3, 7, 4);
    add(args, 0, 1, 0);
    for (let i = 0; i < 21; i++) expect<f32>(at(args.y, i)).toBe(<f32>(i / 7 + 100 + (i % 7)));
    maximum(args, 0, 1, 0);
    expect<f32>(at(args.y, 20)).toBe(106);
  });

  it('compare into bytes', () => {
    const args = outer(3, 7, 1);
    store<f32>(args.b, -1);
    ltF32(args, 0, 1, 0);
    for (let i = 0; i < 21; i++) expect<u8>(load<u8>(args.y + i)).toBe(i % 7 == 0 ? 0 : 1);
  });
});
