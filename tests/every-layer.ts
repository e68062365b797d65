// A model for tests of captured steps and compiled models.
import { nn, randn, type Tensor } from './feathermap.ts';

/** One layer of every kind, and noise. */
export class EveryLayer extends nn.Module {
  readonly trunk = new nn.Sequential(
    new nn.Conv2d(1, 4, 3, { padding: 1 }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Conv2d(4, 6, 3, { padding: 1, groups: 2 }),
    new nn.Sigmoid(),
    new nn.AvgPool2d(2),
    new nn.Dropout(0.3),
  );
  readonly head = new nn.Sequential(
    new nn.Flatten(),
    new nn.Linear(24, 8),
    new nn.Tanh(),
    new nn.Dropout(0.5),
    new nn.Linear(8, 3),
  );

  forward(x: Tensor): Tensor {
    return this.head.forward(this.trunk.forward(this.training ? x.add(randn(x.shape).mul(0.1)) : x));
  }
}
