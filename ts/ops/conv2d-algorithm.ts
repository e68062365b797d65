// Which algorithm computes a convolution and its gradients. The choice follows from the geometry alone, so the bits of a result never
// depend on timing; compile may override it by measurement.
import { engine } from '../runtime/engine.ts';
import type { Conv2dAlgorithm, Conv2dGeometry, Four } from './conv2d-geometry.ts';
import { isWinograd } from './conv2d-winograd.ts';

/** What the choice may look at. */
type Sizes = Omit<Conv2dGeometry, 'algorithm'>;

/** Whether every channel has a kernel of its own and gives one output. */
function isDepthwise({ x, weight, groups }: Sizes): boolean {
  return groups > 1 && groups === x[1] && groups === weight[0];
}

// ---- Winograd -------------------------------------------------------------------------------------------------------------

/** Fewer channels leave the products of its planes too short, and fewer multiply-adds (35 us) gain nothing that anyone would notice. */
const LEAST_CHANNELS = 16;
const LEAST_MACS = 1e6;
/** Tiles of 4 x 4 gradients from which sums of outer products pay for their transforms. */
const LEAST_GRADIENT_TILES = 24;

/** Transformed weights in bytes that come from a cache fast enough not to be waited for. */
const NEAR_BYTES = 4e6;

/** Tiles of an output. */
function tilesOf([images, , height, width]: Four, side: number): number {
  return images * Math.ceil(height / side) * Math.ceil(width / side);
}

/**
 * Times, in multiply-adds at full speed (35 ps), for `pairs` of source and result channels: fitted to measurements with 16 to 512
 * channels, 4 x 4 to 28 x 28 outputs, one to eight images, on Zen 4; errors are below a third. Weights that change from run to run
 * are packed or transformed each time.
 */
function directCost(macs: number, pairs: number, changing: boolean): number {
  return 1.05 * macs + (changing ? 220 : 100) * pairs;
}

function winogradCost(side: number, y: Four, channels: number, changing: boolean): number {
  const tiles = tilesOf(y, side);
  const values = (side + 2) ** 2;
  const pairs = channels * y[1];
  const near = 4 * values * pairs < NEAR_BYTES;
  const products = tiles * values * pairs * (1 + 10 / channels);
  const transforms = tiles * values * 5.5 * (channels + y[1]);
  const weights = values * pairs * ((near ? 1 : 8) + (changing ? (near ? 6 : 27) : 0));
  return products + transforms + weights;
}

/** The fastest algorithm for an output y of `channels` source channels. */
function productAlgorithm(geometry: Sizes, y: Four, channels: number, changing: boolean): Conv2dAlgorithm {
  const { macs } = geometry;
  if (!engine().winograd || !isWinograd(geometry)) return 'direct';
  if (Math.min(channels, y[1]) < LEAST_CHANNELS || macs < LEAST_MACS) return 'direct';
  const direct = directCost(macs, channels * y[1], changing);
  const [four, two] = [4, 2].map((side) => winogradCost(side, y, channels, changing)) as [number, number];
  if (Math.min(four, two) > 0.9 * direct) return 'direct';
  return four <= two ? 'winograd4' : 'winograd2';
}

// ---- The choices ----------------------------------------------------------------------------------------------------------

/** The algorithm of a forward pass; `changing`: whether the weights change from run to run, as they do in training. */
export function forwardAlgorithm(geometry: Sizes, changing = true): Conv2dAlgorithm {
  if (isDepthwise(geometry)) return 'depthwise';
  return productAlgorithm(geometry, geometry.y, geometry.x[1], changing);
}

/** From so many channels on Winograd's algorithm is certain to repay. */
const MANY_CHANNELS = 32;
/** Fewer tiles of 4 x 4 outputs than this do not repay F(4x4, 3x3) reading four times the weights; from the other on it is the fastest. */
const LEAST_TILES = 8;
const MANY_TILES = 40;

/** Algorithms of the forward pass that may be the fastest, the likeliest first. */
export function forwardCandidates(geometry: Sizes): readonly Conv2dAlgorithm[] {
  const [outputs, channels] = geometry.weight;
  const fewest = Math.min(outputs, channels);
  if (!engine().winograd || !isWinograd(geometry) || fewest < LEAST_CHANNELS)
    return [forwardAlgorithm(geometry, false)];
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
  if (isDepthwise(geometry)) return 'depthwise';
  return productAlgorithm(geometry, geometry.x, geometry.y[1], true);
}

export function weightGradAlgorithm(geometry: Sizes): Conv2dAlgorithm {
  const { x, y } = geometry;
  if (isDepthwise(geometry)) return 'depthwise';
  if (!engine().winograd || !isWinograd(geometry)) return 'direct';
  const pays = Math.min(x[1], y[1]) >= LEAST_CHANNELS && tilesOf(y, 4) >= LEAST_GRADIENT_TILES;
  return pays && geometry.macs >= LEAST_MACS ? 'winograd4' : 'direct';
}
