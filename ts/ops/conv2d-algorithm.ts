// Which algorithm computes a convolution and its gradients. The choice follows from the geometry alone, so the bits of a result never
// depend on timing; compile may override it by measurement.
import type { Conv2dAlgorithm, Conv2dGeometry } from './conv2d-geometry.ts';
import { isWinograd } from './conv2d-winograd.ts';

/** What the choice may look at. */
type Sizes = Omit<Conv2dGeometry, 'algorithm'>;

/** Whether every channel has a kernel of its own and gives one output. */
function isDepthwise({ x, weight, groups }: Sizes): boolean {
  return groups > 1 && groups === x[1] && groups === weight[0];
}

export function forwardAlgorithm(geometry: Sizes): Conv2dAlgorithm {
  return isDepthwise(geometry) ? 'depthwise' : 'direct';
}

/** Fewer channels than this leave Winograd's matrix products too thin; from the other on they are certain to repay. */
const LEAST_WINOGRAD_CHANNELS = 16;
const MANY_CHANNELS = 32;
/** Fewer tiles of 4 x 4 outputs than this do not repay F(4x4, 3x3) reading four times the weights; from the other on it is the fastest. */
const LEAST_TILES = 8;
const MANY_TILES = 40;

/** Algorithms of the forward pass that may be the fastest, the likeliest first. */
export function forwardCandidates(geometry: Sizes): readonly Conv2dAlgorithm[] {
  const [outputs, channels] = geometry.weight;
  const fewest = Math.min(outputs, channels);
  if (!isWinograd(geometry) || fewest < LEAST_WINOGRAD_CHANNELS) return [forwardAlgorithm(geometry)];
  const [images, , rows, columns] = geometry.y;
  const tiles = images * Math.ceil(rows / 4) * Math.ceil(columns / 4);
  if (tiles < LEAST_TILES) return ['winograd2', 'direct'];
  if (fewest < MANY_CHANNELS) return ['winograd4', 'winograd2', 'direct'];
  return tiles < MANY_TILES ? ['winograd4', 'winograd2'] : ['winograd4'];
}

/** Whether an algorithm can compute the forward pass. */
export function forwardApplies(geometry: Sizes, algorithm: Conv2dAlgorithm): boolean {
  if (algorithm === 'depthwise') return isDepthwise(geometry);
  return algorithm === 'direct' || isWinograd(geometry);
}

export function inputGradAlgorithm(geometry: Sizes): Conv2dAlgorithm {
  return isDepthwise(geometry) ? 'depthwise' : 'direct';
}

export function weightGradAlgorithm(geometry: Sizes): Conv2dAlgorithm {
  return isDepthwise(geometry) ? 'depthwise' : 'direct';
}
