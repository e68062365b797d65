// Packing and the matrix product against sums written out, on small integers, where every order of additions gives the same number.
import { WIDE, field } from '../control';
import { GemmArgs, gemm } from '../gemm';
import { PackArgs, pack } from '../pack';
import { at, prepareScratch, words } from './numbers';

const CANARY: f32 = -77;

/** `count` small integers that follow from `seed`, with a canary behind. */
function integers(count: i32, seed: i32): usize {
  const address = heap.alloc(4 * count + 128);
  for (let i = 0; i < count; i++) store<f32>(address + 4 * i, <f32>(((i + seed) * 7919) % 11) - 5);
  store<f32>(address + 4 * count, CANARY);
  return address;
}

/** Packs B [k][n], or [n][k] if `turned`. */
function packed(b: usize, bias: usize, n: i32, k: i32, turned: bool): usize {
  const args = changetype<PackArgs>(heap.alloc(offsetof<PackArgs>()));
  args.panels = integers(((n + 7) / 8) * 8 * (k + 1), 0);
  args.b = b;
  args.bias = bias;
  args.scale = 0;
  args.taps = words([0]);
  args.tapCount = 1;
  args.channels = k;
  args.n = n;
  args.strideChannel = turned ? 1 : n;
  args.strideN = turned ? k : 1;
  args.strideMatrix = 0;
  args.panelsPerTile = 4;
  pack(args, 0, (n + 31) / 32, 0);
  return args.panels;
}

/** Elements of C = A B + bias that are wrong, for one geometry. */
function mistakes(m: i32, n: i32, k: i32, turned: bool, transposed: bool, kc: i32): i32 {
  const a = integers(m * k, 1);
  const b = integers(k * n, 2);
  const bias = integers(n, 3);
  const args = changetype<GemmArgs>(heap.alloc(offsetof<GemmArgs>()));
  args.c = integers(m * n, 4);
  args.a = a;
  args.panels = packed(b, bias, n, k, turned);
  args.batches = words([0, 0, 0]);
  args.m = m;
  args.n = n;
  args.k = k;
  args.lda = transposed ? m : k;
  args.transposed = transposed ? 1 : 0;
  args.ldc = n;
  args.mc = 12;
  args.nc = 16;
  args.kc = kc;
  args.lo = -20;
  args.hi = 30;
  gemm(args, 0, ((m + 11) / 12) * ((n + 15) / 16), 0);
  let wrong = at(args.c, m * n) == CANARY ? 0 : 1;
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = at(bias, j);
      for (let p = 0; p < k; p++) {
        sum += at(a, transposed ? p * m + i : i * k + p) * at(b, turned ? j * k + p : p * n + j);
      }
      if (at(args.c, i * n + j) != <f32>min(max(sum, -20), 30)) wrong++;
    }
  }
  return wrong;
}

describe('gemm', () => {
  beforeAll(() => {
    prepareScratch(65536);
  });

  it('is exact for every strip height and column tail', () => {
    for (let m = 1; m <= 14; m++) {
      for (let n = 1; n <= 9; n++) expect<i32>(mistakes(m, n, 7, false, false, 32)).toBe(0, `m ${m}, n ${n}`);
    }
  });

  it('is exact for every k tail and across k blocks', () => {
    for (let k = 0; k <= 13; k++) expect<i32>(mistakes(5, 11, k, false, false, 4)).toBe(0, `k ${k}`);
  });

  it('reads B transposed', () => {
    for (let k = 1; k <= 9; k++) expect<i32>(mistakes(7, 19, k, true, false, 32)).toBe(0, `k ${k}`);
  });

  it('reads A transposed', () => {
    for (let m = 1; m <= 15; m++) expect<i32>(mistakes(m, 9, 10, false, true, 8)).toBe(0, `m ${m}`);
  });

  it('multiplies one row by four panels at a time', () => {
    for (let n = 24; n <= 40; n++) expect<i32>(mistakes(1, n, 5, false, false, 32)).toBe(0, `n ${n}`);
  });
});

describe('gemm by pairs of panels', () => {
  beforeAll(() => {
    prepareScratch(65536);
    store<i32>(field(WIDE), 1);
  });

  it('is exact for every strip height, column tail and k tail', () => {
    for (let m = 1; m <= 7; m++) {
      for (let n = 8; n <= 33; n++) expect<i32>(mistakes(m, n, 3 + (n % 9), false, false, 4)).toBe(0, `m ${m}, n ${n}`);
    }
  });
});

describe('pack', () => {
  it('puts the bias at the head and zeros behind the last column', () => {
    const b = integers(3 * 5, 1);
    const bias = integers(3, 2);
    const panels = packed(b, bias, 3, 5, false);
    for (let column = 0; column < 8; column++) {
      expect<f32>(at(panels, column)).toBe(column < 3 ? at(bias, column) : 0);
      expect<f32>(at(panels, 8 + 8 * 4 + column)).toBe(column < 3 ? at(b, 4 * 3 + column) : 0);
    }
  });

  it('starts with zeros where there is no bias', () => {
    const panels = packed(integers(8, 1), 0, 8, 1, false);
    for (let column = 0; column < 8; column++) expect<f32>(at(panels, column)).toBe(0);
  });

  it('copies four panels at once as it copies one', () => {
    const n = 44;
    const b = integers(n * 3, 1);
    const panels = packed(b, 0, n, 3, false);
    for (let p = 0; p < 3; p++) {
      for (let j = 0; j < n; j++) expect<f32>(at(panels, (j / 8) * 32 + 8 + 8 * p + (j % 8))).toBe(at(b, p * n + j));
    }
  });
});
