// The program behind `npm run mnist` and `npm run fashion`: trains LeNet, tests it, writes what came out.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ImageDataset } from '../data/images.ts';
import { DataLoader } from '../data/loader.ts';
import { fashionMnist, mnist } from '../data/mnist.ts';
import { saveSafetensors } from '../exchange/safetensors.ts';
import * as F from '../functional.ts';
import { init, manualSeed, optim, shutdown } from '../index.ts';
import { type LeNet, lenet } from '../models/lenet.ts';
import { type EpochResult, fit } from '../train/fit.ts';
import { confusionMatrix as countConfusions } from '../train/metrics.ts';
import { confusionMatrix } from '../viz/confusion-matrix.ts';
import { helpText, parseOptions, type TrainOptions, UsageError } from './options.ts';
import { ProgressBar } from './progress.ts';
import { curve, epochLine } from './report.ts';

/** Batches for testing need not be small. */
const TEST_BATCH = 500;

async function main(args: readonly string[]): Promise<void> {
  const options = parseOptions(args);
  if (options.help) {
    console.log(helpText);
    return;
  }
  const [train, test] = await loadData(options);
  await init({ threads: options.threads });
  try {
    manualSeed(options.seed);
    const net = lenet({ variant: options.variant });
    const testLoader = new DataLoader(test, { batchSize: TEST_BATCH });
    const history = await trainNet(net, train, testLoader, options);
    const counts = countConfusions(net, testLoader, test.classes.length);
    writeResults(options, net, history, confusionMatrix(counts, test.classes));
  } finally {
    await shutdown();
  }
}

async function loadData({ dataset, data }: TrainOptions): Promise<[train: ImageDataset, test: ImageDataset]> {
  const load = dataset === 'mnist' ? mnist : fashionMnist;
  const from = data === undefined ? {} : { folder: data };
  return [await load({ ...from, train: true }), await load({ ...from, train: false })];
}

/** Trains and prints; Ctrl-C ends the training early, with what has been learned by then. */
async function trainNet(
  net: LeNet,
  set: ImageDataset,
  test: DataLoader,
  options: TrainOptions,
): Promise<EpochResult[]> {
  const { batchSize, seed, epochs } = options;
  const train = new DataLoader(set, { batchSize, shuffle: true, seed });
  const optimizer = makeOptimizer(net, options);
  const schedule = new optim.CosineAnnealingLR(optimizer, epochs);
  const bar = new ProgressBar(process.stdout);
  const history: EpochResult[] = [];
  const stop = new AbortController();
  const onInterrupt = (): void => stop.abort();
  process.once('SIGINT', onInterrupt);
  try {
    await fit(net, {
      train,
      test,
      loss: F.crossEntropy,
      optimizer,
      schedule,
      epochs,
      signal: stop.signal,
      onBatch: (batch, _, loss) =>
        bar.update(batch + 1, train.length, `epoch ${history.length + 1}/${epochs}`, `loss ${loss.toFixed(4)}`),
      onEpoch: (result) => {
        history.push(result);
        bar.clear();
        console.log(epochLine(result));
      },
    });
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    bar.clear();
    console.log(`stopped in epoch ${history.length + 1}`);
  } finally {
    process.removeListener('SIGINT', onInterrupt);
  }
  return history;
}

function makeOptimizer(net: LeNet, { optimizer, lr, momentum }: TrainOptions): optim.Optimizer {
  if (optimizer === 'sgd') return new optim.SGD(net.parameters(), { lr, momentum });
  return new optim[optimizer === 'adam' ? 'Adam' : 'AdamW'](net.parameters(), { lr });
}

function writeResults(options: TrainOptions, net: LeNet, history: readonly EpochResult[], confusion: string): void {
  const { out, dataset, variant, seed } = options;
  const metadata = { model: 'lenet', variant, dataset, epochs: String(history.length), seed: String(seed) };
  const files = {
    'weights.safetensors': saveSafetensors(net.stateDict(), { metadata }),
    'curve.svg': curve(history, `LeNet (${variant}) on ${dataset}`),
    'confusion.svg': confusion,
  };
  mkdirSync(out, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(out, name), content);
  console.log(`wrote ${Object.keys(files).join(', ')} to ${out}`);
}

main(process.argv.slice(2)).catch((error: Error) => {
  const usage = error instanceof UsageError;
  console.error(usage ? `${error.message} (--help lists the options)` : error.message);
  process.exitCode = usage ? 2 : 1;
});
