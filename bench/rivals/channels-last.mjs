// What converters to a channels-last format do to dense weights.

import { permute } from '../values.mjs';

/**
 * The weights [out, in] of a dense layer for an input that was flattened from [height, width, channels] instead of [channels, height, width].
 *
 * @param {object[]} layers  folded @param {number} index  of a linear layer in it @returns {Float32Array}
 */
export function denseChannelsLast(layers, index) {
  const { weight, oc, inputs } = layers[index];
  const before = layers[inputs[0]];
  if (before.op !== 'flatten') return weight;
  const [channels, height, width] = layers[before.inputs[0]].shape;
  return permute(weight, [oc, channels, height, width], [0, 2, 3, 1]);
}
