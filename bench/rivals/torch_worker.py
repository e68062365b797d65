"""PyTorch as a contestant: one process that prepares work and times it on request.

One JSON object a line on standard input, one answer a line on standard output:
  {"op": "prepare", "kind": "gemm" | "conv2d" | "lenet" | "lenetTrain", ...}  -> {"handle": 1}
  {"op": "sample", "handle": 1, "repetitions": 10}                            -> {"seconds": 0.01}
  {"op": "answer", "handle": 1}                                               -> {"fingerprint": [sum, norm]}
  {"op": "dispose", "handle": 1}                                              -> {}
An error answers {"error": text}. The process ends with its input.
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

    def step():
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = F.cross_entropy(net(x), target)
            loss.backward()
        optimizer.step()
        return loss.detach()

    return step


KINDS = {"gemm": gemm, "conv2d": conv2d, "lenet": lenet, "lenetTrain": lenet_train}


def seconds(work, repetitions):
    start = perf_counter()
    for _ in range(repetitions):
        work()
    return perf_counter() - start


def fingerprint(result):
    values = result.double()
    return [values.sum().item(), values.norm().item()]


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    prepared, count = {}, 0
    for line in sys.stdin:
        request = json.loads(line)
        try:
            op = request.pop("op")
            if op == "prepare":
                count += 1
                prepared[count] = KINDS[request.pop("kind")](**request)
                answer = {"handle": count}
            elif op == "sample":
                answer = {"seconds": seconds(prepared[request["handle"]], request["repetitions"])}
            elif op == "answer":
                answer = {"fingerprint": fingerprint(prepared[request["handle"]]())}
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
