"""What happens to files: bits flip, ends are cut off, numbers become absurd, headers lie.

Every function takes bytes and a `random.Random`, and returns bytes; the same seed, the same damage.
"""

import json
import random
import re
import struct
import zlib
from typing import Any

import torch
from safetensors.torch import load, save

NUMBERS = (
    *("0", "-1", "1e308", "-1e-308", "NaN", "Infinity", "99999999999", "1" * 400, "2147483648"),
    *("null", '""', "[]", "{}", "true", '"../../../etc/passwd"', '"/etc/passwd"', "0.5", "65536"),
)
VALUES = (
    *(None, True, -1, 0, 2, 0.5, 1e9, 10**12, 10**30, float("nan"), float("inf"), "", "x"),
    *("../../../../etc/passwd", "/etc/passwd", "\0", [], {}, [1, 2], [[]], {"a": 1}, -1e300),
)
WORDS = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x10000, 0x7FFFFFFFFFFFFFFF, 1 << 40)


def damage(data: bytes, rng: random.Random, name: str) -> bytes:
    """One of all the ways, some of them for the kind of file that `name` ends in only."""
    ways = [flip, overwrite, cut, repeat, word]
    if name.endswith((".json", ".txt")):
        ways += [absurd_number] * 4
    if name.endswith(".json"):
        ways += [absurd_value] * 6
    if name.endswith(".npy"):
        ways += [absurd_number] * 6
    if name.endswith((".safetensors", ".baked", ".octree")):
        ways += [tensor_file] * 8 + [absurd_number] * 3
    try:
        return rng.choice(ways)(data, rng)
    except (ValueError, IndexError, KeyError):  # a way that does not suit: too short, not JSON
        return flip(data, rng)


def flip(data: bytes, rng: random.Random) -> bytes:
    """A few bits."""
    out = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """A run of bytes by random ones, or by one."""
    size = rng.choice((1, 4, 16, 256))
    at = rng.randrange(max(1, len(data)))
    filler = rng.randbytes(size) if rng.random() < 0.5 else bytes([rng.randrange(256)]) * size
    return data[:at] + filler + data[at + size :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end, the beginning, or something in the middle."""
    a, b = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return rng.choice((data[:a], data[b:], data[:a] + data[b:], b""))


def repeat(data: bytes, rng: random.Random) -> bytes:
    """A part once more."""
    a, b = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return data[:b] + data[a:b] * rng.choice((1, 3)) + data[b:]


def word(data: bytes, rng: random.Random) -> bytes:
    """A 32- or 64-bit number, near the beginning more often, where headers are."""
    layout = rng.choice(("<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(layout)
    last = len(data) - size
    at = rng.randrange(min(last, 64) + 1 if rng.random() < 0.6 else last + 1)
    value = rng.choice(WORDS) & ((1 << 8 * size) - 1)
    return data[:at] + struct.pack(layout, value) + data[at + size :]


def absurd_number(data: bytes, rng: random.Random) -> bytes:
    """A number in text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?", data[:200_000]))
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(NUMBERS).encode() + data[one.end() :]


def absurd_value(data: bytes, rng: random.Random) -> bytes:
    """A value somewhere in JSON replaced, removed, or a key renamed."""
    content = json.loads(data)
    _twist(content, rng)
    return json.dumps(content).encode()


def _twist(content: Any, rng: random.Random) -> None:
    parent = content
    while True:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        key = rng.choice(keys)
        child = parent[key]
        if not isinstance(child, dict | list) or not child or rng.random() < 0.25:
            break
        parent = child
    how = rng.random()
    if how < 0.15:
        del parent[key]
    elif how < 0.25 and isinstance(parent, dict):
        parent[key + "_"] = parent.pop(key)
    elif how < 0.35 and isinstance(parent, list):
        parent.insert(key, child)
    else:
        parent[key] = rng.choice(VALUES)


def tensor_file(data: bytes, rng: random.Random) -> bytes:
    """A well-formed safetensors file with something else in it; its checksum is made to fit."""
    tensors = load(data)
    size = struct.unpack("<Q", data[:8])[0]
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    if metadata and rng.random() < 0.6:
        key = rng.choice(sorted(metadata))
        try:
            content = json.loads(metadata[key])
            if isinstance(content, dict | list) and content:
                _twist(content, rng)
            else:
                content = rng.choice(VALUES)
            metadata[key] = json.dumps(content)
        except ValueError:
            metadata[key] = str(rng.choice(VALUES))
    else:
        name = rng.choice(sorted(tensors))
        tensors[name] = _other_tensor(tensors[name], rng)
        if rng.random() < 0.1:
            del tensors[name]
    if "checksum" in metadata:
        metadata["checksum"] = checksum(metadata, tensors)
    return save(tensors, metadata)


def _other_tensor(tensor: torch.Tensor, rng: random.Random) -> torch.Tensor:
    way = rng.randrange(6)
    flat = tensor.contiguous().view(-1)
    if way == 0:
        return flat[: rng.randrange(len(flat) + 1)].clone()
    if way == 1:
        return tensor.to(rng.choice((torch.float32, torch.float16, torch.int64, torch.uint8)))
    if way == 2:
        return tensor.unsqueeze(0).clone()
    changed = flat.clone()
    if len(changed):
        at = rng.randrange(len(changed))
        if changed.is_floating_point():
            changed[at] = rng.choice((float("nan"), float("inf"), -1e30, 0.0, 60000.0))
        else:
            most = torch.iinfo(changed.dtype)
            changed[at] = rng.choice((most.min, most.max, 0, 1))
    if way == 3:
        return changed.view(tensor.shape)
    if way == 4:
        return torch.cat([changed, changed])
    return changed.view(tensor.shape).flip(0).contiguous()


def checksum(metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> str:
    """As octree files and baked files have it."""
    rest = {key: value for key, value in metadata.items() if key != "checksum"}
    total = zlib.crc32(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].contiguous().numpy().tobytes(), total)
    return f"{total:08x}"
