// Matrix products in float64, for understanding.
import { broadcastIndices, broadcastShapes } from './broadcast.ts';
import { places } from './indices.ts';
import { type Numbers, type Shape, sizeOf } from './values.ts';

/** Which operands are stored transposed: NN a[M, K] b[K, N]; NT b[N, K]; TN a[K, M]. */
export type GemmForm = 'NN' | 'NT' | 'TN';

/** c[m, n] = sum over k of a[m, k] * b[k, n] (+ bias[n]). */
export function gemm(
  a: Numbers,
  b: Numbers,
  { M, N, K, form = 'NN', bias }: { M: number; N: number; K: number; form?: GemmForm; bias?: Numbers },
): Float64Array {
  return Float64Array.from(places([M, N] as const), ([m, n]) => {
    let sum = bias ? bias[n]! : 0;
    for (let k = 0; k < K; k++) {
      const [ia, ib] = [form === 'TN' ? k * M + m : m * K + k, form === 'NT' ? n * K + k : k * N + n];
      sum += a[ia]! * b[ib]!;
    }
    return sum;
  });
}

export interface MatmulGeometry {
  y: Shape;
  batch: Shape;
  batchA: Shape;
  batchB: Shape;
  M: number;
  N: number;
  K: number;
}

/** PyTorch's matmul: vectors get a 1 in front (a) or behind (b) that leaves again; leading axes broadcast. */
export function matmulGeometry(a: Shape, b: Shape): MatmulGeometry {
  const [rows, columns] = [a.length === 1 ? [1, ...a] : a, b.length === 1 ? [...b, 1] : b];
  const [batchA, batchB] = [rows.slice(0, -2), columns.slice(0, -2)];
  const batch = broadcastShapes(batchA, batchB);
  const [M, K, N] = [rows.at(-2)!, rows.at(-1)!, columns.at(-1)!];
  const y = [...batch, ...(a.length === 1 ? [] : [M]), ...(b.length === 1 ? [] : [N])];
  return { y, batch, batchA, batchB, M, N, K };
}

/** Every product of the matmul as indices into y, a and b. */
export function* matmulTaps({ batch, batchA, batchB, M, N, K }: MatmulGeometry): Generator<[number, number, number]> {
  const [pagesA, pagesB] = [broadcastIndices(batchA, batch), broadcastIndices(batchB, batch)];
  for (const [page, m, n, k] of places([sizeOf(batch), M, N, K] as const)) {
    yield [(page * M + m) * N + n, (pagesA[page]! * M + m) * K + k, (pagesB[page]! * K + k) * N + n];
  }
}

export function matmul(a: Numbers, b: Numbers, geometry: MatmulGeometry): Float64Array {
  const y = new Float64Array(sizeOf(geometry.y));
  for (const [iy, ia, ib] of matmulTaps(geometry)) y[iy]! += a[ia]! * b[ib]!;
  return y;
}

export function matmulGrad(
  dy: Numbers,
  a: Numbers,
  b: Numbers,
  geometry: MatmulGeometry,
): { da: Float64Array; db: Float64Array } {
  const [da, db] = [new Float64Array(a.length), new Float64Array(b.length)];
  for (const [iy, ia, ib] of matmulTaps(geometry)) {
    da[ia]! += dy[iy]! * b[ib]!;
    db[ib]! += dy[iy]! * a[ia]!;
  }
  return { da, db };
}
