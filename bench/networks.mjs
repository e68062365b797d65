// The networks that are measured, each described once as a list of layers. Every rival builds its graph from these lists; names are those of
// torchvision's state dicts, so that one formula gives everyone the same weights (weights.mjs).

import { outputSize } from './shapes.mjs';
import { parameter } from './weights.mjs';

/**
 * @typedef {object} Layer
 * @property {'conv' | 'batchNorm' | 'relu' | 'relu6' | 'sigmoid' | 'maxPool' | 'averagePool' | 'globalAveragePool' | 'flatten' | 'linear' | 'add'} op
 * @property {number[]} inputs  indices of layers in the list, -1 for the image
 * @property {number[]} shape  of the result of one image: [channels, height, width] or [features]
 * @property {string} [name]  of its parameters: `name.weight` and so on
 * @property {number} [c] input channels or features  @property {number} [oc] output channels or features
 * @property {number} [kernel] @property {number} [stride] @property {number} [padding] @property {number} [groups]
 * @property {boolean} [bias]
 *
 * @typedef {{ name: string, input: number[], layers: Layer[], macs: number }} Network  `input` and `macs` are of one image
 */

const DESCRIPTIONS = { lenet, alexnet, vgg16, resnet18, resnet50, mobilenetV2 };

export const networkNames = Object.keys(DESCRIPTIONS);

/** @param {string} name @returns {Network} */
export function network(name) {
  const list = new LayerList(name === 'lenet' ? [1, 28, 28] : [3, 224, 224]);
  DESCRIPTIONS[name](list);
  return { name, input: list.input, layers: list.layers, macs: list.macs };
}

/** Appends layers; each takes the result of the one before it unless told otherwise. */
class LayerList {
  layers = [];
  macs = 0;

  constructor(input) {
    this.input = input;
  }

  get last() {
    return this.layers.length - 1;
  }

  /** @param {number} index @returns {number[]} */
  shapeOf(index) {
    return index < 0 ? this.input : this.layers[index].shape;
  }

  push(layer, shape, inputs = [this.last]) {
    this.layers.push({ ...layer, inputs, shape });
    return this.last;
  }

  conv(name, oc, kernel, { stride = 1, padding = 0, groups = 1, bias = false, from = this.last } = {}) {
    const [c, h, w] = this.shapeOf(from);
    const geometry = { c, oc, kernel, stride, padding, groups, bias };
    const shape = [oc, outputSize(h, kernel, geometry), outputSize(w, kernel, geometry)];
    this.macs += (oc * shape[1] * shape[2] * kernel * kernel * c) / groups;
    return this.push({ op: 'conv', name, ...geometry }, shape, [from]);
  }

  linear(name, oc) {
    const [c] = this.shapeOf(this.last);
    this.macs += c * oc;
    return this.push({ op: 'linear', name, c, oc, bias: true }, [oc]);
  }

  batchNorm(name) {
    const shape = this.shapeOf(this.last);
    return this.push({ op: 'batchNorm', name, c: shape[0] }, shape);
  }

  activation(op) {
    return this.push({ op }, this.shapeOf(this.last));
  }

  add(other) {
    return this.push({ op: 'add' }, this.shapeOf(other), [this.last, other]);
  }

  pool(op, kernel, stride, padding = 0) {
    const [c, h, w] = this.shapeOf(this.last);
    const geometry = { kernel, stride, padding };
    const shape = [c, outputSize(h, kernel, geometry), outputSize(w, kernel, geometry)];
    return this.push({ op, ...geometry }, shape);
  }

  globalAveragePool() {
    return this.push({ op: 'globalAveragePool' }, [this.shapeOf(this.last)[0], 1, 1]);
  }

  flatten() {
    return this.push({ op: 'flatten' }, [this.shapeOf(this.last).reduce((size, extent) => size * extent, 1)]);
  }
}

function lenet(list) {
  list.conv('features.0', 6, 5, { padding: 2, bias: true });
  list.activation('sigmoid');
  list.pool('averagePool', 2, 2);
  list.conv('features.3', 16, 5, { bias: true });
  list.activation('sigmoid');
  list.pool('averagePool', 2, 2);
  list.flatten();
  list.linear('classifier.0', 120);
  list.activation('sigmoid');
  list.linear('classifier.2', 84);
  list.activation('sigmoid');
  list.linear('classifier.4', 10);
}

function alexnet(list) {
  const conv = (index, oc, kernel, options) => {
    list.conv(`features.${index}`, oc, kernel, { ...options, bias: true });
    list.activation('relu');
  };
  conv(0, 64, 11, { stride: 4, padding: 2 });
  list.pool('maxPool', 3, 2);
  conv(3, 192, 5, { padding: 2 });
  list.pool('maxPool', 3, 2);
  conv(6, 384, 3, { padding: 1 });
  conv(8, 256, 3, { padding: 1 });
  conv(10, 256, 3, { padding: 1 });
  list.pool('maxPool', 3, 2); // to 6x6, which its adaptive average pooling leaves as it is
  list.flatten();
  denseLayers(list, [1, 4, 6]);
}

function vgg16(list) {
  let index = 0;
  for (const [width, depth] of [
    [64, 2],
    [128, 2],
    [256, 3],
    [512, 3],
    [512, 3],
  ]) {
    for (let i = 0; i < depth; i++, index += 2) {
      list.conv(`features.${index}`, width, 3, { padding: 1, bias: true });
      list.activation('relu');
    }
    list.pool('maxPool', 2, 2);
    index++;
  }
  list.flatten();
  denseLayers(list, [0, 3, 6]);
}

function denseLayers(list, [first, second, third]) {
  list.linear(`classifier.${first}`, 4096);
  list.activation('relu');
  list.linear(`classifier.${second}`, 4096);
  list.activation('relu');
  list.linear(`classifier.${third}`, 1000);
}

function resnet18(list) {
  resnet(list, [2, 2, 2, 2], basicBlock);
}

function resnet50(list) {
  resnet(list, [3, 4, 6, 3], bottleneck);
}

function resnet(list, depths, block) {
  list.conv('conv1', 64, 7, { stride: 2, padding: 3 });
  list.batchNorm('bn1');
  list.activation('relu');
  list.pool('maxPool', 3, 2, 1);
  depths.forEach((depth, stage) => {
    for (let i = 0; i < depth; i++) block(list, `layer${stage + 1}.${i}`, 64 << stage, stage > 0 && i === 0 ? 2 : 1);
  });
  list.globalAveragePool();
  list.flatten();
  list.linear('fc', 1000);
}

function basicBlock(list, name, width, stride) {
  const identity = shortcut(list, name, width, stride);
  list.conv(`${name}.conv1`, width, 3, { stride, padding: 1, from: identity.from });
  list.batchNorm(`${name}.bn1`);
  list.activation('relu');
  list.conv(`${name}.conv2`, width, 3, { padding: 1 });
  list.batchNorm(`${name}.bn2`);
  list.add(identity.result);
  list.activation('relu');
}

function bottleneck(list, name, width, stride) {
  const identity = shortcut(list, name, 4 * width, stride);
  list.conv(`${name}.conv1`, width, 1, { from: identity.from });
  list.batchNorm(`${name}.bn1`);
  list.activation('relu');
  list.conv(`${name}.conv2`, width, 3, { stride, padding: 1 });
  list.batchNorm(`${name}.bn2`);
  list.activation('relu');
  list.conv(`${name}.conv3`, 4 * width, 1);
  list.batchNorm(`${name}.bn3`);
  list.add(identity.result);
  list.activation('relu');
}

/** The block's input, and what is added to its end: the same, or a 1x1 convolution of it where the shape changes. */
function shortcut(list, name, width, stride) {
  const from = list.last;
  if (stride === 1 && list.shapeOf(from)[0] === width) return { from, result: from };
  list.conv(`${name}.downsample.0`, width, 1, { stride });
  return { from, result: list.batchNorm(`${name}.downsample.1`) };
}

function mobilenetV2(list) {
  const convBnRelu6 = (name, oc, kernel, options) => {
    list.conv(`${name}.0`, oc, kernel, { padding: kernel >> 1, ...options });
    list.batchNorm(`${name}.1`);
    list.activation('relu6');
  };
  convBnRelu6('features.0', 32, 3, { stride: 2 });
  let index = 1;
  for (const [expand, width, repeats, firstStride] of [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
  ]) {
    for (let i = 0; i < repeats; i++) {
      const name = `features.${index++}.conv`;
      const from = list.last;
      const channels = list.shapeOf(from)[0];
      const hidden = channels * expand;
      const stride = i === 0 ? firstStride : 1;
      if (expand > 1) convBnRelu6(`${name}.0`, hidden, 1);
      const depthwise = expand > 1 ? 1 : 0;
      convBnRelu6(`${name}.${depthwise}`, hidden, 3, { stride, groups: hidden });
      list.conv(`${name}.${depthwise + 1}`, width, 1);
      list.batchNorm(`${name}.${depthwise + 2}`);
      if (stride === 1 && channels === width) list.add(from);
    }
  }
  convBnRelu6('features.18', 1280, 1);
  list.globalAveragePool();
  list.flatten();
  list.linear('classifier.1', 1000);
}

/**
 * What a converter to an inference format makes of a network: BatchNorm folded into the convolution before it, ReLU and ReLU6 noted at the
 * layer whose result they clamp, weights at hand.
 *
 * @param {Network} network
 * @returns {{ input: number[], layers: object[] }} layers as before without batchNorm, relu and relu6; `activation` is `relu`, `relu6` or null;
 *   conv and linear have `weight` (OIHW, [out, in]) and `biasValues`
 */
export function folded({ input, layers }) {
  const result = [];
  const movedTo = new Map([[-1, -1]]); // index in `layers` to index in `result`
  layers.forEach((layer, index) => {
    const before = movedTo.get(layer.inputs[0]);
    if (layer.op === 'batchNorm') foldInto(result[before], layer.name);
    else if (layer.op === 'relu' || layer.op === 'relu6') result[before].activation = layer.op;
    else
      result.push({ ...layer, ...constants(layer), inputs: layer.inputs.map((i) => movedTo.get(i)), activation: null });
    movedTo.set(index, layer.op === 'batchNorm' || layer.op.startsWith('relu') ? before : result.length - 1);
  });
  return { input, layers: result };
}

function constants({ op, name, c, oc, kernel = 1, groups = 1, bias }) {
  if (op !== 'conv' && op !== 'linear') return {};
  const shape = op === 'conv' ? [oc, c / groups, kernel, kernel] : [oc, c];
  return {
    weightShape: shape,
    weight: parameter(`${name}.weight`, shape),
    biasValues: bias ? parameter(`${name}.bias`, [oc]) : new Float32Array(oc),
  };
}

const EPSILON = 1e-5; // BatchNorm2d's default

function foldInto(conv, name) {
  const [gamma, beta, mean, variance] = ['weight', 'bias', 'running_mean', 'running_var'].map((part) =>
    parameter(`${name}.${part}`, [conv.oc]),
  );
  const perChannel = conv.weight.length / conv.oc;
  for (let o = 0; o < conv.oc; o++) {
    const scale = gamma[o] / Math.sqrt(variance[o] + EPSILON);
    for (let i = o * perChannel; i < (o + 1) * perChannel; i++) conv.weight[i] *= scale;
    conv.biasValues[o] = beta[o] + (conv.biasValues[o] - mean[o]) * scale;
  }
}
