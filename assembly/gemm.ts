// C[m, n] = clamp(bias[n] + sum_k A[m, k] * B[k, n], lo, hi)
//
//   A: row-major, lda >= k; or transposed, A[k][m]     B: packed by `pack` into panels of eight columns     C: row-major
//
//        row r     ------> k                        [bias 0..7 | k = 0: 8 floats | k = 1: 8 floats | ...]
//
// Loops around the micro-kernel, from outside: tiles (batch, rows of C, columns of C), blocks of k, panels, strips of up to six rows.
// A panel block (kc x 8 floats, at most 16 to 24 KB) stays in the first-level cache while all strips of the tile pass over it; the
// tile's rows of A (mc x kc floats) stay in the second level while all panels pass. Only A[k][m] is copied, transposed, to scratch.
import { Input, Output, Table } from './record';
import { WIDE, field, scratch } from './control';
import { panelBytes, transposeBlock } from './pack';
import {
  multiplyOuter,
  multiplyStrip,
  multiplyWideOuter,
  multiplyWideStrip,
  row1x24,
  row1x32,
} from './generated/micro-kernels';
import { storeLanes, storePair } from './vector';


@unmanaged
export class GemmArgs {
  /** C[m, n] of every batch. */
  c: Output;
  a: Input;
  /** B of every batch, as `pack` writes it. */
  panels: Input;
  /** Per batch three words: the element offsets of its A, its panels and its C. */
  batches: Table;
  m: i32;
  n: i32;
  k: i32;
  /** Elements between neighbouring rows of A as it is stored: A[m][k], or A[k][m] if `transposed`. */
  lda: i32;
  transposed: i32;
  ldc: i32;
  /** Rows and columns of C per tile (nc is a multiple of 8), and length of a k block. */
  mc: i32;
  nc: i32;
  kc: i32;
  lo: f32;
  hi: f32;
}

/** Floats added to a scratch row of k: vector copies run over by up to three, and rows must not lie a power of two apart. */
export const SCRATCH_ROW_SLACK: i32 = 4;

/** Bytes from one row of a scratch block to the next, for rows of k floats. */
// @ts-ignore: decorator
@inline
export function scratchRowBytes(k: i32): usize {
  return (<usize>(((k + 3) & ~3) + SCRATCH_ROW_SLACK)) << 2;
}

/** Rows of the tallest strip that pays: six fit the registers with fused multiply-add, five where products need one too. */
// @ts-ignore: decorator
@inline
export function stripRows(): i32 {
  return ASC_FEATURE_RELAXED_SIMD ? 6 : 5;
}

/** Stands for the distance of a residual that is not there: no address is odd, so no two are this far apart. */
// @ts-ignore: decorator
@inline
export const NO_RESIDUAL: usize = 1;

/** Bytes from an element of C to its residual, which has the strides of C; address 0: there is none. */
// @ts-ignore: decorator
@inline
export function residualDistance(residual: usize, c: usize): usize {
  return residual ? residual - c : NO_RESIDUAL;
}

/** Begins the sums of a panel's columns: C = init + residual. */
function addResidual(rows: i32, init: usize, residual: usize, c: usize, ldc: usize, columns: i32): void {
  const left = v128.load(init);
  const right = v128.load(init, 16);
  for (; rows > 0; rows--) {
    const from = c + residual;
    if (columns >= 8) {
      storePair(c, f32x4.add(left, v128.load(from)), f32x4.add(right, v128.load(from, 16)));
    } else {
      storeLanes(c, f32x4.add(left, v128.load(from)), columns);
      if (columns > 4) storeLanes(c + 16, f32x4.add(right, v128.load(from, 16)), columns - 4);
    }
    c += ldc;
  }
}

/**
 * Columns of C that products take at a time: one panel's eight, or sixteen where the engine pairs vectors into 256 bits. Every
 * element is summed in the same order either way.
 */
// @ts-ignore: decorator
@inline
export function panelColumns(): i32 {
  if (ASC_FEATURE_RELAXED_SIMD) return load<i32>(field(WIDE)) ? 16 : 8;
  else return 8;
}

/** `rows` rows of A, each contiguous, times one panel or two. */
// @ts-ignore: decorator
@inline
export function multiplyPanels(
  rows: i32,
  k: i32,
  a: usize,
  lda: usize,
  b: usize,
  size: usize,
  init: usize,
  ldi: usize,
  step: usize,
  residual: usize,
  c: usize,
  ldc: usize,
  columns: i32,
  lo: f32,
  hi: f32,
): void {
  multiplyRuns(rows, 1, k, 0, a, lda, b, size, init, ldi, step, residual, c, ldc, columns, lo, hi);
}

/**
 * Rows of A, each `runs` runs of k floats (`jump` as the micro-kernels take it), times one panel, or two that are `size` bytes apart
 * if there are more than eight columns; `step` leads from one panel's `init` to the other's. Rows are dealt to strips evenly: 13 is
 * 5 + 4 + 4, not 6 + 6 + 1. A residual is added in a pass of its own, so that products without one pay nothing for it.
 */
export function multiplyRuns(
  rows: i32,
  runs: i32,
  k: i32,
  jump: usize,
  a: usize,
  lda: usize,
  b: usize,
  size: usize,
  init: usize,
  ldi: usize,
  step: usize,
  residual: usize,
  c: usize,
  ldc: usize,
  columns: i32,
  lo: f32,
  hi: f32,
): void {
  if (residual != NO_RESIDUAL) {
    addResidual(rows, init, residual, c, ldc, columns);
    if (columns > 8) addResidual(rows, init + step, residual, c + 32, ldc, columns - 8);
    init = c;
    ldi = ldc;
    step = 32;
  }
  const strips = (rows + stripRows() - 1) / stripRows();
  const low = rows / strips;
  let taller = rows - strips * low;
  for (let strip = 0; strip < strips; strip++) {
    const height = taller > 0 ? low + 1 : low;
    taller--;
    if (ASC_FEATURE_RELAXED_SIMD && columns > 8) {
      multiplyWideStrip(height, runs, k, jump, a, lda, b, size, init, ldi, step, c, ldc, columns, lo, hi);
    } else {
      multiplyStrip(height, runs, k, jump, a, lda, b, init, ldi, c, ldc, columns, lo, hi);
    }
    a += <usize>height * lda;
    init += <usize>height * ldi;
    c += <usize>height * ldc;
  }
}

/** Right operands of so many bytes are not expected in any cache when a program comes back to them. */
const FAR_BYTES: usize = 4000000;
/** Where no more strips share a panel, its way from memory is a good part of their time. */
const FEW_STRIPS: i32 = 5;
/** Bytes of panels that are touched at once, about; a first-level cache has 32 KB or more. */
const TOUCHED_BYTES: usize = 20480;

/** Whether a right operand of so many floats comes from memory each time. */
// @ts-ignore: decorator
@inline
export function isFar(floats: usize): bool {
  return floats << 2 >= FAR_BYTES;
}

/**
 * Loads one byte of every cache line. Loads that follow each other, in four streams, come at the memory's bandwidth (18 GB/s here);
 * loads between products wait, a few lines at a time, in the reorder window (11 GB/s).
 */
function touch(start: usize, bytes: usize): void {
  const stream = (bytes >> 2) & ~63;
  const end = start + stream;
  for (; start < end; start += 64) {
    load<u8>(start);
    load<u8>(start + stream);
    load<u8>(start + 2 * stream);
    load<u8>(start + 3 * stream);
  }
}

/**
 * Touches the `k` steps from `start` on of the panels that products take at a time or, where these are short and whole, of those that
 * follow as well, up to the last that `columns` has; returns the end.
 */
export function touchPanels(panels: usize, size: usize, start: i32, k: i32, columns: i32): usize {
  const left = (columns + 7) >> 3;
  const bytes = (<usize>k) << 5;
  let count = min(panelColumns() >> 3, left);
  if (bytes + 32 < size) {
    for (let p = 0; p < count; p++) touch(panels + <usize>p * size + panelBytes(start), bytes);
  } else {
    count = max(count, min(left, <i32>(TOUCHED_BYTES / size)));
    touch(panels, <usize>count * size);
  }
  return panels + <usize>count * size;
}

/**
 * A block of rows times neighbouring panels (the first at `panels`, each of `size` bytes), for k steps from step `start` of the
 * panels. Sums begin with the panel's head and the residual if `fresh`, else with C, where earlier steps left them. Panels that are
 * `far` are touched first where few strips share a panel: 7x7x512 by Winograd takes 0.86 of what it took.
 */
export function multiplyBlock(
  rows: i32,
  columns: i32,
  fresh: bool,
  k: i32,
  a: usize,
  lda: usize,
  panels: usize,
  size: usize,
  start: i32,
  far: bool,
  residual: usize,
  c: usize,
  ldc: usize,
  lo: f32,
  hi: f32,
): void {
  const added = fresh ? residual : NO_RESIDUAL;
  let column = 0;
  if (rows == 1) {
    while (column + 16 < columns) {
      const count = column + 24 < columns ? 4 : 3;
      let init = fresh ? panels : c;
      let ldi = fresh ? size : 32;
      if (added != NO_RESIDUAL) {
        for (let p = 0; p < count; p++) {
          addResidual(1, init, added, c + <usize>(32 * p), 0, columns - column - 8 * p);
          init += size;
        }
        init = c;
        ldi = 32;
      }
      if (count == 4) row1x32(k, a, panels + panelBytes(start), size, init, ldi, c, columns - column, lo, hi);
      else row1x24(k, a, panels + panelBytes(start), size, init, ldi, c, columns - column, lo, hi);
      panels += <usize>count * size;
      c += (<usize>count) << 5;
      column += 8 * count;
    }
  }
  const width = panelColumns();
  let touched = far && rows <= FEW_STRIPS * stripRows() ? panels : <usize>-1;
  for (; column < columns; column += width) {
    if (panels >= touched) touched = touchPanels(panels, size, start, k, columns - column);
    multiplyPanels(
      rows,
      k,
      a,
      lda,
      panels + panelBytes(start),
      size,
      fresh ? panels : c,
      fresh ? 0 : ldc,
      fresh ? size : 32,
      added,
      c,
      ldc,
      min(width, columns - column),
      lo,
      hi,
    );
    panels += <usize>(width >> 3) * size;
    c += (<usize>width) << 2;
  }
}

/**
 * C[k, n] += sum of a[k] * b[n] over `runs` runs of m pixels, as `multiplyOuter` does it, for any number of rows k and of columns n.
 * Rows of C, and of b, may be read and rows of C written up to a multiple of eight columns.
 */
export function addOuterProducts(
  rows: i32,
  columns: i32,
  runs: i32,
  m: i32,
  a: usize,
  lda: usize,
  jumpA: usize,
  b: usize,
  ldb: usize,
  jumpB: usize,
  c: usize,
  ldc: usize,
): void {
  const wide = panelColumns() > 8;
  const strips = (rows + stripRows() - 1) / stripRows();
  const low = rows / strips;
  let taller = rows - strips * low;
  for (let strip = 0; strip < strips; strip++) {
    const height = taller > 0 ? low + 1 : low;
    taller--;
    let column = 0;
    if (ASC_FEATURE_RELAXED_SIMD && wide && height > 3) {
      for (; column + 8 < columns; column += 16) {
        const offset = (<usize>column) << 2;
        multiplyWideOuter(height, runs, m, a, lda, jumpA, b + offset, ldb, jumpB, c + offset, ldc);
      }
    }
    for (; column < columns; column += 8) {
      const offset = (<usize>column) << 2;
      multiplyOuter(height, runs, m, a, lda, jumpA, b + offset, ldb, jumpB, c + offset, ldc);
    }
    a += (<usize>height) << 2;
    c += <usize>height * ldc;
  }
}

/**
 * Tiles: batches x row blocks x column blocks, columns fastest.
 * Scratch per lane: mc x (kc rounded up to 4, + SCRATCH_ROW_SLACK) floats if `transposed`, else none.
 */
export function gemm(args: GemmArgs, first: i32, last: i32, lane: i32): void {
  const rowBlocks = (args.m + args.mc - 1) / args.mc;
  const columnBlocks = (args.n + args.nc - 1) / args.nc;
  for (let tile = first; tile < last; tile++) {
    const block = tile / columnBlocks;
    gemmTile(args, block / rowBlocks, (block % rowBlocks) * args.mc, (tile % columnBlocks) * args.nc, lane);
  }
}

/** The rows m0 .. and columns n0 .. of one batch's C. */
function gemmTile(args: GemmArgs, batch: i32, m0: i32, n0: i32, lane: i32): void {
  const offsets = args.batches + <usize>batch * 12;
  const a = args.a + ((<usize>load<i32>(offsets)) << 2);
  const panels = args.panels + ((<usize>load<i32>(offsets, 4)) << 2) + <usize>(n0 >> 3) * panelBytes(args.k);
  const c = args.c + ((<usize>(load<i32>(offsets, 8) + m0 * args.ldc + n0)) << 2);
  const rows = min(args.mc, args.m - m0);
  const columns = min(args.nc, args.n - n0);
  const lda = (<usize>args.lda) << 2;
  const far = isFar(<usize>args.k * args.n);
  let k0 = 0;
  do {
    const k = min(args.kc, args.k - k0);
    const whole = k0 + k == args.k;
    let block: usize;
    let stride = lda;
    if (args.transposed) {
      block = scratch(lane);
      stride = scratchRowBytes(k);
      transposeBlock(block, stride, a + <usize>k0 * lda + ((<usize>m0) << 2), lda, k, rows);
    } else {
      block = a + <usize>m0 * lda + ((<usize>k0) << 2);
    }
    multiplyBlock(
      rows,
      columns,
      k0 == 0,
      k,
      block,
      stride,
      panels,
      panelBytes(args.k),
      k0,
      far,
      NO_RESIDUAL,
      c,
      (<usize>args.ldc) << 2,
      whole ? args.lo : -Infinity,
      whole ? args.hi : Infinity,
    );
    k0 += args.kc;
  } while (k0 < args.k);
}
