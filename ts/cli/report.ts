// What a run leaves behind: a line per epoch, the curve, the confusion matrix.

import { lineChart } from '../viz/line-chart.ts';

/** The results of one epoch. */
export interface EpochResult {
  /** Counted from 1. */
  readonly epoch: number;
  /** Mean training loss. */
  readonly loss: number;
  /** Shares of right answers, 0 to 1. */
  readonly trainAccuracy: number;
  readonly testAccuracy: number;
  readonly seconds: number;
}

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

/** Counts `[truth][prediction]` of equally long lists of class numbers. */
export function countConfusions(
  truths: ArrayLike<number>,
  predictions: ArrayLike<number>,
  classes: number,
): number[][] {
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let i = 0; i < truths.length; i++) {
    const row = counts[truths[i] as number] as number[];
    const predicted = predictions[i] as number;
    row[predicted] = (row[predicted] as number) + 1;
  }
  return counts;
}
