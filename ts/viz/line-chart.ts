import { coordinate, FAINT, INK, palette, svgDocument, svgText } from './svg.ts';

/** One line of a chart. */
export interface Series {
  readonly name: string;
  readonly y: readonly number[];
  /** Default: 1, 2, 3, ... */
  readonly x?: readonly number[];
}

/** What a line chart shows. */
export interface LineChart {
  readonly series: readonly Series[];
  readonly title?: string;
  readonly xLabel?: string;
  readonly yLabel?: string;
  /** Size in pixels; default 640 x 400. */
  readonly width?: number;
  readonly height?: number;
}

const MARGIN = { left: 64, right: 24, top: 44, bottom: 52 };
const TICKS = 6;
const DASHES = ['', '7 4', '2 3', '9 3 2 3'];
/** Fewer points than this are marked one by one. */
const MARKED_POINTS = 40;

/**
 * Draws series of numbers as lines over common axes; values that are not finite leave a gap.
 *
 * @returns a complete SVG document.
 * @throws {RangeError} if `x` and `y` of a series differ in length.
 *
 * @example
 * ```ts
 * import { lineChart } from 'feathermap/viz';
 * const svg = lineChart({ series: [{ name: 'loss', y: [2.3, 0.4, 0.1] }], title: 'LeNet', xLabel: 'epoch' });
 * if (!svg.startsWith('<svg')) throw new Error('not a picture');
 * ```
 */
export function lineChart(chart: LineChart): string {
  const { series, title = '', xLabel = '', yLabel = '', width = 640, height = 400 } = chart;
  const lines = series.map(pointsOf);
  const x = tightAxis(
    lines.flatMap((line) => line.map(([at]) => at)),
    MARGIN.left,
    width - MARGIN.right,
  );
  const y = axis(
    lines.flatMap((line) => line.map(([, at]) => at)),
    height - MARGIN.bottom,
    MARGIN.top,
  );
  const middle = (MARGIN.left + width - MARGIN.right) / 2;
  return svgDocument(width, height, [
    svgText(middle, 24, title, 'text-anchor="middle" font-size="15" font-weight="600"'),
    ...grid(x, y),
    svgText(middle, height - 14, xLabel, 'text-anchor="middle"'),
    `<g transform="translate(18 ${coordinate((y.from + y.to) / 2)}) rotate(-90)">${svgText(0, 0, yLabel, 'text-anchor="middle"')}</g>`,
    ...lines.flatMap((line, index) => drawLine(line, index, x, y)),
    ...legend(
      series.map(({ name }) => name),
      lines,
      x,
      y,
    ),
  ]);
}

type Point = readonly [x: number, y: number];

function pointsOf({ name, x, y }: Series): Point[] {
  if (x !== undefined && x.length !== y.length) {
    throw new RangeError(`lineChart: series '${name}' has ${x.length} x and ${y.length} y values`);
  }
  return y.map((value, index) => [x?.[index] ?? index + 1, value]);
}

interface Axis {
  readonly ticks: readonly number[];
  /** Pixels at the ends. */
  readonly from: number;
  readonly to: number;
  readonly place: (value: number) => number;
}

/** An axis whose ends are round numbers around the values. */
function axis(values: readonly number[], from: number, to: number): Axis {
  const { low, high, step } = extent(values);
  const ticks = multiples(Math.floor(low / step), Math.ceil(high / step), step);
  const [first = 0, last = 1] = [ticks[0], ticks.at(-1)];
  return { ticks, from, to, place: (value) => from + ((value - first) / (last - first)) * (to - from) };
}

/** An axis that ends where the values end, with ticks at round numbers between. */
function tightAxis(values: readonly number[], from: number, to: number): Axis {
  const { low, high, step } = extent(values);
  const ticks = multiples(Math.ceil(low / step), Math.floor(high / step), step);
  return { ticks, from, to, place: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

/** Lowest and highest finite value, never equal, and a round distance for about six ticks between. */
function extent(values: readonly number[]): { low: number; high: number; step: number } {
  const finite = values.filter(Number.isFinite);
  let low = finite.reduce((a, b) => Math.min(a, b), Infinity);
  let high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  if (finite.length === 0) [low, high] = [0, 1];
  else if (low === high) [low, high] = [low - 1, high + 1];
  return { low, high, step: roundStep((high - low) / TICKS) };
}

/** The multiples of `step`, free of the rounding errors that would show in their decimals. */
function multiples(first: number, last: number, step: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** The next of 1, 2, 5 times a power of ten. */
function roundStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  return ([1, 2, 5].find((factor) => factor * power >= rough * 0.999) ?? 10) * power;
}

function grid(x: Axis, y: Axis): string[] {
  const horizontal = y.ticks.map((tick) => {
    const at = coordinate(y.place(tick));
    return `<path d="M${x.from} ${at}H${x.to}" stroke="${FAINT}"/>${svgText(x.from - 8, y.place(tick) + 4, String(tick), 'text-anchor="end"')}`;
  });
  const vertical = x.ticks.map((tick) => {
    const at = coordinate(x.place(tick));
    return `<path d="M${at} ${y.from}v5" stroke="${INK}"/>${svgText(x.place(tick), y.from + 19, String(tick), 'text-anchor="middle"')}`;
  });
  return [...horizontal, ...vertical, `<path d="M${x.from} ${y.from}H${x.to}" stroke="${INK}"/>`];
}

function drawLine(line: readonly Point[], index: number, x: Axis, y: Axis): string[] {
  const { color, dash } = look(index);
  let path = '';
  let pen = 'M';
  const marks: string[] = [];
  for (const [atX, atY] of line) {
    if (!Number.isFinite(atX) || !Number.isFinite(atY)) {
      pen = 'M';
      continue;
    }
    const place = [coordinate(x.place(atX)), coordinate(y.place(atY))];
    path += `${pen}${place.join(' ')}`;
    pen = 'L';
    if (line.length < MARKED_POINTS) marks.push(`<circle cx="${place[0]}" cy="${place[1]}" r="2.6" fill="${color}"/>`);
  }
  return [
    `<path d="${path}" fill="none" stroke="${color}" stroke-width="2" stroke-linejoin="round"${dash}/>`,
    ...marks,
  ];
}

function look(index: number): { color: string; dash: string } {
  const dashes = DASHES[index % DASHES.length] as string;
  return {
    color: palette[index % palette.length] as string,
    dash: dashes === '' ? '' : ` stroke-dasharray="${dashes}"`,
  };
}

const LEGEND_ROW = 20;

/** Names of the series, in that right-hand corner or middle where the fewest points lie behind it. */
function legend(names: readonly string[], lines: readonly (readonly Point[])[], x: Axis, y: Axis): string[] {
  const width = 52 + 7 * names.reduce((longest, name) => Math.max(longest, name.length), 0);
  const height = 8 + LEGEND_ROW * names.length;
  const left = x.to - width - 8;
  const places = lines.flat().map(([atX, atY]): Point => [x.place(atX), y.place(atY)]);
  const covered = (top: number): number =>
    places.filter(([px, py]) => px > left - 8 && py > top - 8 && py < top + height + 8).length;
  const tops = [y.to + 8, (y.from + y.to - height) / 2, y.from - height - 8];
  const top = tops.reduce((best, candidate) => (covered(candidate) < covered(best) ? candidate : best));
  const frame = `<rect x="${coordinate(left)}" y="${coordinate(top)}" width="${width}" height="${height}" rx="4" fill="#fff" fill-opacity="0.85" stroke="${FAINT}"/>`;
  const rows = names.map((name, index) => {
    const { color, dash } = look(index);
    const middle = top + 14 + LEGEND_ROW * index;
    const sample = `<path d="M${coordinate(left + 8)} ${coordinate(middle)}h28" stroke="${color}" stroke-width="2"${dash}/>`;
    return sample + svgText(left + 44, middle + 4, name);
  });
  return [frame, ...rows];
}
