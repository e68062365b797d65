import { describe, expect, test } from 'vitest';
import { barLine, ProgressBar } from '../../ts/cli/progress.ts';
import { curve, epochLine } from '../../ts/cli/report.ts';

describe('report', () => {
  const result = { epoch: 1, loss: 0.41312, trainAccuracy: 0.8731, testLoss: 0.2, testAccuracy: 0.9514, seconds: 6.24 };

  test('one line per epoch', () => {
    expect(epochLine(result)).toBe('epoch 1, loss 0.4131, train acc 0.873, test acc 0.951, time 6.2 sec');
  });

  test('the curve holds three series', () => {
    const svg = curve([result, { ...result, epoch: 2 }], 'LeNet on mnist');
    for (const text of ['LeNet on mnist', 'train loss', 'train acc', 'test acc']) expect(svg).toContain(text);
  });
});

describe('ProgressBar', () => {
  function record(isTTY: boolean): { written: string[]; bar: ProgressBar; wait: (ms: number) => void } {
    const written: string[] = [];
    let time = 0;
    const terminal = { isTTY, columns: 60, write: (text: string) => written.push(text) };
    return { written, bar: new ProgressBar(terminal, () => time), wait: (ms) => (time += ms) };
  }

  test('writes nothing when the output is no terminal', () => {
    const { written, bar } = record(false);
    bar.update(1, 2, 'epoch 1');
    bar.clear();
    expect(written).toEqual([]);
  });

  test('redraws in place, not too often, and clears once', () => {
    const { written, bar, wait } = record(true);
    bar.update(1, 4, 'epoch 1');
    bar.update(2, 4, 'epoch 1');
    wait(60);
    bar.update(3, 4, 'epoch 1', 'loss 0.5');
    bar.clear();
    bar.clear();
    expect(written).toHaveLength(3);
    expect(written[1]).toBe(`\repoch 1 ${'█'.repeat(23)}${'░'.repeat(7)} 3/4 loss 0.5\x1b[K`);
    expect(written[2]).toBe('\r\x1b[K');
  });

  test('never fills the line', () => {
    expect(barLine(5, 10, 'epoch 1', 'a long note', 20)).toHaveLength(19);
    expect(barLine(0, 0, 'e', '', 80)).toContain('0/0');
  });
});
