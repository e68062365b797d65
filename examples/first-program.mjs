import { init, optim } from 'feathermap';
import { DataLoader, mnist } from 'feathermap/data';
import * as F from 'feathermap/functional';
import { lenet } from 'feathermap/models';
import { evaluate } from 'feathermap/train';

await init();
const net = lenet({ variant: 'relu' });
const optimizer = new optim.Adam(net.parameters(), { lr: 0.002 });
for (const [x, y] of new DataLoader(await mnist({ train: true }), { batchSize: 128, shuffle: true })) {
  optimizer.zeroGrad();
  F.crossEntropy(net.forward(x), y).backward();
  optimizer.step();
}
console.log(evaluate(net, new DataLoader(await mnist({ train: false }), { batchSize: 500 })).accuracy);
