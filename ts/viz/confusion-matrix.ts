import { coordinate, svgDocument, svgText } from './svg.ts';

const CELL = 44;
const TOP = 64;
const BELOW = 20;
const LETTER = 7;
const CAPTION = 'predicted (columns), true (rows)';
const CAPTION_WIDTH = LETTER * CAPTION.length;

/**
 * Draws how often each class was taken for which: `counts[truth][prediction]`. The colour of a cell is its share of its
 * row; the right answers, on the diagonal, are blue, the wrong ones orange.
 *
 * @returns a complete SVG document.
 * @throws {RangeError} if `counts` is not square with one row per class.
 *
 * @example
 * ```ts
 * import { confusionMatrix } from 'feathermap/viz';
 * const svg = confusionMatrix([[9, 1], [0, 10]], ['cat', 'dog']);
 * if (!svg.includes('accuracy 0.950')) throw new Error('19 of 20 are right');
 * ```
 */
export function confusionMatrix(counts: readonly (readonly number[])[], classes: readonly string[]): string {
  const n = classes.length;
  if (counts.length !== n || counts.some((row) => row.length !== n)) {
    throw new RangeError(`confusionMatrix: ${counts.length} rows of ${counts[0]?.length ?? 0} counts, ${n} classes`);
  }
  const labels = LETTER * classes.reduce((longest, name) => Math.max(longest, name.length), 0);
  const left = 44 + labels;
  const slanted = labels > CELL - 6;
  const width = Math.max(left + n * CELL, CAPTION_WIDTH) + 24 + (slanted ? labels / 2 : 0);
  const height = TOP + n * CELL + BELOW + 24 + (slanted ? labels * 0.75 : 0);
  const middle = Math.max(left + (n * CELL) / 2, CAPTION_WIDTH / 2 + 12);
  return svgDocument(width, height, [
    svgText(middle, 26, `accuracy ${accuracy(counts)}`, 'text-anchor="middle" font-size="15" font-weight="600"'),
    svgText(middle, TOP - 12, CAPTION, 'text-anchor="middle" fill="#777"'),
    ...classes.flatMap((name, index) => classLabels(name, index, left, TOP + n * CELL, slanted)),
    ...counts.flatMap((row, truth) => drawRow(row, truth, left)),
  ]);
}

function accuracy(counts: readonly (readonly number[])[]): string {
  const right = counts.reduce((sum, row, index) => sum + (row[index] as number), 0);
  return (
    right /
    Math.max(
      1,
      counts.flat().reduce((sum, count) => sum + count, 0),
    )
  ).toFixed(3);
}

function classLabels(name: string, index: number, left: number, bottom: number, slanted: boolean): string[] {
  const along = CELL * (index + 0.5);
  const [x, y] = [left + along, bottom + 18];
  const below = slanted
    ? svgText(x - 4, y - 2, name, `transform="rotate(35 ${coordinate(x - 4)} ${coordinate(y - 2)})"`)
    : svgText(x, y, name, 'text-anchor="middle"');
  return [svgText(left - 10, TOP + along + 4, name, 'text-anchor="end"'), below];
}

function drawRow(row: readonly number[], truth: number, left: number): string[] {
  const total = Math.max(
    1,
    row.reduce((sum, count) => sum + count, 0),
  );
  return row.map((count, predicted) => {
    const [x, y] = [left + predicted * CELL, TOP + truth * CELL];
    const share = count / total;
    const box = `<rect x="${coordinate(x)}" y="${coordinate(y)}" width="${CELL}" height="${CELL}" fill="${shade(share, truth === predicted)}" stroke="#fff"/>`;
    const ink = share > 0.55 ? '#fff' : count === 0 ? '#bbb' : '#222';
    return box + svgText(x + CELL / 2, y + CELL / 2 + 4, String(count), `text-anchor="middle" fill="${ink}"`);
  });
}

/** From nearly white to the full colour. The square root lets the few errors of a good classifier show. */
function shade(share: number, right: boolean): string {
  const full = right ? [0, 84, 150] : [200, 70, 0];
  const weight = right ? share : Math.sqrt(share);
  return `rgb(${full.map((channel) => Math.round(246 + (channel - 246) * weight)).join(',')})`;
}
