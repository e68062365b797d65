// The work that is measured: matrix products, and every convolution of four networks as torchvision builds them.

/**
 * @typedef {{ form: 'NN' | 'NT' | 'TN' | 'NN prepacked', m: number, n: number, k: number }} Gemm
 *   C[m, n] = A B; NT: B is stored [n, k], TN: A is stored [k, m]; prepacked: B is constant and may be rearranged beforehand
 * @typedef {{ n: number, c: number, h: number, w: number, oc: number, kh: number, kw: number, stride: number, padding: number,
 *   groups: number }} Conv
 */

/** @returns {Gemm[]} squares, and the two products that 3x3 convolutions of ResNet-18 turn into */
export function gemms() {
  const forms = ['NN', 'NT', 'TN', 'NN prepacked'];
  const squares = [64, 128, 256, 512, 1024].map((size) => ({ m: size, n: size, k: size }));
  const sizes = [...squares, { m: 3136, n: 64, k: 576 }, { m: 784, n: 128, k: 1152 }];
  return sizes.flatMap((size) => forms.map((form) => ({ form, ...size })));
}

export const gemmFlops = ({ m, n, k }) => 2 * m * n * k;

/** LeNet as the textbooks have it; the names are those of the ONNX operators. */
export const lenet = {
  activation: 'Sigmoid',
  pool: 'AveragePool',
  /** Shapes in state-dict order: convolution 1, convolution 2, three dense layers, weight before bias. */
  parameters: [[6, 1, 5, 5], [6], [16, 6, 5, 5], [16], [120, 400], [120], [84, 120], [84], [10, 84], [10]],
  learningRate: 0.1,
};

/** Multiply-adds of one LeNet image, twice: 28x28x6x25, 10x10x16x150 and the dense layers. */
export const lenetFlops = 2 * (28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10);

export const outputSize = (extent, kernel, { stride, padding }) =>
  Math.floor((extent + 2 * padding - kernel) / stride) + 1;

/** @param {Conv} conv */
export function convGeometry(conv) {
  const { n, c, h, w, oc, kh, kw, groups } = conv;
  const oh = outputSize(h, kh, conv);
  const ow = outputSize(w, kw, conv);
  return {
    x: [n, c, h, w],
    weight: [oc, c / groups, kh, kw],
    y: [n, oc, oh, ow],
    flops: (2 * n * oc * oh * ow * kh * kw * c) / groups,
  };
}

/** @param {Conv} conv @returns {string} for example `64>128 3x3/2 56` */
export function convName({ c, oc, h, kh, kw, stride, groups }) {
  return `${c}>${oc} ${kh}x${kw}${stride > 1 ? `/${stride}` : ''}${groups > 1 ? ' dw' : ''} ${h}`;
}

/** @returns {{ network: string, conv: Conv, count: number }[]} the distinct convolutions of each network and how often each occurs */
export function convolutions() {
  const networks = { lenet: lenetConvs(), resnet18: resnet18(), vgg16: vgg16(), mobilenetV2: mobilenetV2() };
  return Object.entries(networks).flatMap(([network, convs]) =>
    distinct(convs).map(({ conv, count }) => ({ network, conv, count })),
  );
}

/** A few that stand for the rest: stem, 3x3, 3x3 with stride, 1x1, depthwise. */
export function fewConvolutions() {
  const few = new Set([
    '6>16 5x5 14',
    '3>64 7x7/2 224',
    '64>64 3x3 56',
    '128>256 3x3/2 28',
    '512>512 3x3 7',
    '96>24 1x1 56',
    '144>144 3x3 dw 56',
  ]);
  return convolutions().filter(({ network, conv }) => network !== 'vgg16' && few.has(convName(conv)));
}

function distinct(convs) {
  const found = new Map();
  for (const conv of convs) {
    const key = JSON.stringify(conv);
    const entry = found.get(key) ?? { conv, count: 0 };
    entry.count++;
    found.set(key, entry);
  }
  return [...found.values()];
}

function square(c, oc, size, kernel, { stride = 1, padding = kernel >> 1, groups = 1 } = {}) {
  return { n: 1, c, h: size, w: size, oc, kh: kernel, kw: kernel, stride, padding, groups };
}

function lenetConvs() {
  return [square(1, 6, 28, 5), square(6, 16, 14, 5, { padding: 0 })];
}

function resnet18() {
  const convs = [square(3, 64, 224, 7, { stride: 2 })];
  let channels = 64;
  let size = 56;
  for (const width of [64, 128, 256, 512]) {
    const stride = width === channels ? 1 : 2;
    convs.push(square(channels, width, size, 3, { stride }));
    if (stride === 2) convs.push(square(channels, width, size, 1, { stride }));
    size /= stride;
    for (let i = 0; i < 3; i++) convs.push(square(width, width, size, 3));
    channels = width;
  }
  return convs;
}

function vgg16() {
  const convs = [];
  let channels = 3;
  let size = 224;
  for (const [width, depth] of [
    [64, 2],
    [128, 2],
    [256, 3],
    [512, 3],
    [512, 3],
  ]) {
    for (let i = 0; i < depth; i++) {
      convs.push(square(channels, width, size, 3));
      channels = width;
    }
    size /= 2;
  }
  return convs;
}

function mobilenetV2() {
  const convs = [square(3, 32, 224, 3, { stride: 2 })];
  let channels = 32;
  let size = 112;
  const blocks = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
  ];
  for (const [expand, width, repeats, firstStride] of blocks) {
    for (let i = 0; i < repeats; i++) {
      const hidden = channels * expand;
      const stride = i === 0 ? firstStride : 1;
      if (expand > 1) convs.push(square(channels, hidden, size, 1));
      convs.push(square(hidden, hidden, size, 3, { stride, groups: hidden }));
      size /= stride;
      convs.push(square(hidden, width, size, 1));
      channels = width;
    }
  }
  convs.push(square(320, 1280, 7, 1));
  return convs;
}
