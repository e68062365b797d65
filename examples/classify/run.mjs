// What is in a picture? ResNet-18 or MobileNetV2 with torchvision's weights, converted to safetensors, says it.
//   npm run build && node examples/classify/run.mjs picture.jpg resnet18.safetensors [resnet18]
import { readFileSync } from 'node:fs';
import { compile, init, tensor } from 'feathermap';
import * as F from 'feathermap/functional';
import { alexnet, mobilenetV2, resnet18, resnet50, vgg16 } from 'feathermap/models';
import { loadSafetensors } from 'feathermap/safetensors';
import { preprocess, readPicture } from './picture.mjs';

const models = { resnet18, mobilenetV2, resnet50, vgg16, alexnet };
const [picture, weights, name = 'resnet18'] = process.argv.slice(2);
if (!picture || !weights || !Object.hasOwn(models, name)) {
  console.error(
    `usage: node examples/classify/run.mjs picture.jpg weights.safetensors [${Object.keys(models).join(' | ')}]`,
  );
  process.exit(2);
}

await init();
const net = models[name]();
net.loadStateDict(loadSafetensors(readFileSync(weights)));
const classify = compile(net, { input: [1, 3, 224, 224] });

const x = tensor(preprocess(readPicture(picture)), { shape: [1, 3, 224, 224] });
const probabilities = F.softmax(classify(x), 1).data();

const classes = readFileSync(new URL('imagenet-classes.txt', import.meta.url), 'utf8')
  .trim()
  .split('\n');
const best = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, 5);
for (const i of best) console.log(`${(100 * probabilities[i]).toFixed(2).padStart(6)} %  ${classes[i]}`);
