"""What PyTorch answers to tests/cases/batch-norm.json, in float64 rounded to float32: outputs, gradients, gradients of gradients.

    python3 tests/golden/layers.py        # needs PyTorch >= 1.13 (Debian: python3-torch); seconds

Writes layers.json: by name of the case, by name of the result, float32 in base64. Inputs come from values.py.
"""
import base64
import json
import re
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.dont_write_bytecode = True
from values import fill

HERE = Path(__file__).parent
TABLE = json.loads((HERE.parent / "cases/batch-norm.json").read_text())
torch.set_default_dtype(torch.float64)


def packed(value):
    return base64.b64encode(value.detach().to(torch.float32).contiguous().numpy().astype("<f4").tobytes()).decode()


def numbers(key, shape, **options):
    return torch.from_numpy(fill(key, shape, **options))


def keywords(options):
    return {re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), key): value for key, value in options.items()}


def batch_norm(case):
    """Gradients of gradients: of the sum of dx, dweight and dbias, each times numbers of its own."""
    name, shape = f"batchNorm/{case['name']}", case["x"]
    channels = [shape[1]]
    x = numbers(f"{name}/x", shape, scale=2, shift=case.get("shift", 0)).requires_grad_()
    weight = numbers(f"{name}/weight", channels).requires_grad_()
    bias = numbers(f"{name}/bias", channels).requires_grad_()
    mean, variance = numbers(f"{name}/mean", channels), numbers(f"{name}/variance", channels, kind="positive")
    affine = (weight, bias) if case.get("affine", True) else (None, None)
    y = F.batch_norm(x, mean, variance, *affine, **case["options"])
    inputs = [x, weight, bias] if affine[0] is not None else [x]
    gradients = torch.autograd.grad(y, inputs, numbers(f"{name}/dy", shape), create_graph=True)
    total = sum((g * numbers(f"{name}/second{i}", list(g.shape))).sum() for i, g in enumerate(gradients))
    second = torch.autograd.grad(total, inputs[:2], allow_unused=True)
    results = {"y": y, "runningMean": mean, "runningVar": variance}
    results.update(zip(("dx", "dweight", "dbias"), gradients))
    results.update({key: value for key, value in zip(("ddx", "ddweight"), second) if value is not None})
    return name, results


def adaptive(case):
    name = "adaptiveAvgPool2d/" + json.dumps([case["x"], case["size"]]).replace(" ", "")
    x = numbers(f"{name}/x", case["x"]).requires_grad_()
    y = F.adaptive_avg_pool2d(x, case["size"])
    y.backward(numbers(f"{name}/dy", list(y.shape)))
    return name, {"y": y, "dx": x.grad}


def hardtanh(case):
    name = f"hardtanh/{case['name']}"
    x = (numbers(f"{name}/x", [99], scale=9).round()).requires_grad_()
    y = F.hardtanh(x, **keywords(case["options"]))
    y.backward(numbers(f"{name}/dy", [99]))
    return name, {"y": y, "dx": x.grad}


def main():
    found = {}
    for function, section in ((batch_norm, "batchNorm"), (adaptive, "adaptiveAvgPool2d"), (hardtanh, "hardtanh")):
        for case in TABLE[section]:
            if not case.get("golden", True):
                continue
            name, results = function(case)
            found[name] = {key: packed(value) for key, value in results.items()}
    (HERE / "layers.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
