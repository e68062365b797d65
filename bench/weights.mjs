// Weights from a formula in key and index, so that every contestant has the same and nobody needs a file. rivals/torch_worker.py has the same formula.

import { fill, product } from './values.mjs';

/**
 * One entry of a state dict: kernels uniform with He's variance, scales and variances near 1, the rest near 0.
 *
 * @param {string} key  its name in the state dict @param {readonly number[]} shape @returns {Float32Array}
 */
export function parameter(key, shape) {
  const values = fill(product(shape), keySeed(key));
  const { factor, offset } = spread(key, shape);
  for (let i = 0; i < values.length; i++) values[i] = values[i] * factor + offset;
  return values;
}

function spread(key, shape) {
  if (shape.length > 1) return { factor: Math.sqrt(6 / product(shape.slice(1))), offset: 0 };
  return key.endsWith('.weight') || key.endsWith('.running_var')
    ? { factor: 0.25, offset: 1 }
    : { factor: 0.1, offset: 0 };
}

/** FNV-1a, folded to 16 bits. */
function keySeed(key) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193) >>> 0;
  return (hash ^ (hash >>> 16)) & 0xffff;
}

/** The images that everyone sees: `batch` of them, NCHW. */
export function images(batch, input) {
  return fill(batch * product(input), 99);
}
