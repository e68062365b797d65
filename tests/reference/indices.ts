// Coordinates and offsets of a dense row-major tensor.
import { type Shape, sizeOf } from './values.ts';

/** As many numbers as the shape has axes. */
export type Place<S extends Shape> = { [axis in keyof S]: number };

/** The coordinates of element `index`. */
export function coordinates<S extends Shape>(index: number, shape: S): Place<S> {
  const place: number[] = [];
  let rest = index;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = shape[axis]!;
    place[axis] = rest % extent;
    rest = Math.floor(rest / extent);
  }
  return place as Place<S>;
}

/** The coordinates of every element, in order. */
export function* places<S extends Shape>(shape: S): Generator<Place<S>> {
  for (let index = 0; index < sizeOf(shape); index++) yield coordinates(index, shape);
}

/** The index of the element at these coordinates. */
export function offset(place: readonly number[], shape: Shape): number {
  let index = 0;
  for (let axis = 0; axis < shape.length; axis++) index = index * shape[axis]! + place[axis]!;
  return index;
}
