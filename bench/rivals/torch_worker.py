"""PyTorch as a contestant: a worker as bench/workers.mjs describes them, with two requests more:
  {"op": "prepare", "kind": "gemm" | "conv2d" | "lenet" | "lenetTrain" | "network" | "networkTrain", ...}  -> {"handle": 1}
  {"op": "fingerprint", "handle": 1}  -> {"fingerprint": [sum, norm]}
  {"op": "dispose", "handle": 1}  -> {}
"""
import json
import sys
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F


def fill(shape, seed):
    """The formula of bench/values.mjs."""
    with np.errstate(over="ignore"):
        index = np.arange(int(np.prod(shape)), dtype=np.uint32)
        h = (index + np.uint32(seed * 0x1000003 & 0xFFFFFFFF)) * np.uint32(0x9E3779B1)
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) >> np.uint32(16)
    return torch.from_numpy((h.astype(np.float32) / 32768 - 1).reshape(shape))


def gemm(form, m, n, k):
    a = fill((k, m), 1).t() if form == "TN" else fill((m, k), 1)
    b = fill((n, k), 2).t() if form == "NT" else fill((k, n), 2)
    out = torch.empty(m, n)
    return lambda: torch.mm(a, b, out=out)


def conv2d(direction, n, c, h, w, oc, kh, kw, stride, padding, groups):
    x, weight = fill((n, c, h, w), 1), fill((oc, c // groups, kh, kw), 2)
    if direction == "forward":
        return lambda: F.conv2d(x, weight, None, stride, padding, 1, groups)
    dy = fill(F.conv2d(x, weight, None, stride, padding, 1, groups).shape, 3)
    wanted = [direction == "inputGrad", direction == "weightGrad", False]
    return lambda: torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, wanted
    )[wanted.index(True)]


def lenet_network(parameters, activation, pool):
    act = {"Sigmoid": torch.nn.Sigmoid, "Relu": torch.nn.ReLU}[activation]
    down = {"AveragePool": torch.nn.AvgPool2d, "MaxPool": torch.nn.MaxPool2d}[pool]
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5, padding=2), act(), down(2),
        torch.nn.Conv2d(6, 16, 5), act(), down(2), torch.nn.Flatten(),
        torch.nn.Linear(400, 120), act(), torch.nn.Linear(120, 84), act(), torch.nn.Linear(84, 10),
    )
    fan_in = [25, 150, 400, 120, 84]
    with torch.no_grad():
        for i, (parameter, shape) in enumerate(zip(net.parameters(), parameters)):
            parameter.copy_(fill(shape, i) / fan_in[i // 2] ** 0.5)
    return net


def lenet(parameters, activation, pool):
    net = lenet_network(parameters, activation, pool).eval()
    x = fill((1, 1, 28, 28), 99)
    return lambda: net(x)


def lenet_train(parameters, activation, pool, batch, learningRate):
    """Each call is one step; it returns the loss before the update."""
    net = lenet_network(parameters, activation, pool)
    optimizer = torch.optim.SGD(net.parameters(), lr=learningRate)
    x = fill((batch, 1, 28, 28), 99)
    target = torch.tensor([(i * 7 + 3) % 10 for i in range(batch)])
    return lambda: train_step(net, optimizer, x, target)


def key_seed(key):
    """FNV-1a folded to 16 bits, as in bench/weights.mjs."""
    h = 0x811C9DC5
    for byte in key.encode():
        h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    return (h ^ (h >> 16)) & 0xFFFF


def parameter(key, shape):
    """The formula of bench/weights.mjs."""
    values = fill(shape, key_seed(key)).double()
    if len(shape) > 1:
        return (values * (6 / np.prod(shape[1:])) ** 0.5).float()
    near_one = key.endswith(".weight") or key.endswith(".running_var")
    return (values * 0.25 + 1 if near_one else values * 0.1).float()


class LeNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2)
        )
        self.classifier = nn.Sequential(
            nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10)
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def zoo_model(name):
    """A model of torchvision without random parts, or LeNet; weights by formula."""
    if name == "lenet":
        net = LeNet()
    else:
        import torchvision

        options = {"mobilenetV2": {"dropout": 0.0}}.get(name, {})
        net = getattr(torchvision.models, {"mobilenetV2": "mobilenet_v2"}.get(name, name))(**options)
    for key, tensor in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            tensor.copy_(parameter(key, tuple(tensor.shape)))
    return net


def images(batch, input):
    return fill((batch, *input), 99)


def network(network, batch, input):
    net = zoo_model(network).eval()
    x = images(batch, input)
    return lambda: net(x)


def network_train(network, batch, input, classes, learningRate, momentum):
    """Each call is one step; it returns the loss before the update."""
    net = zoo_model(network).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=learningRate, momentum=momentum)
    x = images(batch, input)
    target = torch.tensor([(i * 7 + 3) % classes for i in range(batch)])
    return lambda: train_step(net, optimizer, x, target)


def train_step(net, optimizer, x, target):
    optimizer.zero_grad()
    with torch.enable_grad():
        loss = F.cross_entropy(net(x), target)
        loss.backward()
    optimizer.step()
    return loss.detach()


KINDS = {
    "gemm": gemm,
    "conv2d": conv2d,
    "lenet": lenet,
    "lenetTrain": lenet_train,
    "network": network,
    "networkTrain": network_train,
}
ANSWER_CALLS = {"networkTrain": 2}  # the losses of the first steps, as in bench/ours-networks.mjs


def seconds(work, repetitions):
    start = perf_counter()
    for _ in range(repetitions):
        work()
    return perf_counter() - start


def fingerprint(result):
    values = result.double()
    return [values.sum().item(), values.norm().item()]


def main():
    torch.set_grad_enabled(False)
    prepared, calls, count = {}, {}, 0
    for line in sys.stdin:
        request = json.loads(line)
        try:
            op = request.pop("op")
            if op == "prepare":
                count += 1
                kind = request.pop("kind")
                torch.set_num_threads(request.pop("threads", 1))
                prepared[count] = KINDS[kind](**request)
                calls[count] = ANSWER_CALLS.get(kind, 1)
                answer = {"handle": count}
            elif op == "sample":
                answer = {"seconds": seconds(prepared[request["handle"]], request["repetitions"])}
            elif op == "fingerprint":
                answer = {"fingerprint": fingerprint(prepared[request["handle"]]())}
            elif op == "answer":
                work = prepared[request["handle"]]
                results = [work() for _ in range(calls[request["handle"]])]
                answer = {"answer": [value for result in results for value in result.flatten().tolist()]}
            elif op == "dispose":
                del prepared[request["handle"]]
                answer = {}
            else:
                raise ValueError(f"unknown op {op}")
        except Exception as error:  # the asker decides what an error means
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


print(json.dumps({"version": torch.__version__}), flush=True)
main()
