// Captured training steps: what their commands are, and that no pass over them changes a bit.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import * as F from '../ts/functional.ts';
import {
  type CapturedStep,
  captureStep,
  init,
  keep,
  manualSeed,
  nn,
  ones,
  optim,
  rand,
  randn,
  shutdown,
  type Tensor,
  tensor,
} from './feathermap.ts';

beforeEach(() => init({ threads: 1, debug: true }));
afterEach(shutdown);

/** Convolutions, a dense layer whose weight is used twice, biases, dropout. */
class Sample extends nn.Module {
  readonly trunk = new nn.Sequential(
    new nn.Conv2d(3, 8, 3, { padding: 1 }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Conv2d(8, 8, 3, { padding: 1, groups: 2 }),
    new nn.ReLU(),
    new nn.Dropout(0.3),
    new nn.Flatten(),
  );
  readonly twice = new nn.Linear(32, 32);
  readonly head = new nn.Linear(32, 5);

  forward(x: Tensor): Tensor {
    const y = this.twice.forward(this.trunk.forward(x)).relu();
    return this.head.forward(this.twice.forward(y));
  }
}

const batch = (): [Tensor, Tensor] => [keep(randn([4, 3, 4, 4])), keep(tensor([0, 3, 1, 4], { dtype: 'i32' }))];

const values = (tensors: readonly (Tensor | null)[]): number[][] => tensors.map((t) => [...(t?.data() ?? [])]);

const opsOf = (step: CapturedStep<Tensor>): string[] => step.plan!.commands.map(({ op }) => op);

describe('gradients in a captured step', () => {
  it('are written where the optimiser reads them, in one program with the update, with the bits of eager training', () => {
    const train = (captured: boolean): number[][] => {
      manualSeed(3);
      const net = new Sample();
      const optimizer = new optim.SGD(net.parameters(), { lr: 0.1, momentum: 0.9 });
      const [x, y] = batch();
      const loss = (a: Tensor, b: Tensor): Tensor => F.crossEntropy(net.forward(a), b);
      const step = captureStep(loss, { optimizer });
      const losses: number[] = [];
      for (let i = 0; i < 3; i++) {
        if (captured) losses.push(step(x, y).item());
        else {
          optimizer.zeroGrad();
          const result = loss(x, y);
          result.backward();
          optimizer.step();
          losses.push(result.item());
        }
      }
      const gradients = net.parameters().map(({ grad }) => grad);
      if (captured) {
        // Weight and bias of the layer that is used twice take a second gradient each.
        expect(opsOf(step).filter((op) => op === 'accumulateGrad')).toHaveLength(4);
        // Flattening channels-last images to rows in PyTorch's order, and back.
        expect(opsOf(step).filter((op) => op === 'relayout')).toHaveLength(2);
        expect(opsOf(step).filter((op) => op === 'SGD')).toHaveLength(2);
      }
      return [losses, ...values(gradients), ...values(net.parameters())];
    };
    expect(train(true)).toEqual(train(false));
  });

  it('of a leaf that is used in many ways are right', () => {
    const forms: Record<string, (w: Tensor, v: Tensor, x: Tensor) => Tensor> = {
      once: (w, _v, x) => w.mul(x),
      'twice in one call': (w) => w.add(w),
      'the same gradient for two leaves': (w, v) => w.add(v),
      'one gradient passed on': (w, v, x) => w.add(v.mul(x)),
      'used again after a copy': (w, v, x) => w.add(v).mul(w.mul(x)),
      'through a view': (w, v, x) => w.transpose(0, 1).matmul(v).add(x),
      'the loss itself': (w) => w.sum(),
      'a part': (w, v) =>
        w
          .narrow(0, 0, 1)
          .mul(v.narrow(0, 1, 1))
          .add(v.narrow(0, 0, 1)),
      repeated: (w, _v, x) => w.narrow(0, 0, 1).add(x),
    };
    for (const [name, form] of Object.entries(forms)) {
      const x = keep(rand([3, 3]));
      const leaves = [1, 2].map(() => rand([3, 3]));
      const make = (): [Tensor, Tensor] =>
        leaves.map((leaf) => tensor(leaf.data(), { shape: leaf.shape, requiresGrad: true })) as [Tensor, Tensor];
      const eager = make();
      const captured = make();
      const step = captureStep((a: Tensor) => form(...captured, a).sum());
      for (const zeroed of [true, false, true]) {
        if (zeroed) for (const leaf of [...eager, ...captured]) leaf.grad = null;
        form(...eager, x)
          .sum()
          .backward();
        step(x);
        const grads = (list: readonly Tensor[]): number[][] => values(list.map(({ grad }) => grad));
        expect(grads(captured), `${name}, ${zeroed ? 'zeroed' : 'added'}`).toEqual(grads(eager));
      }
    }
  });

  it('of parameters that the optimiser does not have add up, and unreached parameters stay', () => {
    const make = () => [1, 2, 3].map((value) => tensor([value, value], { requiresGrad: true }));
    const run = (captured: boolean): number[][] => {
      const [trained, other, unreached] = make() as [Tensor, Tensor, Tensor];
      const optimizer = new optim.Adam([trained, unreached], { lr: 0.1 });
      unreached.mul(2).sum().backward();
      const loss = (): Tensor => trained.mul(other).sum();
      const step = captureStep(loss, { optimizer });
      for (let i = 0; i < 3; i++) {
        if (captured) step();
        else {
          optimizer.zeroGrad();
          loss().backward();
          optimizer.step();
        }
      }
      return values([trained, other, unreached, trained.grad, other.grad, unreached.grad]);
    };
    expect(run(true)).toEqual(run(false));
  });

  it('are absent after a step that failed, and nothing was updated', () => {
    const net = new nn.Linear(2, 2);
    const optimizer = new optim.SGD(net.parameters(), { lr: 1 });
    const step = captureStep((x: Tensor, y: Tensor) => F.crossEntropy(net.forward(x), y), { optimizer });
    const x = ones([1, 2]);
    step(x, tensor([1], { dtype: 'i32' }));
    const before = values(net.parameters());
    expect(() => step(x, tensor([2], { dtype: 'i32' }))).toThrow('index or label 2 is out of range');
    expect(values(net.parameters())).toEqual(before);
    expect(net.parameters().map(({ grad }) => grad)).toEqual([null, null]);
  });

  it('that a hook wants to see are refused', () => {
    const w = tensor([1], { requiresGrad: true });
    w.registerHook(() => undefined);
    expect(() => captureStep(() => w.mul(2).sum(), { optimizer: new optim.SGD([w], { lr: 1 }) })()).toThrow(
      'a gradient hook',
    );
  });
});
