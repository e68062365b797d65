// Matrix products: gemm.json holds sizes around every block constant, answered by the oracle, and matmuls with golden answers.
import type { Tolerance } from '../reference/compare.ts';
import { type GemmForm, type MatmulGeometry, matmulGeometry } from '../reference/gemm.ts';
import { type Draw, type Shape, upstream, values } from '../reference/values.ts';
import table from './gemm.json' with { type: 'json' };

export interface GemmCase {
  name: string;
  form: GemmForm;
  M: number;
  N: number;
  K: number;
}

/** Every size in every form. */
export const gemmCases: readonly GemmCase[] = (table.forms as GemmForm[]).flatMap((form) =>
  table.sizes.map(({ M, N, K }) => ({ name: `${form} ${M} x ${N} x ${K}`, form, M, N, K })),
);

/** a and b in the form's own storage order (see GemmForm), and a bias per column. */
export interface GemmInputs {
  a: Float32Array;
  b: Float32Array;
  bias: Float32Array;
}

export function gemmInputs({ name, M, N, K }: GemmCase, draw: Draw = values): GemmInputs {
  return {
    a: draw(`gemm/${name}/a`, [M, K]),
    b: draw(`gemm/${name}/b`, [K, N]),
    bias: draw(`gemm/${name}/bias`, [N]),
  };
}

export interface MatmulCase {
  name: string;
  a: Shape;
  b: Shape;
}

export const matmulCases: readonly MatmulCase[] = table.matmul;

export interface MatmulInputs {
  geometry: MatmulGeometry;
  a: Float32Array;
  b: Float32Array;
  dy: Float32Array;
}

export function matmulInputs(task: MatmulCase, draw: Draw = values): MatmulInputs {
  const name = `matmul/${task.name}`;
  const geometry = matmulGeometry(task.a, task.b);
  const [a, b] = [draw(`${name}/a`, task.a), draw(`${name}/b`, task.b)];
  return { geometry, a, b, dy: upstream(name, geometry.y, draw) };
}

/** For a sum of `terms` products of two uniform numbers, each of mean square 1/3. */
export function gemmTolerance(terms: number): Tolerance {
  return { c: 2, terms: terms + 1, scale: Math.sqrt(terms + 1) / 3 };
}
