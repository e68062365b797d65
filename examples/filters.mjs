// Image filters, as people wrote them before kernels were learned: one convolution applies six of them to real pictures.
//   npm run build && node examples/filters.mjs     writes runs/filters.svg
import { mkdirSync, writeFileSync } from 'node:fs';
import { init, tensor } from 'feathermap';
import { DataLoader, fashionMnist, mnist } from 'feathermap/data';
import * as F from 'feathermap/functional';
import { featureMaps } from 'feathermap/viz';

await init();

const filters = {
  identity: [
    [0, 0, 0],
    [0, 1, 0],
    [0, 0, 0],
  ],
  edge: [
    [-1, -1, -1],
    [-1, 8, -1],
    [-1, -1, -1],
  ],
  sharpen: [
    [0, -1, 0],
    [-1, 5, -1],
    [0, -1, 0],
  ],
  'box blur': [
    [1, 1, 1],
    [1, 1, 1],
    [1, 1, 1],
  ].map((row) => row.map((value) => value / 9)),
  Gaussian: [
    [1, 2, 1],
    [2, 4, 2],
    [1, 2, 1],
  ].map((row) => row.map((value) => value / 16)),
  'left edges': [
    [-1, 0, 1],
    [-2, 0, 2],
    [-1, 0, 1],
  ],
};
const names = Object.keys(filters);

// weight [6, 1, 3, 3]: one output channel per filter, one input channel.
const weight = tensor(Object.values(filters).map((kernel) => [kernel]));

const pictures = await fashionMnist({ train: false }).catch(() => mnist({ train: false }));
const [x] = new DataLoader(pictures).load([0, 1, 2, 3]);
const y = F.conv2d(x, weight, null, { padding: 1 });
console.log(`pictures [${x.shape}], filtered [${y.shape}]`);

const labels = Array.from({ length: 4 }, () => names).flat();
mkdirSync('runs', { recursive: true });
writeFileSync('runs/filters.svg', featureMaps(y, { columns: names.length, labels, title: 'Six 3 x 3 filters' }));
console.log('wrote runs/filters.svg');
