import { describe, expect, test } from 'vitest';
import { helpText, parseOptions, UsageError } from '../../ts/cli/options.ts';

describe('parseOptions', () => {
  test('has defaults for everything', () => {
    expect(parseOptions([])).toEqual({
      help: false,
      variant: 'sigmoid',
      epochs: 8,
      batchSize: 128,
      optimizer: 'adam',
      lr: 0.008,
      momentum: 0,
      seed: 0,
      threads: 'auto',
      dataset: 'mnist',
      data: undefined,
      out: 'runs/mnist',
    });
  });

  test('reads every option', () => {
    const line =
      '--variant relu --epochs 3 --batch-size=64 --optimizer sgd --lr 0.05 --momentum 0.5 --seed 7 --threads 2 --dataset fashion --data d --out o';
    expect(parseOptions(line.split(' '))).toEqual({
      help: false,
      variant: 'relu',
      epochs: 3,
      batchSize: 64,
      optimizer: 'sgd',
      lr: 0.05,
      momentum: 0.5,
      seed: 7,
      threads: 2,
      dataset: 'fashion',
      data: 'd',
      out: 'o',
    });
    expect(parseOptions(['-h']).help).toBe(true);
    expect(parseOptions(['--dataset', 'fashion']).out).toBe('runs/fashion');
  });

  test.each([
    ['--epoch 3', "Unknown option '--epoch'"],
    ['extra', "Unexpected argument 'extra'"],
    ['--lr', "Option '--lr <value>' argument missing"],
    ['--variant tanh', "--variant must be sigmoid or relu, got 'tanh'"],
    ['--optimizer lion', "--optimizer must be sgd or adam or adamw, got 'lion'"],
    ['--dataset cifar', "--dataset must be mnist or fashion, got 'cifar'"],
    ['--epochs 0', "--epochs must be a whole number from 1 to 100000, got '0'"],
    ['--epochs 1e3', "--epochs must be a whole number from 1 to 100000, got '1e3'"],
    ['--batch-size 2.5', "--batch-size must be a whole number from 1 to 60000, got '2.5'"],
    ['--lr nan', "--lr must be a number above 0, got 'nan'"],
    ['--lr 0', "--lr must be a number above 0, got '0'"],
    ['--lr=', "--lr must be a number above 0, got ''"],
    ['--optimizer sgd --momentum 1', "--momentum must be from 0 to below 1, got '1'"],
    ['--momentum 0.9', '--momentum belongs to --optimizer sgd, not adam'],
    ['--seed x', "--seed must be a whole number from 0 to 4294967295, got 'x'"],
    ['--threads -1', '--threads needs a value; one that starts with a dash is written --threads=-1'],
    ['--threads=-1', "--threads must be a whole number from 1 to 256, got '-1'"],
    ['--threads 0', "--threads must be a whole number from 1 to 256, got '0'"],
  ])('%s', (line, message) => {
    let caught: unknown;
    try {
      parseOptions(line.split(' '));
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(UsageError);
    expect((caught as UsageError).message).toBe(message);
  });

  test('the help names every option', () => {
    const named = [...helpText.matchAll(/^ {2}--([a-z-]+)/gm)].map((match) => match[1]);
    expect(named).toEqual(
      'variant epochs batch-size optimizer lr momentum seed threads dataset data out help'.split(' '),
    );
  });
});
