import { checkReadable } from './apply.ts';
import { discard } from './lifetime.ts';
import type { Tensor } from './tensor.ts';

/**
 * Gives the memory of a tensor back at once, and with it that of its views. Disposing twice does nothing.
 *
 * @throws Error if a captured program names the memory
 */
export function dispose(tensor: Tensor): void {
  const { storage } = tensor;
  if (storage.state === 'released') return;
  checkReadable('dispose', tensor);
  if (storage.pins > 0)
    throw new Error(
      `dispose: ${tensor} is used by ${storage.pins} captured program${storage.pins > 1 ? 's' : ''}; dispose those first`,
    );
  if (storage.state === 'planned') throw new Error(`dispose: ${tensor} belongs to a step that is being captured`);
  discard(storage, 'disposed');
}
