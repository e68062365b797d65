// The convolution kernels on hand-checked integers: the textbook's 3x3 example, padding, runs that leave the row, phases.
import { Conv2dArgs, conv2d } from '../convolution';
import { Conv2dWeightGradArgs, SumPartialsArgs, conv2dWeightGrad, sumPartials } from '../convolution-weight-grad';
import { floats, panel, prepareScratch, words } from './numbers';

/** A convolution of one 3 x 3 image with one channel: runs as (dy, dx, taps), phases as the record wants them. */
function convolve(x: f32[], panels: usize, runs: i32[], phases: i32[], k: i32, outputs: i32, spread: i32): usize {
  const args = changetype<Conv2dArgs>(heap.alloc(offsetof<Conv2dArgs>()));
  args.y = heap.alloc(4 * outputs + 4);
  store<f32>(args.y + 4 * outputs, -77);
  args.x = floats(x);
  args.panels = panels;
  args.residual = 0;
  args.phases = words(phases);
  args.runs = words(runs);
  args.phaseCount = phases.length / 7;
  args.images = 1;
  args.height = args.width = 3;
  args.xImage = 9;
  args.xRow = 3;
  args.xColumn = args.channels = args.groups = args.n = 1;
  args.stepY = args.stepX = 1;
  args.yImage = outputs;
  args.yRow = phases[1] * args.phaseCount;
  args.yColumn = spread;
  args.k = k;
  args.mc = 12;
  args.nc = 8;
  args.kc = 64;
  args.lo = -Infinity;
  args.hi = Infinity;
  conv2d(args, 0, args.phaseCount, 0);
  return args.y;
}

function expectFloats(address: usize, expected: f32[]): void {
  for (let i = 0; i < expected.length; i++) expect<f32>(load<f32>(address + 4 * i)).toBe(expected[i], `element ${i}`);
}

const image: f32[] = [0, 1, 2, 3, 4, 5, 6, 7, 8];

describe('conv2d', () => {
  beforeAll(() => prepareScratch(65536));

  it('computes corr2d of the textbook', () => {
    const y = convolve(image, panel(0, [0, 1, 2, 3]), [0, 0, 2, 1, 0, 2], [2, 2, 0, 0, 2, 0, 4], 4, 4, 1);
    expectFloats(y, [19, 25, 37, 43, -77]);
  });

  it('reads zeros around the image and adds the bias', () => {
    const ones = panel(100, [1, 1, 1, 1, 1, 1, 1, 1, 1]);
    const y = convolve(image, ones, [-1, -1, 3, 0, -1, 3, 1, -1, 3], [3, 3, 0, 0, 3, 0, 9], 9, 9, 1);
    expectFloats(y, [108, 115, 112, 121, 136, 127, 120, 133, 124, -77]);
  });

  it('agrees whether neighbouring taps are one run or several', () => {
    const ones = panel(0, [1, 2, 3]);
    const together = convolve(image, ones, [0, -1, 3], [3, 3, 0, 0, 1, 0, 3], 3, 9, 1);
    const apart = convolve(image, ones, [0, -1, 1, 0, 0, 1, 0, 1, 1], [3, 3, 0, 0, 3, 0, 3], 3, 9, 1);
    expectFloats(together, [3, 8, 5, 18, 26, 14, 33, 44, 23, -77]);
    expectFloats(apart, [3, 8, 5, 18, 26, 14, 33, 44, 23, -77]);
  });

  it('interleaves phases and fills one without taps with zeros', () => {
    const y = convolve(image, panel(0, [10]), [0, 0, 1], [3, 3, 0, 0, 1, 0, 1, 3, 3, 1, 1, 0, 1, 0], 1, 18, 2);
    expectFloats(y, [0, 0, 10, 0, 20, 0, 30, 0, 40, 0, 50, 0, 60, 0, 70, 0, 80, 0, -77]);
  });
});

describe('conv2dWeightGrad', () => {
  it('sums dy times patches, in splits', () => {
    const args = changetype<Conv2dWeightGradArgs>(heap.alloc(offsetof<Conv2dWeightGradArgs>()));
    args.dw = heap.alloc(4 * 8 + 4);
    store<f32>(args.dw + 32, -77);
    args.x = floats(image);
    args.dy = floats([1, 2, 3, 4]);
    args.runs = words([0, 0, 2, 1, 0, 2]);
    args.runCount = 2;
    args.images = 1;
    args.rows = args.columns = 2;
    args.height = args.width = 3;
    args.xImage = 9;
    args.xRow = 3;
    args.xColumn = args.channels = args.groups = args.n = 1;
    args.stepY = args.stepX = 1;
    args.k = 4;
    args.splitPixels = 3;
    args.mc = 4;
    args.nc = 6;
    args.kc = 8;
    args.patchPixels = 8;
    conv2dWeightGrad(args, 0, 2, 0);
    expectFloats(args.dw, [11, 17, 29, 35, 16, 20, 28, 32, -77]);

    const total = changetype<SumPartialsArgs>(heap.alloc(offsetof<SumPartialsArgs>()));
    total.y = heap.alloc(16);
    total.partials = args.dw;
    total.splits = 2;
    total.count = 4;
    sumPartials(total, 0, 1, 0);
    expectFloats(total.y, [27, 37, 57, 67]);
  });
});
