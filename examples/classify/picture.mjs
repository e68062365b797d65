// From a picture file to what ImageNet models expect: shorter side 256, the 224 x 224 in the middle, normalised.
import { readFileSync } from 'node:fs';
import { decode as decodePng } from 'fast-png';
import jpeg from 'jpeg-js';

// Of ImageNet's pixels, red, green and blue, as torchvision's weights assume.
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

/** A JPEG or PNG file as planes of red, green and blue in [0, 1]. */
export function readPicture(path) {
  const bytes = readFileSync(path);
  const isPng = bytes[0] === 0x89 && bytes[1] === 0x50;
  const {
    width,
    height,
    data,
    channels,
    depth = 8,
    palette,
  } = isPng ? decodePng(bytes) : { ...jpeg.decode(bytes, { useTArray: true, formatAsRGBA: false }), channels: 3 };
  const levels = palette ? 255 : 2 ** depth - 1;
  const planes = [0, 1, 2].map((colour) => {
    const channel = channels < 3 ? 0 : colour;
    return Float32Array.from({ length: width * height }, (_, i) => {
      const value = data[i * channels + (palette ? 0 : channel)];
      return (palette ? palette[value][colour] : value) / levels;
    });
  });
  return { width, height, planes };
}

/** Weights of the input pixels for each output pixel: a triangle as wide as the step, which also smooths (Pillow's bilinear). */
function triangles(inputs, outputs) {
  const step = inputs / outputs;
  const reach = Math.max(1, step);
  return Array.from({ length: outputs }, (_, i) => {
    const centre = (i + 0.5) * step;
    const first = Math.max(0, Math.round(centre - reach));
    const last = Math.min(inputs, Math.round(centre + reach));
    const weights = Array.from({ length: last - first }, (_, k) =>
      Math.max(0, 1 - Math.abs(first + k + 0.5 - centre) / reach),
    );
    const sum = weights.reduce((a, b) => a + b);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/** Resizes a plane along its rows and transposes it: twice is a resize in both directions. */
function resizeRows(plane, width, height, newWidth) {
  const result = new Float32Array(newWidth * height);
  triangles(width, newWidth).forEach(({ first, weights }, column) => {
    for (let row = 0; row < height; row++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * plane[row * width + first + k];
      result[column * height + row] = sum;
    }
  });
  return result;
}

/** The numbers of a tensor [1, 3, crop, crop]. */
export function preprocess({ width, height, planes }, { shorter = 256, crop = 224 } = {}) {
  const scale = shorter / Math.min(width, height);
  const [newWidth, newHeight] = [Math.trunc(width * scale), Math.trunc(height * scale)];
  const [left, top] = [Math.round((newWidth - crop) / 2), Math.round((newHeight - crop) / 2)];
  const resized = planes.map((plane) =>
    resizeRows(resizeRows(plane, width, height, newWidth), height, newWidth, newHeight),
  );
  return Float32Array.from({ length: 3 * crop * crop }, (_, i) => {
    const colour = Math.floor(i / (crop * crop));
    const row = top + (Math.floor(i / crop) % crop);
    return (resized[colour][row * newWidth + left + (i % crop)] - MEAN[colour]) / STD[colour];
  });
}
