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
  readonly [index: `${number}`]: Module;
  readonly #layers: readonly Module[];

  constructor(...layers: Module[]) {
    super();
    layers.forEach((layer, i) => {
      if (!(layer instanceof Module))
        throw new TypeError(`Sequential: argument ${i} is not a Module, got ${typeof layer}`);
      (this as Record<string, unknown>)[i] = layer;
    });
    this.#layers = layers;
  }

  /** Number of modules. */
  get length(): number {
    return this.#layers.length;
  }

  [Symbol.iterator](): Iterator<Module> {
    return this.#layers[Symbol.iterator]();
  }

  forward(x: Tensor): Tensor {
    return this.#layers.reduce((value, layer) => layer.forward(value), x);
  }
}
