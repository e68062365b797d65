"""The golden numbers: what PyTorch answers to the cases of tests/cases/*.json, in float64 rounded to float32.

    python3 tests/golden/generate.py        # needs PyTorch >= 1.13 (Debian: python3-torch); no GPU, about ten seconds

Writes golden.bin (float32, little endian) and golden.json, which says where each tensor lies in it. Inputs are not
stored: values.py and tests/reference/values.ts compute them from their names. load.ts reads both files.
"""
import json
import math
import re
import sys
from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F

sys.dont_write_bytecode = True  # leave nothing but the two files behind
from values import fill, integers

HERE = Path(__file__).parent
CASES = HERE.parent / "cases"
torch.set_default_dtype(torch.float64)


class Store:
    """Collects named tensors (rounded to float32) and lists of plain float64 numbers."""

    def __init__(self):
        self.tensors, self.lists, self.blocks, self.length = {}, {}, [], 0

    def tensor(self, name, value):
        value = value.detach()
        self.tensors[name] = [self.length, *value.shape]
        self.blocks.append(value.to(torch.float32).contiguous().numpy().astype("<f4").tobytes())
        self.length += value.numel()

    def list(self, name, values):
        self.lists[name] = [float(value) for value in values]

    def write(self):
        (HERE / "golden.bin").write_bytes(b"".join(self.blocks))
        rows = lambda table: ",\n".join(f"    {json.dumps(key)}: {json.dumps(row)}" for key, row in table.items())
        text = f'{{\n  "tensors": {{\n{rows(self.tensors)}\n  }},\n  "lists": {{\n{rows(self.lists)}\n  }}\n}}\n'
        (HERE / "golden.json").write_text(text)
        print(f"{len(self.tensors)} tensors, {self.length * 4} bytes, {len(self.lists)} lists")


def cases(name):
    return json.loads((CASES / f"{name}.json").read_text())


def snake(name):
    """feathermap's option names are PyTorch's in camelCase; T_max is the one exception."""
    return "T_max" if name == "tMax" else re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def keywords(options):
    return {snake(key): value for key, value in options.items()}


def described(key, shape, case, suffix=""):
    """The input tensor that a case describes by fill, scale and shift."""
    kind, scale = case.get("fill" + suffix, "uniform"), case.get("scale" + suffix, 1)
    return torch.from_numpy(fill(key, shape, kind, scale, case.get("shift" + suffix, 0)))


def variable(key, shape, case={}, suffix=""):
    return described(key, shape, case, suffix).requires_grad_()


def answer(store, name, y, gradients, dy=None):
    """Stores y and the gradients; the upstream gradient comes from the formula too, except that of a scalar loss."""
    store.tensor(f"{name}/y", y)
    if not y.requires_grad:
        return
    y.backward(torch.from_numpy(fill(f"{name}/dy", y.shape)) if dy is None else dy)
    for key, variable in gradients.items():
        if variable is not None:
            store.tensor(f"{name}/{key}", variable.grad)


def pad_sides(x, padding, value=0.0):
    """PyTorch has no padding per side inside conv2d and pooling: pad first, then pad nothing."""
    if not isinstance(padding, list) or not isinstance(padding[0], list):
        return x, padding
    (top, bottom), (left, right) = padding
    return F.pad(x, (left, right, top, bottom), value=value), 0


def conv2d(store):
    for case in cases("conv2d")["cases"]:
        name = f"conv2d/{case['name']}"
        x, weight = variable(f"{name}/x", case["x"]), variable(f"{name}/weight", case["weight"])
        bias = variable(f"{name}/bias", case["weight"][:1]) if case.get("bias", True) else None
        options = dict(case["options"])
        padded, padding = pad_sides(x, options.pop("padding", 0))
        y = F.conv2d(padded, weight, bias, padding=padding, **keywords(options))
        answer(store, name, y, {"dx": x, "dw": weight, "db": bias})


def pool(store):
    for case in cases("pool")["cases"]:
        name = f"pool/{case['name']}"
        x = variable(f"{name}/x", case["x"], case)
        options = dict(case["options"])
        function, outside = {"max": (F.max_pool2d, -math.inf), "avg": (F.avg_pool2d, 0.0)}[case["op"]]
        padded, padding = pad_sides(x, options.pop("padding", 0), outside)
        y = function(padded, case["kernel"], padding=padding, **keywords(options))
        answer(store, name, y, {"dx": x})


SPECIALS = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 88.5, 89.0, -87.0, -88.0, -103.0, -105.0, 1e30, -1e30, 1e-30, -1e-30, 1e-45]


def unary(op, x, case):
    if op == "clamp":
        return torch.clamp(x, **case["options"])
    if op == "pow":
        return torch.pow(x, case["exponent"])
    return getattr(torch, op)(x)


def elementwise(store):
    table = cases("elementwise")
    for case in table["unary"]:
        name = f"elementwise/{case['name']}"
        x = variable(f"{name}/x", [67], case)
        answer(store, name, unary(case["op"], x, case), {"dx": x})
    for op in table["specials"]:
        x = torch.tensor(SPECIALS, dtype=torch.float32).to(torch.float64).requires_grad_()
        answer(store, f"elementwise/{op} of specials", unary(op, x, {}), {"dx": x})
    store.tensor("elementwise/specials", torch.tensor(SPECIALS))
    for case in table["binary"]:
        for shapes in table["shapes"]:
            binary(store, case, shapes)


def binary(store, case, shapes):
    title = f"{case['op']} {case['note']}" if "note" in case else case["op"]
    name = f"elementwise/{title} {shapes['a']} {shapes['b']}".replace(", ", ",")
    a, b = variable(f"{name}/a", shapes["a"], case, "A"), variable(f"{name}/b", shapes["b"], case, "B")
    if case["op"] == "where":
        shape = torch.broadcast_shapes(a.shape, b.shape)
        condition = torch.from_numpy(fill(f"{name}/condition", shape, "ties")) > 0
        y = torch.where(condition, a, b)
    else:
        y = getattr(torch, case["op"])(a, b)
    answer(store, name, y.to(torch.float64), {"da": a, "db": b})


def reduce(store):
    table = cases("reduce")
    for case in table["ops"]:
        for shape in table["shapes"]:
            reduction(store, case, shape)


def reduction(store, case, shape):
    op, options = case["op"], shape["options"]
    dim = options.get("dim", list(range(len(shape["x"]))))
    dims = dim if isinstance(dim, list) else [dim]
    if op == "argmax" and len(dims) > 1 and "dim" in options:
        return
    title = f"{op} {case['note']}" if "note" in case else op
    name = f"reduce/{title} {shape['x']} {json.dumps(options)}".replace(", ", ",").replace(": ", ":")
    x = variable(f"{name}/x", shape["x"], case)
    keepdim = options.get("keepdim", False)
    if op == "argmax":
        y = torch.argmax(x, options.get("dim"), keepdim=keepdim).to(torch.float64)
    elif op in ("max", "min"):
        y = {"max": torch.amax, "min": torch.amin}[op](x, dims, keepdim=keepdim)
    elif op == "var":
        y = torch.var(x, dims, unbiased=case.get("options", {}).get("unbiased", True), keepdim=keepdim)
    else:
        y = getattr(torch, op)(x, dims, keepdim=keepdim)
    answer(store, name, y, {"dx": x})


def matmul(store):
    for case in cases("gemm")["matmul"]:
        name = f"matmul/{case['name']}"
        a, b = variable(f"{name}/a", case["a"]), variable(f"{name}/b", case["b"])
        answer(store, name, torch.matmul(a, b), {"da": a, "db": b})


def softmax(store):
    for case in cases("softmax")["cases"]:
        for op, function in {"softmax": F.softmax, "logSoftmax": F.log_softmax}.items():
            name = f"{op}/{case['name']}"
            x = variable(f"{name}/x", case["x"], case)
            answer(store, name, function(x, case["dim"]), {"dx": x})


def labels(name, case):
    """Class indices [N, ...]; a case may ask for every third, or all, to be its ignoreIndex."""
    batch, classes, *rest = case["x"]
    count = batch * math.prod(rest)
    target = integers(f"{name}/target", count, 0, classes - 1)
    if "ignored" in case:
        target[:: 1 if case["ignored"] == "all" else 3] = case["options"]["ignoreIndex"]
    return torch.from_numpy(target).reshape([batch, *rest])


def loss(store):
    table = cases("loss")
    one = torch.tensor(1.0)
    for case in table["crossEntropy"]:
        name = f"crossEntropy/{case['name']}"
        x = variable(f"{name}/x", case["x"], case)
        y = F.cross_entropy(x, labels(name, case), **keywords(case["options"]))
        answer(store, name, y, {"dx": x}, one if y.dim() == 0 else None)
    for case in table["mseLoss"]:
        name = f"mseLoss/{case['name']}"
        x, target = variable(f"{name}/x", case["x"], case), variable(f"{name}/target", case["x"])
        y = F.mse_loss(x, target, **case["options"])
        answer(store, name, y, {"dx": x, "dtarget": target}, one if y.dim() == 0 else None)


def optim(store):
    table = cases("optim")
    for case in table["optimizers"]:
        name = f"optim/{case['name']}"
        weights = variable(f"{name}/w", [table["parameters"]])
        optimizer = getattr(torch.optim, case["optimizer"])([weights], **{"lr": 1e-3, **keywords(case["options"])})
        path = []
        for step in range(table["steps"]):
            weights.grad = torch.from_numpy(fill(f"{name}/grad/{step}", weights.shape))
            optimizer.step()
            path.append(weights.detach().clone())
        store.tensor(name, torch.stack(path))
    for case in table["schedules"]:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=table["baseLr"])
        schedule = getattr(torch.optim.lr_scheduler, case["schedule"])(optimizer, **keywords(case["options"]))
        rates = []
        for _ in range(table["epochs"]):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        store.list(f"schedule/{case['name']}", rates)


class LeNet(torch.nn.Module):
    def __init__(self, activation, pool):
        super().__init__()
        nn = torch.nn
        act, down = getattr(nn, activation), getattr(nn, pool)
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), act(), down(2), nn.Conv2d(6, 16, 5), act(), down(2)
        )
        self.classifier = nn.Sequential(nn.Linear(400, 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, 10))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def lenet_parameter(key, shape, shapes):
    """Uniform within 1/sqrt(fan in), as PyTorch's default initialisation; the fan in of a bias is its weight's."""
    fan_in = math.prod(shapes[key.replace("bias", "weight")][1:])
    return torch.from_numpy(fill(f"lenet/{key}", shape, scale=1 / math.sqrt(fan_in)))


def lenet(store):
    table = cases("lenet")
    shapes, batch = table["parameters"], table["batch"]
    x = torch.from_numpy(fill("lenet/x", [batch, 1, 28, 28], scale=0.5, shift=0.5))
    target = torch.from_numpy(integers("lenet/target", batch, 0, 9))
    for variant in table["variants"]:
        name = f"lenet/{variant['name']}"
        net = LeNet(variant["activation"], variant["pool"])
        net.load_state_dict(OrderedDict((key, lenet_parameter(key, shape, shapes)) for key, shape in shapes.items()))
        logits = net(x)
        F.cross_entropy(logits, target).backward()
        store.tensor(f"{name}/logits", logits)
        for key, parameter in net.named_parameters():
            store.tensor(f"{name}/grad/{key}", parameter.grad)
        lenet_training(store, name, net, x, target, variant["optimizer"], table["steps"])


def lenet_training(store, name, net, x, target, options, steps):
    """Losses before each step on the same batch; afterwards, per parameter, its sum and its product with the formula."""
    optimizer = torch.optim.SGD(net.parameters(), **options)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    store.list(f"{name}/losses", losses)
    for key, parameter in net.named_parameters():
        probe = torch.from_numpy(fill(f"lenet/probe/{key}", parameter.shape))
        store.list(f"{name}/trained/{key}", [parameter.sum(), (parameter * probe).sum()])


def main():
    store = Store()
    for section in (conv2d, pool, elementwise, reduce, matmul, softmax, loss, optim, lenet):
        section(store)
    store.write()


if __name__ == "__main__":
    main()
