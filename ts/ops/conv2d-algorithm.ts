// Which algorithm computes a convolution and its gradients. The choice follows from the geometry alone, so the bits of a result never
// depend on timing; compile may override it by measurement.
import type { Conv2dAlgorithm, Conv2dGeometry } from './conv2d-geometry.ts';

/** What the choice may look at. */
type Sizes = Omit<Conv2dGeometry, 'algorithm'>;

export function forwardAlgorithm(_geometry: Sizes): Conv2dAlgorithm {
  return 'direct';
}

export function inputGradAlgorithm(_geometry: Sizes): Conv2dAlgorithm {
  return 'direct';
}

export function weightGradAlgorithm(_geometry: Sizes): Conv2dAlgorithm {
  return 'direct';
}
