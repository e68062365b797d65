// The examples, run as they stand against the built package. Needs `npm run build`; `npm test` does that first.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { encode as encodePng } from 'fast-png';
import jpeg from 'jpeg-js';
import { expect, test } from 'vitest';
import { saveSafetensors } from '../../ts/exchange/safetensors.ts';
import { init, shutdown } from '../../ts/index.ts';
import { mobilenetV2 } from '../../ts/models/index.ts';

const root = resolve(import.meta.dirname, '../..');

function runExample(name: string, cwd = root, ...args: string[]): string {
  return execFileSync(process.execPath, [join(root, 'examples', name), ...args], { cwd, encoding: 'utf8' });
}

test('textbook.mjs prints the numbers of the textbook', () => {
  const printed = runExample('textbook.mjs');
  const facts = new Map(printed.split('\n').map((line) => line.split(/: (?!.*: )/) as [string, string]));
  const expected: [string, string][] = [
    ['0..8 with [[0,1],[2,3]]', '[[19,25],[37,43]]'],
    ['a row of the edges', '[0,1,0,0,0,-1,0]'],
    ['edges in the transposed picture, largest', '0'],
    ['0..8 truly convolved with [[0,1],[2,3]]', '[[5,11],[23,29]]'],
    ['8x8, k 3, p 1', '1 x 1 x 8 x 8'],
    ['8x8, k (5,3), p (2,1)', '1 x 1 x 8 x 8'],
    ['8x8, k 3, p 1, s 2', '1 x 1 x 4 x 4'],
    ['8x8, k (3,5), p (0,1), s (3,4)', '1 x 1 x 2 x 2'],
    ['3x100x100, four filters k 3, p 2', '1 x 4 x 102 x 102'],
    ['k 4 keeps 8x8 with padding [[2,1],[2,1]]', '1 x 1 x 8 x 8'],
    ['Conv2d(2, 3, (3,5), padding (1,2)) on 4x2x3x5', '4 x 3 x 3 x 5'],
    ['its weight and bias', '3 x 2 x 3 x 5 and 3'],
    ['two input channels', '[[56,72],[104,120]]'],
    ['three output channels', '[[[56,72],[104,120]],[[76,100],[148,172]],[[96,128],[192,224]]]'],
    ['2x2 maximum of 0..8', '[[4,5],[7,8]]'],
    ['2x2 average of 0..8', '[[2,3],[5,6]]'],
    ['MaxPool2d(3) on 0..15', '10'],
    ['MaxPool2d(3, padding 1, stride 2)', '[[5,7],[13,15]]'],
    ['MaxPool2d((2,3), stride (2,3), padding (0,1))', '[[5,7],[13,15]]'],
    ['MaxPool2d(3, padding 1, stride (2,1)) on 0..31', '[[[5,6,7,7],[13,14,15,15]],[[21,22,23,23],[29,30,31,31]]]'],
    ['a dense layer from 256x256x3 to 1,000', '196,609,000'],
    ['10 filters 3x3x3', '280'],
    ['10 filters 5x5x3, padding 2, on 32x32x3', '760'],
    ['the same as a dense layer', '31,467,520'],
    ['LeNet', '61,706'],
    ['one 3x3', '3'],
    ['two 3x3, as much as one 5x5', '5'],
    ['three 3x3', '7'],
    ['3x3, 2x2 pooling, 3x3', '8'],
  ];
  for (const [what, value] of expected) expect([what, facts.get(what)]).toEqual([what, value]);

  const learned = (how: string): { loss: number; weight: number[] } => {
    const { loss, weight } = JSON.parse(printed.split(`learned ${how}: `)[1]?.split('\n')[0] ?? '{}');
    return { loss, weight: weight.flat() };
  };
  const plain = learned('in 10 steps without bias');
  expect(plain.loss).toBeLessThan(0.2);
  expect(Math.abs((plain.weight[0] as number) - 1)).toBeLessThan(0.1);
  expect(Math.abs((plain.weight[1] as number) + 1)).toBeLessThan(0.1);
  expect(learned('in 30 steps with bias').loss).toBeLessThan(0.05);
  const flipped = learned('from a true convolution with [1,-1]');
  expect(Math.abs((flipped.weight[0] as number) + 1)).toBeLessThan(0.1);
  expect(Number(facts.get('1x1 convolution against a dense layer over channels, largest difference'))).toBeLessThan(
    1e-6,
  );
});

test('filters.mjs filters pictures and draws them', () => {
  const folder = mkdtempSync(join(tmpdir(), 'feathermap-filters-'));
  expect(runExample('filters.mjs', folder)).toContain('pictures [4,1,28,28], filtered [4,6,28,28]');
  const svg = readFileSync(join(folder, 'runs/filters.svg'), 'utf8');
  expect(svg.match(/<g transform/g)).toHaveLength(24);
});

test('first-program.mjs is short and learns', () => {
  const text = readFileSync(join(root, 'examples/first-program.mjs'), 'utf8');
  expect(text.trimEnd().split('\n').length).toBeLessThanOrEqual(15);
  expect(Number(runExample('first-program.mjs'))).toBeGreaterThan(0.95);
}, 180_000);

test('classify/run.mjs names five classes for a JPEG and a PNG', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'feathermap-classify-'));
  await init({ threads: 1 });
  writeFileSync(join(folder, 'weights.safetensors'), saveSafetensors(mobilenetV2().stateDict()));
  await shutdown();
  const [width, height] = [90, 60];
  const pixels = Uint8Array.from({ length: width * height * 4 }, (_, i) => (i % 4 === 3 ? 255 : (i * 7) % 251));
  writeFileSync(join(folder, 'picture.png'), encodePng({ width, height, data: pixels, channels: 4 }));
  writeFileSync(join(folder, 'picture.jpg'), jpeg.encode({ width, height, data: pixels }, 95).data);
  for (const picture of ['picture.png', 'picture.jpg']) {
    const lines = runExample('classify/run.mjs', folder, picture, 'weights.safetensors', 'mobilenetV2')
      .trim()
      .split('\n');
    expect(lines).toHaveLength(5);
    for (const line of lines) expect(line).toMatch(/^ *\d+\.\d\d % {2}\S/);
  }
});

test('resnet/run.mjs learns digits', () => {
  const printed = runExample('resnet/run.mjs', root, '4000');
  expect(printed).toContain('77,754 parameters');
  expect(Number(printed.split('test accuracy ')[1])).toBeGreaterThan(0.8);
});
