// The zoo, one file per family.
export { AlexNet, type AlexNetOptions, alexnet } from './alexnet.ts';
export { LeNet, type LeNetOptions, lenet } from './lenet.ts';
export {
  InvertedResidual,
  type InvertedResidualSetting,
  MobileNetV2,
  type MobileNetV2Options,
  mobilenetV2,
} from './mobilenet-v2.ts';
export {
  BasicBlock,
  type BlockOptions,
  Bottleneck,
  ResNet,
  type ResNetOptions,
  resnet18,
  resnet34,
  resnet50,
  resnet101,
  resnet152,
} from './resnet.ts';
export {
  VGG,
  type VGGOptions,
  vgg11,
  vgg11Bn,
  vgg13,
  vgg13Bn,
  vgg16,
  vgg16Bn,
  vgg19,
  vgg19Bn,
} from './vgg.ts';
