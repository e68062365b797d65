// Convolution by rows on hand-checked integers: the textbook's 3x3 example, zeros around the source, a spread output; and the outer
// product of every height against a plain sum.
import { multiplyOuter } from '../generated/micro-kernels';
import {
  ConvolveRowsArgs,
  ConvolveRowsWeightGradArgs,
  ROW_PHASE_WORDS,
  convolveRows,
  convolveRowsWeightGrad,
} from '../row-convolution';
import { floats, panel, prepareScratch, words } from './numbers';

/** A convolution of one 3 x 3 image with one channel; phases as the record wants them, tiles of 2 x 2 outputs. */
function convolve(x: f32[], panels: usize, phases: i32[], k: i32, outputs: i32, spread: i32): usize {
  const args = changetype<ConvolveRowsArgs>(heap.alloc(offsetof<ConvolveRowsArgs>()));
  args.y = heap.alloc(4 * outputs + 4);
  store<f32>(args.y + 4 * outputs, -77);
  args.x = floats(x);
  args.panels = panels;
  args.residual = 0;
  args.phases = words(phases);
  args.phaseCount = phases.length / ROW_PHASE_WORDS;
  args.images = args.groups = args.xColumn = 1;
  args.xGroup = 0;
  args.height = args.width = 3;
  args.xImage = 9;
  args.xRow = 3;
  args.channels = args.n = 1;
  args.stepY = args.stepX = args.dilation = 1;
  args.yImage = outputs;
  args.yRow = phases[1] * args.phaseCount;
  args.yColumn = spread;
  args.k = k;
  args.tileRows = args.tileColumns = 2;
  args.nc = 8;
  args.kc = 64;
  args.dots = 0;
  args.lo = -Infinity;
  args.hi = Infinity;
  convolveRows(args, 0, 64, 0);
  return args.y;
}

function expectFloats(address: usize, expected: f32[]): void {
  for (let i = 0; i < expected.length; i++) expect<f32>(load<f32>(address + 4 * i)).toBe(expected[i], `element ${i}`);
}

const image: f32[] = [0, 1, 2, 3, 4, 5, 6, 7, 8];

describe('convolveRows', () => {
  beforeAll(() => prepareScratch(65536));

  it('computes corr2d of the textbook', () => {
    const y = convolve(image, panel(0, [0, 1, 2, 3]), [2, 2, 0, 0, 2, 2, 0, 0], 4, 4, 1);
    expectFloats(y, [19, 25, 37, 43, -77]);
  });

  it('puts zeros around the source, and the bias into every sum', () => {
    const y = convolve(image, panel(1, [0, 1, 2, 3]), [4, 4, 0, 0, 2, 2, -1, -1], 4, 16, 1);
    for (let i = 0; i < 16; i++) expect<f32>(load<f32>(y + 4 * i)).toBe(padded(i), `element ${i}`);
  });

  it('fills a phase without taps with the bias', () => {
    const phases: i32[] = [2, 2, 0, 0, 1, 1, 0, 0, 2, 2, 1, 1, 0, 0, 0, 0];
    const y = convolve(image, panel(0, [5]), phases, 1, 8, 2);
    expectFloats(y, [0, 0, 5, 0, 15, 0, 20, 0, -77]);
  });
});

/** Element i of the 4 x 4 output of the padded example, term by term. */
function padded(i: i32): f32 {
  let sum: f32 = 1;
  for (let tap = 0; tap < 4; tap++) {
    const row = i / 4 + tap / 2 - 1;
    const column = (i % 4) + (tap % 2) - 1;
    if (row >= 0 && row < 3 && column >= 0 && column < 3) sum += <f32>tap * image[3 * row + column];
  }
  return sum;
}

describe('convolveRowsWeightGrad', () => {
  beforeAll(() => prepareScratch(65536));

  it('sums over the pixels inside the source', () => {
    const args = changetype<ConvolveRowsWeightGradArgs>(heap.alloc(offsetof<ConvolveRowsWeightGradArgs>()));
    args.dw = heap.alloc(64);
    store<f32>(args.dw + 16, -77);
    args.x = floats(image);
    args.dy = floats([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    args.images = args.groups = args.xColumn = 1;
    args.xGroup = 0;
    args.rows = args.columns = 4;
    args.height = args.width = args.xRow = 3;
    args.channels = args.n = args.stepY = args.stepX = args.dilation = 1;
    args.xImage = 9;
    args.runs = args.taps = 2;
    args.top = args.left = -1;
    args.splitRows = 4;
    args.tileRows = 3;
    convolveRowsWeightGrad(args, 0, 1, 0);
    // Tap (r, s): sum over i, j of dy[i][j] x[i + r - 1][j + s - 1].
    expectFloats(args.dw, [474, 438, 330, 294, -77]);
  });
});

describe('multiplyOuter', () => {
  it('adds the products of every height, length and number of runs', () => {
    const a = heap.alloc(4096);
    const b = heap.alloc(4096);
    const c = heap.alloc(6 * 32);
    for (let i = 0; i < 1024; i++) {
      store<f32>(a + 4 * i, <f32>((i * 7) % 11) - 5);
      store<f32>(b + 4 * i, <f32>((i * 5) % 13) - 6);
    }
    for (let rows = 1; rows <= 6; rows++) {
      for (let m = 1; m <= 9; m++) {
        for (let i = 0; i < 48; i++) store<f32>(c + 4 * i, <f32>i);
        // Pixels of 3 and 9 floats; between runs 2 and 1 more.
        multiplyOuter(rows, 3, m, a, 12, 8, b, 36, 4, c, 32);
        for (let i = 0; i < 48; i++) {
          let sum = <f32>i;
          for (let pixel = 0; pixel < 3 * m && i < 8 * rows; pixel++) {
            const run = pixel / m;
            const left = load<f32>(a + 4 * (3 * pixel + 2 * run + i / 8));
            sum += left * load<f32>(b + 4 * (9 * pixel + run + (i % 8)));
          }
          expect<f32>(load<f32>(c + 4 * i)).toBe(sum, `rows ${rows}, m ${m}, element ${i}`);
        }
      }
    }
  });
});
