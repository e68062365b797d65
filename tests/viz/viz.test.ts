import { describe, expect, test } from 'vitest';
import { confusionMatrix } from '../../ts/viz/confusion-matrix.ts';
import { imageGrid } from '../../ts/viz/image-grid.ts';
import { lineChart } from '../../ts/viz/line-chart.ts';

/** Every element is closed and every attribute quoted: a small stand-in for an XML parser. */
function checkWellFormed(svg: string): void {
  const open: string[] = [];
  const rest = svg.replace(/<(\/?)([a-z]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g, (_, closing, name, __, empty) => {
    if (closing) expect(open.pop()).toBe(name);
    else if (!empty) open.push(name);
    return '';
  });
  expect(open).toEqual([]);
  expect(rest).not.toMatch(/[<>]|&(?!amp;|lt;|gt;|quot;)/);
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
}

describe('lineChart', () => {
  test('is a well-formed picture, whatever the names', () => {
    const svg = lineChart({ series: [{ name: 'a < b & "c"', y: [1, 2] }], title: '<t>', xLabel: 'x&y', yLabel: '>' });
    checkWellFormed(svg);
    expect(svg).toContain('a &lt; b &amp; &quot;c&quot;');
  });

  test('round ticks around the values', () => {
    const labels = (y: number[]): string[] =>
      [...lineChart({ series: [{ name: 's', y }] }).matchAll(/text-anchor="end">([^<]*)</g)].map(
        (match) => match[1] as string,
      );
    expect(labels([0.02, 0.98])).toEqual(['0', '0.2', '0.4', '0.6', '0.8', '1']);
    expect(labels([-3, 12])).toEqual(['-5', '0', '5', '10', '15']);
    expect(labels([0.9871, 0.9899])).toEqual(['0.987', '0.9875', '0.988', '0.9885', '0.989', '0.9895', '0.99']);
    expect(labels([5, 5])).toContain('5');
  });

  test('leaves gaps where values are not finite', () => {
    const svg = lineChart({ series: [{ name: 's', y: [1, Number.NaN, 2, 3, Infinity] }] });
    checkWellFormed(svg);
    expect(svg.match(/<path d="(M[^"]*)" fill="none"/)?.[1]?.match(/[ML]/g)).toEqual(['M', 'M', 'L']);
  });

  test('draws nothing, one point, many points', () => {
    checkWellFormed(lineChart({ series: [] }));
    checkWellFormed(lineChart({ series: [{ name: 's', y: [3] }] }));
    const many = lineChart({ series: [{ name: 's', y: Array.from({ length: 500 }, (_, i) => i * i) }] });
    checkWellFormed(many);
    expect(many).not.toContain('<circle');
  });

  test('refuses x and y of different lengths', () => {
    expect(() => lineChart({ series: [{ name: 'loss', x: [1], y: [1, 2] }] })).toThrow(
      "lineChart: series 'loss' has 1 x and 2 y values",
    );
  });
});

describe('confusionMatrix', () => {
  test('shows counts and accuracy', () => {
    const svg = confusionMatrix(
      [
        [9, 1],
        [0, 10],
      ],
      ['cat', 'dog & co'],
    );
    checkWellFormed(svg);
    for (const text of ['>9<', '>1<', '>0<', '>10<', 'accuracy 0.950']) expect(svg).toContain(text);
    checkWellFormed(confusionMatrix([[0]], ['none']));
  });

  test('refuses counts that are not square', () => {
    expect(() => confusionMatrix([[1, 2]], ['a', 'b'])).toThrow('confusionMatrix: 1 rows of 2 counts, 2 classes');
  });
});

describe('imageGrid', () => {
  test('one path per gray level, equal neighbours joined', () => {
    const svg = imageGrid(
      { data: [0, 0, 1, 1, 0, 0.5], count: 1, height: 2, width: 3 },
      { labels: ['one'], title: 'T' },
    );
    checkWellFormed(svg);
    expect(svg).toContain('<path d="M0 0h2v1h-2zM1 1h1v1h-1z" fill="rgb(0,0,0)"/>');
    expect(svg).toContain('<path d="M2 0h1v1h-1zM0 1h1v1h-1z" fill="rgb(255,255,255)"/>');
    expect(svg).toContain('fill="rgb(128,128,128)"');
  });

  test('a constant picture and a fixed range', () => {
    checkWellFormed(imageGrid({ data: [2, 2], count: 2, height: 1, width: 1 }));
    expect(imageGrid({ data: [0], count: 1, height: 1, width: 1 }, { range: [-1, 1] })).toContain('rgb(128,128,128)');
  });

  test('refuses data of another size', () => {
    expect(() => imageGrid({ data: [1], count: 2, height: 1, width: 1 })).toThrow(
      'imageGrid: 1 values for 2 pictures of 1 x 1',
    );
  });
});
