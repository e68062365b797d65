// Which algorithm computes a convolution and its gradients. The choice follows from the geometry alone, so the bits of a result never
// depend on timing; compile may override it by measurement.
import { engine } from '../runtime/engine.ts';
import { pieceShape } from './conv2d-dilated.ts';
import type { Conv2dAlgorithm, Conv2dGeometry, Four } from './conv2d-geometry.ts';
import { type Side, winogradSides } from './conv2d-winograd.ts';
import { winogradWeightGradSide } from './conv2d-winograd-grad.ts';

/** What the choice may look at. */
type Sizes = Omit<Conv2dGeometry, 'algorithm'>;

/** Whether every channel has kernels of its own: one, or several (a channel multiplier). */
function isDepthwise({ x, groups }: Sizes): boolean {
  return groups > 1 && groups === x[1];
}

// ---- Winograd -------------------------------------------------------------------------------------------------------------

/** Fewer channels leave the products of its planes too short, and fewer multiply-adds (35 us) gain nothing that anyone would notice. */
const LEAST_CHANNELS = 16;
const LEAST_MACS = 1e6;
/** Tiles of gradients from which sums of outer products pay for their transforms. */
const LEAST_GRADIENT_TILES = 24;

/** Transformed weights in bytes that come from a cache fast enough not to be waited for. */
const NEAR_BYTES = 4e6;

/** Tiles of an output. */
function tilesOf([images, , height, width]: Four, side: number): number {
  return images * Math.ceil(height / side) * Math.ceil(width / side);
}

/** The squares that may be used. */
function sidesOf(geometry: Sizes): readonly Side[] {
  return engine().winograd ? winogradSides(geometry) : [];
}

/** The algorithm of a square. */
function nameOf(side: Side): Conv2dAlgorithm {
  return side === 4 ? 'winograd4' : 'winograd2';
}

/**
 * Times, in multiply-adds at full speed (35 ps), for `pairs` of source and result channels: fitted to measurements with 3 x 3 kernels,
 * 16 to 512 channels, 4 x 4 to 28 x 28 outputs, one to eight images, on Zen 4; errors are below a third, with 5 x 5 kernels too.
 * Weights that change from run to run are packed or transformed each time.
 */
function directCost(macs: number, pairs: number, changing: boolean): number {
  return 1.05 * macs + (changing ? 220 : 100) * pairs;
}

function winogradCost(side: number, kernel: number, y: Four, channels: number, changing: boolean): number {
  const tiles = tilesOf(y, side);
  const values = (side + kernel - 1) ** 2;
  const pairs = channels * y[1];
  const near = 4 * values * pairs < NEAR_BYTES;
  const products = tiles * values * pairs * (1 + 10 / channels);
  const transforms = tiles * values * 5.5 * (channels + y[1]);
  const weights = values * pairs * ((near ? 1 : 8) + (changing ? (near ? 6 : 27) : 0));
  return products + transforms + weights;
}

/** The fastest algorithm for the way from x to y. */
function productAlgorithm(geometry: Sizes, x: Four, y: Four, changing: boolean): Conv2dAlgorithm {
  const { macs, weight, rows, columns } = geometry;
  const channels = x[1];
  if (Math.min(channels, y[1]) < LEAST_CHANNELS || macs < LEAST_MACS) return 'direct';
  const { count, shape } = pieceShape(x, y, rows, columns);
  let best: Conv2dAlgorithm = 'direct';
  let least = 0.9 * directCost(macs, channels * y[1], changing);
  for (const side of sidesOf(geometry)) {
    const cost = count * winogradCost(side, weight[2], shape, channels, changing);
    if (cost < least) [best, least] = [nameOf(side), cost];
  }
  return best;
}

// ---- The choices ----------------------------------------------------------------------------------------------------------

/** The algorithm of a forward pass; `changing`: whether the weights change from run to run, as they do in training. */
export function forwardAlgorithm(geometry: Sizes, changing = true): Conv2dAlgorithm {
  if (isDepthwise(geometry)) return 'depthwise';
  return productAlgorithm(geometry, geometry.x, geometry.y, changing);
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
  const sides = sidesOf(geometry);
  if (sides.length === 0 || fewest < LEAST_CHANNELS) return [forwardAlgorithm(geometry, false)];
  const { x, y, rows, columns } = geometry;
  const tiles = tilesOf(pieceShape(x, y, rows, columns).shape, 4);
  const four = sides.includes(4) && tiles >= LEAST_TILES;
  const names: Conv2dAlgorithm[] = four ? ['winograd4'] : ['winograd2'];
  if (four && (fewest < MANY_CHANNELS || tiles < MANY_TILES)) names.push('winograd2');
  if (tiles < LEAST_TILES || fewest < MANY_CHANNELS) names.push('direct');
  return names;
}

/** Whether an algorithm can compute the forward pass. */
export function forwardApplies(geometry: Sizes, algorithm: Conv2dAlgorithm): boolean {
  if (algorithm === 'depthwise') return isDepthwise(geometry);
  return algorithm === 'direct' || winogradSides(geometry).map(nameOf).includes(algorithm);
}

export function inputGradAlgorithm(geometry: Sizes): Conv2dAlgorithm {
  if (isDepthwise(geometry)) return 'depthwise';
  return productAlgorithm(geometry, geometry.y, geometry.x, true);
}

export function weightGradAlgorithm(geometry: Sizes): Conv2dAlgorithm {
  const { x, y } = geometry;
  if (isDepthwise(geometry)) return 'depthwise';
  const side = engine().winograd ? winogradWeightGradSide(geometry) : null;
  if (!side) return 'direct';
  const pays = Math.min(x[1], y[1]) >= LEAST_CHANNELS && tilesOf(y, side) >= LEAST_GRADIENT_TILES;
  return pays && geometry.macs >= LEAST_MACS ? nameOf(side) : 'direct';
}
