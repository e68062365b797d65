import { data } from '../tensor/read.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { coordinate, FAINT, svgDocument, svgText } from './svg.ts';

/** Gray pictures of one size, one after the other. */
export interface Planes {
  readonly data: ArrayLike<number>;
  readonly count: number;
  readonly height: number;
  readonly width: number;
}

/** How a grid of pictures is laid out. */
export interface GridOptions {
  readonly title?: string;
  /** One text under each picture. */
  readonly labels?: readonly string[];
  /** Pictures per row; default: about a square. */
  readonly columns?: number;
  /** Side of one picture's pixel in the drawing; default: so that a picture is about 84 wide. */
  readonly scale?: number;
  /** Values drawn black and white; default: the lowest and highest of each picture. */
  readonly range?: readonly [black: number, white: number];
}

const GAP = 12;
const LABEL = 18;
const WIDTH = 84;

/**
 * Draws gray pictures side by side.
 *
 * @returns a complete SVG document.
 * @throws {RangeError} if the data do not hold `count` pictures.
 * @example
 * ```ts
 * import { imageGrid } from 'feathermap/viz';
 * const svg = imageGrid({ data: [0, 1, 1, 0], count: 1, height: 2, width: 2 }, { title: 'checkers' });
 * if (!svg.startsWith('<svg')) throw new Error('wrong');
 * ```
 */
export function imageGrid(planes: Planes, options: GridOptions = {}): string {
  const { count, height, width } = planes;
  if (planes.data.length !== count * height * width) {
    throw new RangeError(`imageGrid: ${planes.data.length} values for ${count} pictures of ${height} x ${width}`);
  }
  const {
    title = '',
    labels,
    columns = Math.ceil(Math.sqrt(count)),
    scale = Math.max(1, Math.round(WIDTH / width)),
  } = options;
  const top = title === '' ? GAP : 40;
  const stepX = width * scale + GAP;
  const stepY = height * scale + GAP + (labels === undefined ? 0 : LABEL);
  const content = Array.from({ length: count }, (_, index) => {
    const x = GAP + (index % columns) * stepX;
    const y = top + Math.floor(index / columns) * stepY;
    const label = svgText(
      x + (width * scale) / 2,
      y + height * scale + 14,
      labels?.[index] ?? '',
      'text-anchor="middle"',
    );
    return drawPlane(planes, index, x, y, scale, options.range) + (labels === undefined ? '' : label);
  });
  const wide = Math.max(GAP + Math.min(columns, count) * stepX, 2 * GAP + 8 * title.length);
  if (title !== '')
    content.unshift(svgText(wide / 2, 24, title, 'text-anchor="middle" font-size="15" font-weight="600"'));
  return svgDocument(wide, top + Math.ceil(count / columns) * stepY, content);
}

/** One picture: a path per gray level, in which neighbours of equal gray are one rectangle. */
function drawPlane(
  planes: Planes,
  index: number,
  x: number,
  y: number,
  scale: number,
  range: GridOptions['range'],
): string {
  const { height, width } = planes;
  const pixels = Float64Array.from(
    { length: height * width },
    (_, i) => planes.data[index * height * width + i] as number,
  );
  const grays = toGray(pixels, range);
  const paths = new Map<number, string>();
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; ) {
      const gray = grays[row * width + column] as number;
      let end = column + 1;
      while (end < width && grays[row * width + end] === gray) end++;
      paths.set(gray, `${paths.get(gray) ?? ''}M${column} ${row}h${end - column}v1h${column - end}z`);
      column = end;
    }
  }
  const drawn = Array.from(paths, ([gray, path]) => `<path d="${path}" fill="rgb(${gray},${gray},${gray})"/>`);
  const place = `translate(${coordinate(x)} ${coordinate(y)}) scale(${coordinate(scale)})`;
  const frame = `<rect x="${coordinate(x - 0.5)}" y="${coordinate(y - 0.5)}" width="${width * scale + 1}" height="${height * scale + 1}" fill="none" stroke="${FAINT}"/>`;
  return `<g transform="${place}" shape-rendering="crispEdges">${drawn.join('')}</g>${frame}`;
}

function toGray(pixels: Float64Array, range: GridOptions['range']): Uint8ClampedArray {
  const [black, white] = range ?? [
    pixels.reduce((a, b) => Math.min(a, b), Infinity),
    pixels.reduce((a, b) => Math.max(a, b), -Infinity),
  ];
  const span = white - black || 1;
  return Uint8ClampedArray.from(pixels, (value) => (255 * (value - black)) / span);
}

/**
 * Draws the kernels of a convolution, weight `[O, I, H, W]`: one picture per output channel and, side by side, per input
 * channel. Mid gray is zero, white the largest magnitude of all.
 *
 * @throws {RangeError} for a weight that has not four axes.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { lenet } from 'feathermap/models';
 * import { filters } from 'feathermap/viz';
 * await init();
 * const [[, weight]] = [...lenet().namedParameters()];
 * if (!filters(weight).startsWith('<svg')) throw new Error('not a picture');
 * ```
 */
export function filters(weight: Tensor, options: GridOptions = {}): string {
  const planes = planesOf('filters', weight);
  const largest = Array.from(planes.data).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const perRow = weight.shape[1] as number;
  return imageGrid(planes, { range: [-largest, largest], ...(perRow > 1 ? { columns: perRow } : {}), ...options });
}

/**
 * Draws the channels of activations `[N, C, H, W]`, such as the output of a layer for one picture.
 *
 * @throws {RangeError} for a tensor that has not four axes.
 * @example
 * ```ts
 * import { init, nn, rand } from 'feathermap';
 * import { featureMaps } from 'feathermap/viz';
 * await init();
 * const svg = featureMaps(new nn.Conv2d(1, 6, 5).forward(rand([1, 1, 28, 28])));
 * if (svg.match(/<g transform/g).length !== 6) throw new Error('wrong');
 * ```
 */
export function featureMaps(activations: Tensor, options: GridOptions = {}): string {
  return imageGrid(planesOf('featureMaps', activations), options);
}

function planesOf(caller: string, tensor: Tensor): Planes {
  const [first = 0, second = 0, height = 0, width = 0] = tensor.shape;
  if (tensor.shape.length !== 4)
    throw new RangeError(`${caller}: shape [${tensor.shape}] has ${tensor.shape.length} axes, expected 4`);
  return { data: data(tensor), count: first * second, height, width };
}
