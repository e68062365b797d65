"""Weights, an input and logits at 224 x 224 of torchvision's networks, as safetensors files: the big check, for check-models.mjs.

    python3 tests/golden/check-models.py FOLDER [name ...]     # torchvision's own first values, running statistics off 0 and 1
    node tests/golden/check-models.mjs FOLDER                  # after npm run build

Logits are computed in float64. About 1.3 GB for all networks.
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision

NAMES = {
    "alexnet": "alexnet",
    "vgg11": "vgg11",
    "vgg16Bn": "vgg16_bn",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "mobilenetV2": "mobilenet_v2",
}
KINDS = {np.dtype("<f4"): "F32", np.dtype("<i8"): "I64"}


def write_safetensors(path, arrays):
    """The container: length of the header, the header in JSON, the data without gaps."""
    header, start = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": KINDS[array.dtype], "shape": list(array.shape), "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())


def main(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        torch.manual_seed(0)
        net = getattr(torchvision.models, NAMES[name])().eval()
        for key, buffer in net.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        x = torch.randn(1, 3, 224, 224)
        write_safetensors(folder / f"{name}.safetensors", {key: value.numpy() for key, value in net.state_dict().items()})
        with torch.no_grad():
            logits = net.double()(x.double()).float()
        write_safetensors(folder / f"{name}.answer.safetensors", {"x": x.numpy(), "logits": logits.numpy()})
        print(name, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
