import type { Tensor } from '../tensor/tensor.ts';
import { Module } from './module.ts';

/**
 * Modules one after the other; their names in the state dict are '0', '1', ... Source: torch.nn.Sequential.
 *
 * @throws TypeError for an argument that is not a Module
 * @example
 * ```ts
 * import { init, nn, zeros } from 'feathermap';
 * await init();
 * const net = new nn.Sequential(new nn.Linear(4, 3), new nn.ReLU(), new nn.Linear(3, 2));
 * if (Object.keys(net.stateDict())[2] !== '2.weight') throw new Error('wrong');
 * ```
 */
export class Sequential extends Module {
  /** A module can be replaced, `net[3] = new nn.Linear(84, 5)`, or appended at `net.length`. */
  [index: number]: Module;

  constructor(...layers: Module[]) {
    super();
    layers.forEach((layer, i) => {
      if (!(layer instanceof Module))
        throw new TypeError(`Sequential: argument ${i} is not a Module, got ${typeof layer}`);
      this[i] = layer;
    });
  }

  /** Number of modules. */
  get length(): number {
    return [...this].length;
  }

  *[Symbol.iterator](): Generator<Module> {
    const places = Object.keys(this).filter((name) => /^-?\d+$/.test(name));
    for (const [i, place] of places.entries()) {
      if (place !== String(i)) throw new RangeError(`Sequential: there is a module at ${place}, but none at ${i}`);
      if (!(this[i] instanceof Module)) throw new TypeError(`Sequential: what stands at ${i} is not a Module`);
      yield this[i];
    }
  }

  forward(x: Tensor): Tensor {
    let value = x;
    for (const layer of this) value = layer.forward(value);
    return value;
  }
}
