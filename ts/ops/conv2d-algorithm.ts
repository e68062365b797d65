// Which algorithm computes a convolution and its gradients. The choice follows from the geometry alone, so the bits of a result never
// depend on timing; compile may override it by measurement.
import type { Conv2dAlgorithm, Conv2dGeometry } from './conv2d-geometry.ts';

/** What the choice may look at. */
type Sizes = Omit<Conv2dGeometry, 'algorithm'>;

/** Whether every channel has a kernel of its own and gives one output. */
function isDepthwise({ x, weight, groups }: Sizes): boolean {
  return groups > 1 && groups === x[1] && groups === weight[0];
}

export function forwardAlgorithm(geometry: Sizes): Conv2dAlgorithm {
  return isDepthwise(geometry) ? 'depthwise' : 'direct';
}

export function inputGradAlgorithm(geometry: Sizes): Conv2dAlgorithm {
  return isDepthwise(geometry) ? 'depthwise' : 'direct';
}

export function weightGradAlgorithm(geometry: Sizes): Conv2dAlgorithm {
  return isDepthwise(geometry) ? 'depthwise' : 'direct';
}
