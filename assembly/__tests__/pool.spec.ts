// Pooling of the textbook's 3 x 3 image, with 1, 4 and 6 channels that count up by 100.
import { AvgPoolArgs, avgPool2d, avgPool2dGrad } from '../avg-pool';
import { MaxPoolGradArgs, PoolIndicesArgs, maxPool2dGrad, maxPool2dIndices } from '../max-pool';

/** 0 .. 8 in each channel, plus 100 times its number. */
function image(C: i32): usize {
  const address = heap.alloc(36 * C + 64);
  for (let i = 0; i < 9 * C; i++) store<f32>(address + 4 * i, <f32>(i / C + 100 * (i % C)));
  return address;
}

/** Elements of channel `c`. */
function expectChannel(address: usize, C: i32, c: i32, expected: f32[]): void {
  for (let i = 0; i < expected.length; i++) {
    expect<f32>(load<f32>(address + 4 * (i * C + c))).toBe(expected[i], `channel ${c}, element ${i}`);
  }
}

function maxPool(C: i32): PoolIndicesArgs {
  const args = changetype<PoolIndicesArgs>(heap.alloc(offsetof<PoolIndicesArgs>()));
  args.y = heap.alloc(16 * C);
  args.indices = heap.alloc(16 * C);
  args.x = image(C);
  args.N = args.SH = args.SW = args.DH = args.DW = 1;
  args.C = C;
  args.H = args.W = 3;
  args.OH = args.OW = args.KH = args.KW = 2;
  args.PT = args.PL = 0;
  args.block = 1;
  maxPool2dIndices(args, 0, 2, 0);
  return args;
}

function avgArgs(C: i32): AvgPoolArgs {
  const args = changetype<AvgPoolArgs>(heap.alloc(offsetof<AvgPoolArgs>()));
  args.N = args.SH = args.SW = args.includePad = 1;
  args.C = C;
  args.H = args.W = 3;
  args.OH = args.OW = args.KH = args.KW = 2;
  args.PT = args.PL = args.PB = args.PR = args.divisor = 0;
  args.block = 1;
  return args;
}

const channels: i32[] = [1, 4, 6];

describe('pooling', () => {
  it('takes the maximum, says where it was, and sends the gradient there', () => {
    for (let i = 0; i < channels.length; i++) {
      const C = channels[i];
      const args = maxPool(C);
      const grad = changetype<MaxPoolGradArgs>(heap.alloc(offsetof<MaxPoolGradArgs>()));
      grad.dx = heap.alloc(36 * C);
      grad.dy = args.y;
      grad.indices = args.indices;
      grad.N = 1;
      grad.C = C;
      grad.inputs = 9;
      grad.outputs = 4;
      grad.block = C;
      maxPool2dGrad(grad, 0, 1, 0);
      for (let c = 0; c < C; c++) {
        const base: f32 = <f32>c * 100;
        expectChannel(args.y, C, c, [base + 4, base + 5, base + 7, base + 8]);
        expect<i32>(load<i32>(args.indices + 4 * (3 * C + c))).toBe(8);
        expectChannel(grad.dx, C, c, [0, 0, 0, 0, base + 4, base + 5, 0, base + 7, base + 8]);
      }
    }
  });

  it('takes the mean, and spreads the gradient', () => {
    for (let i = 0; i < channels.length; i++) {
      const C = channels[i];
      const args = avgArgs(C);
      args.y = heap.alloc(16 * C);
      args.x = image(C);
      avgPool2d(args, 0, 2, 0);
      const grad = avgArgs(C);
      grad.x = args.y;
      grad.y = heap.alloc(36 * C);
      avgPool2dGrad(grad, 0, 3, 0);
      expectChannel(args.y, C, 0, [2, 3, 5, 6]);
      expectChannel(grad.y, C, 0, [0.5, 1.25, 0.75, 1.75, 4, 2.25, 1.25, 2.75, 1.5]);
    }
  });
});
