// NumPy broadcasting: axes are matched from the last; an extent of 1 repeats.
import { offset, places } from './indices.ts';
import { type Numbers, type Shape, sizeOf } from './values.ts';

export function broadcastShapes(a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const [p, q] = [a[axis - rank + a.length] ?? 1, b[axis - rank + b.length] ?? 1];
    if (p !== q && p !== 1 && q !== 1) throw new RangeError(`shapes [${a}] and [${b}] do not broadcast`);
    return p === 1 ? q : p;
  });
}

/** For each element of `to`, the index of the element of `from` that is repeated there. */
export function broadcastIndices(from: Shape, to: Shape): Int32Array {
  const lead = to.length - from.length;
  return Int32Array.from(places(to), (place) =>
    offset(
      from.map((extent, axis) => (extent === 1 ? 0 : place[lead + axis]!)),
      from,
    ),
  );
}

/** The numbers of `from`, repeated to the shape `to`. */
export function broadcast(x: Numbers, from: Shape, to: Shape): Float64Array {
  return Float64Array.from(broadcastIndices(from, to), (index) => x[index]!);
}

/** The transpose of `broadcast`: sums what was repeated. */
export function sumTo(dy: Numbers, from: Shape, to: Shape): Float64Array {
  const dx = new Float64Array(sizeOf(to));
  broadcastIndices(to, from).forEach((index, i) => {
    dx[index]! += dy[i]!;
  });
  return dx;
}
