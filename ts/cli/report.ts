// What a run shows: a line per epoch, and the curve.

import type { EpochResult } from '../train/fit.ts';
import { lineChart } from '../viz/line-chart.ts';

/** `epoch 1, loss 0.4131, train acc 0.873, test acc 0.951, time 6.2 sec` */
export function epochLine({ epoch, loss, trainAccuracy, testAccuracy, seconds }: EpochResult): string {
  return [
    `epoch ${epoch}`,
    `loss ${loss.toFixed(4)}`,
    `train acc ${trainAccuracy.toFixed(3)}`,
    `test acc ${testAccuracy.toFixed(3)}`,
    `time ${seconds.toFixed(1)} sec`,
  ].join(', ');
}

/** Loss and accuracies over the epochs, as SVG. */
export function curve(results: readonly EpochResult[], title: string): string {
  const x = results.map(({ epoch }) => epoch);
  const series = [
    { name: 'train loss', x, y: results.map(({ loss }) => loss) },
    { name: 'train acc', x, y: results.map(({ trainAccuracy }) => trainAccuracy) },
    { name: 'test acc', x, y: results.map(({ testAccuracy }) => testAccuracy) },
  ];
  return lineChart({ series, title, xLabel: 'epoch', yLabel: 'loss, accuracy' });
}
