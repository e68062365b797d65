import { init, nn, optim, shutdown } from 'feathermap';
import { DataLoader, mnist } from 'feathermap/data';
import * as F from 'feathermap/functional';

await init();
const net = new nn.Sequential(new nn.Flatten(), new nn.Linear(784, 64), new nn.ReLU(), new nn.Linear(64, 10));
const optimizer = new optim.Adam(net.parameters(), { lr: 0.002 });
for (const [x, y] of new DataLoader(await mnist(), { batchSize: 128, shuffle: true })) {
  const loss = F.crossEntropy(net.forward(x), y);
  optimizer.zeroGrad();
  loss.backward();
  optimizer.step();
}
const [x, y] = new DataLoader(await mnist({ train: false }), { batchSize: 10_000 }).load(Array(10_000).keys());
