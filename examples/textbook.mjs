// What a textbook says about convolutions, computed by the engine. Reads from top to bottom; run it with
//   npm run build && node examples/textbook.mjs
import { arange, cat, init, manualSeed, nn, ones, optim, rand, tensor, zeros } from 'feathermap';
import * as F from 'feathermap/functional';
import { lenet } from 'feathermap/models';

await init();
manualSeed(0);

/** The numbers of a tensor in nested arrays, without the axes of size 1 in front. */
function numbers(t) {
  const nest = (values, [size, ...inner]) => {
    if (inner.length === 0) return Array.from(values, (value) => Math.round(value * 1000) / 1000);
    const step = values.length / size;
    return Array.from({ length: size }, (_, i) => nest(values.subarray(i * step, (i + 1) * step), inner));
  };
  const shape = [...t.shape];
  while (shape[0] === 1) shape.shift();
  return shape.length === 0 ? t.item() : nest(t.data(), shape);
}

const show = (what, value) => console.log(`${what}: ${typeof value === 'string' ? value : JSON.stringify(value)}`);
const chapter = (title) => console.log(`\n${title}\n${'-'.repeat(title.length)}`);
const count = (module) => [...module.parameters()].reduce((sum, { size }) => sum + size, 0);

chapter('Cross-correlation');

const X = arange(9).reshape([1, 1, 3, 3]);
const K = tensor([
  [0, 1],
  [2, 3],
]).reshape([1, 1, 2, 2]);
show('0..8 with [[0,1],[2,3]]', numbers(F.conv2d(X, K)));

chapter('Edges, and how a kernel finds them by itself');

// A 6 x 8 picture: ones, with a black band over columns 2 to 5.
const picture = tensor(Array.from({ length: 6 }, () => [1, 1, 0, 0, 0, 0, 1, 1])).reshape([1, 1, 6, 8]);
const edgeKernel = tensor([1, -1]).reshape([1, 1, 1, 2]);
const edges = F.conv2d(picture, edgeKernel);
show('a row of the edges', numbers(edges)[0]);
show('edges in the transposed picture, largest', F.conv2d(picture.transpose(2, 3), edgeKernel).abs().max().item());

function learn({ target, bias, lr, steps }) {
  const conv = new nn.Conv2d(1, 1, [1, 2], { bias });
  const optimizer = new optim.SGD(conv.parameters(), { lr });
  let loss;
  for (let step = 0; step < steps; step++) {
    loss = conv.forward(picture).sub(target).pow(2).sum();
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
  }
  return { loss: Math.round(loss.item() * 10_000) / 10_000, weight: numbers(conv.weight) };
}
show('learned in 10 steps without bias', learn({ target: edges, bias: false, lr: 0.03, steps: 10 }));
show('learned in 30 steps with bias', learn({ target: edges, bias: true, lr: 0.01, steps: 30 }));

// True convolution flips the kernel first. What is learned from its results is the flipped kernel.
const flip = (kernel) => tensor(numbers(kernel.reshape([-1])).reverse()).reshape(kernel.shape);
show('0..8 truly convolved with [[0,1],[2,3]]', numbers(F.conv2d(X, flip(K))));
const flippedEdges = F.conv2d(picture, flip(edgeKernel));
show('learned from a true convolution with [1,-1]', learn({ target: flippedEdges, bias: false, lr: 0.03, steps: 10 }));

chapter('Padding and stride: floor((n + 2p - k) / s) + 1');

const shapeOf = (input, weight, options) => F.conv2d(zeros(input), zeros(weight), null, options).shape.join(' x ');
show('8x8, k 3, p 1', shapeOf([1, 1, 8, 8], [1, 1, 3, 3], { padding: 1 }));
show('8x8, k (5,3), p (2,1)', shapeOf([1, 1, 8, 8], [1, 1, 5, 3], { padding: [2, 1] }));
show('8x8, k 3, p 1, s 2', shapeOf([1, 1, 8, 8], [1, 1, 3, 3], { padding: 1, stride: 2 }));
show('8x8, k (3,5), p (0,1), s (3,4)', shapeOf([1, 1, 8, 8], [1, 1, 3, 5], { padding: [0, 1], stride: [3, 4] }));
show('3x100x100, four filters k 3, p 2', shapeOf([1, 3, 100, 100], [4, 3, 3, 3], { padding: 2 }));
show(
  'k 4 keeps 8x8 with padding [[2,1],[2,1]]',
  shapeOf([1, 1, 8, 8], [1, 1, 4, 4], {
    padding: [
      [2, 1],
      [2, 1],
    ],
  }),
);

const layer = new nn.Conv2d(2, 3, [3, 5], { padding: [1, 2] });
show('Conv2d(2, 3, (3,5), padding (1,2)) on 4x2x3x5', layer.forward(rand([4, 2, 3, 5])).shape.join(' x '));
show('its weight and bias', `${layer.weight.shape.join(' x ')} and ${layer.bias.shape.join(' x ')}`);

chapter('Channels');

const twoIn = cat([X, X.add(1)], 1);
const stackIn = cat([K, K.add(1)], 1);
show('two input channels', numbers(F.conv2d(twoIn, stackIn)));
const threeOut = cat([stackIn, stackIn.add(1), stackIn.add(2)], 0);
show('three output channels', numbers(F.conv2d(twoIn, threeOut)));

const pixels = rand([1, 3, 3, 3]);
const mixing = rand([2, 3, 1, 1]);
const asConvolution = F.conv2d(pixels, mixing);
const asDense = mixing
  .reshape([2, 3])
  .matmul(pixels.reshape([3, 9]))
  .reshape([1, 2, 3, 3]);
show(
  '1x1 convolution against a dense layer over channels, largest difference',
  asConvolution.sub(asDense).abs().max().item(),
);

chapter('Pooling');

show('2x2 maximum of 0..8', numbers(F.maxPool2d(X, 2, { stride: 1 })));
show('2x2 average of 0..8', numbers(F.avgPool2d(X, 2, { stride: 1 })));
const sixteen = arange(16).reshape([1, 1, 4, 4]);
show('MaxPool2d(3) on 0..15', numbers(F.maxPool2d(sixteen, 3)));
show('MaxPool2d(3, padding 1, stride 2)', numbers(F.maxPool2d(sixteen, 3, { padding: 1, stride: 2 })));
show(
  'MaxPool2d((2,3), stride (2,3), padding (0,1))',
  numbers(F.maxPool2d(sixteen, [2, 3], { stride: [2, 3], padding: [0, 1] })),
);
const twoChannels = arange(32).reshape([1, 2, 4, 4]);
show(
  'MaxPool2d(3, padding 1, stride (2,1)) on 0..31',
  numbers(F.maxPool2d(twoChannels, 3, { padding: 1, stride: [2, 1] })),
);

chapter('Parameters');

const plain = new Intl.NumberFormat('en').format;
show('a dense layer from 256x256x3 to 1,000', plain(count(new nn.Linear(256 * 256 * 3, 1000))));
show('10 filters 3x3x3', plain(count(new nn.Conv2d(3, 10, 3))));
show('10 filters 5x5x3, padding 2, on 32x32x3', plain(count(new nn.Conv2d(3, 10, 5, { padding: 2 }))));
show('the same as a dense layer', plain(count(new nn.Linear(32 * 32 * 3, 32 * 32 * 10))));
show('LeNet', plain(count(lenet())));

chapter('Receptive field: which inputs move one output');

/** Side of the square of inputs that have a gradient from the output in the middle. */
function receptiveField(layers) {
  const x = ones([1, 1, 33, 33], { requiresGrad: true });
  const y = layers.reduce((signal, run) => run(signal), x);
  const middle = Math.floor(y.shape[2] / 2);
  y.narrow(2, middle, 1).narrow(3, middle, 1).sum().backward();
  return Math.sqrt(x.grad.data().reduce((reached, gradient) => reached + (gradient === 0 ? 0 : 1), 0));
}
const conv3 = (x) => F.conv2d(x, ones([1, 1, 3, 3]));
const pool2 = (x) => F.avgPool2d(x, 2);
show('one 3x3', receptiveField([conv3]));
show('two 3x3, as much as one 5x5', receptiveField([conv3, conv3]));
show('three 3x3', receptiveField([conv3, conv3, conv3]));
show('3x3, 2x2 pooling, 3x3', receptiveField([conv3, pool2, conv3]));
