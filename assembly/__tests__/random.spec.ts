// The generator against the known answers of its authors (Random123, kat_vectors), and that tiles need no order.
import { SCRATCH, field, initialise } from '../control';
import { randomGroup } from '../philox';
import { RandomArgs, normal, uniform } from '../random';
import { ELEMENT_TILE } from '../unary';

describe('Philox 4x32-10', () => {
  it('answers the zero counter and key', () => {
    const words = heap.alloc(64);
    randomGroup(words, 0, 0);
    expect<u32>(load<u32>(words)).toBe(0x6627e8d5);
    expect<u32>(load<u32>(words, 16)).toBe(0xe169c58d);
    expect<u32>(load<u32>(words, 32)).toBe(0xbc57ac4c);
    expect<u32>(load<u32>(words, 48)).toBe(0x9b00dbd8);
  });
});

describe('random kernels', () => {
  it('give the same numbers whoever computes which tile', () => {
    initialise(heap.alloc(4608));
    store<usize>(field(SCRATCH), heap.alloc(64));
    const count = 2 * ELEMENT_TILE + 5;
    const args = changetype<RandomArgs>(heap.alloc(64));
    args.state = heap.alloc(16);
    store<u64>(args.state, 7);
    store<u64>(args.state, 0xffffffff, 8);
    args.offset = 1;
    args.count = count;
    args.p = 0;
    args.q = 1;
    args.y = heap.alloc(4 * count + 64);
    const whole = args.y;
    normal(args, 0, 3, 0);
    args.y = heap.alloc(4 * count + 64);
    normal(args, 2, 3, 0);
    normal(args, 0, 1, 0);
    normal(args, 1, 2, 0);
    expect<i32>(memory.compare(whole, args.y, 4 * count)).toBe(0);
    uniform(args, 0, 3, 0);
    let outside = 0;
    for (let i = 0; i < count; i++) {
      const y = load<f32>(args.y + 4 * i);
      if (!(y >= 0 && y < 1)) outside++;
    }
    expect<i32>(outside).toBe(0);
  });
});
