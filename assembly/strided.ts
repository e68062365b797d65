// Walking up to four operands of one logical shape, each with strides of its own.
//
// The table holds, per dimension and innermost first, the size and then each operand's stride in bytes: 0 where the
// operand is broadcast, negative where it runs backwards. The shape is coalesced by the caller: neighbouring dimensions that
// all operands step through evenly are one, so that the innermost rows are long. Elements are numbered in row-major order
// of the table and cut into tiles of ELEMENT_TILE, so the grid is the same for every shape of the same count.
import { ELEMENT_TILE } from './unary';

// @ts-ignore: decorator
@inline
function stride(row: usize, operand: i32, operands: i32): usize {
  return operand < operands ? <usize>load<i32>(row + 4 + ((<usize>operand) << 2)) : 0;
}

/**
 * Calls `Row.run(y, a, b, c, length, strides)` for each piece of an innermost row in the tiles first .. last - 1.
 * With fewer operands than four the last ones have stride 0 and must not be used.
 */
export function walk<Row>(
  y0: usize,
  a0: usize,
  b0: usize,
  c0: usize,
  operands: i32,
  dims: usize,
  rank: i32,
  count: i32,
  first: i32,
  last: i32,
): void {
  const row = changetype<Row>(0);
  const words = (<usize>(operands + 1)) << 2;
  const outer = dims + words;
  const inner = load<i32>(dims);
  const lines = rank > 1 ? load<i32>(outer) : 1;
  const end = min(count, last * ELEMENT_TILE);
  const sy = stride(dims, 0, operands);
  const sa = stride(dims, 1, operands);
  const sb = stride(dims, 2, operands);
  const sc = stride(dims, 3, operands);
  const ly = rank > 1 ? stride(outer, 0, operands) : 0;
  const la = rank > 1 ? stride(outer, 1, operands) : 0;
  const lb = rank > 1 ? stride(outer, 2, operands) : 0;
  const lc = rank > 1 ? stride(outer, 3, operands) : 0;
  let position = first * ELEMENT_TILE;
  while (position < end) {
    let plane = position / inner;
    let column = position - plane * inner;
    let line = plane;
    plane /= lines;
    line -= plane * lines;
    let y = y0 + <usize>column * sy + <usize>line * ly;
    let a = a0 + <usize>column * sa + <usize>line * la;
    let b = b0 + <usize>column * sb + <usize>line * lb;
    let c = c0 + <usize>column * sc + <usize>line * lc;
    for (let d = 2, at = outer + words; d < rank; d++, at += words) {
      const size = load<i32>(at);
      const next = plane / size;
      const index = <usize>(plane - next * size);
      plane = next;
      y += index * stride(at, 0, operands);
      a += index * stride(at, 1, operands);
      b += index * stride(at, 2, operands);
      c += index * stride(at, 3, operands);
    }
    for (; line < lines && position < end; line++) {
      const length = min(inner - column, end - position);
      row.run(y, a, b, c, length, sy, sa, sb, sc);
      position += length;
      y += ly - <usize>column * sy;
      a += la - <usize>column * sa;
      b += lb - <usize>column * sb;
      c += lc - <usize>column * sc;
      column = 0;
    }
  }
}
