"""A matrix of numbers out of a MATLAB file (level 5, compressed or not), no size of it trusted.

scipy's reader follows damaged sizes beyond its buffer, and the process ends.
"""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

HEADER = 128
MATRIX, COMPRESSED = 14, 15  # kinds of element
NUMBERS = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"},
    **{7: "f4", 9: "f8", 12: "i8", 13: "u8"},
}
CLASSES = range(6, 16)  # of arrays: double to uint64
COMPLEX = 0x0800
LARGEST = 64 << 20  # bytes that a compressed element may hold


def read_matrix(content: bytes, name: str) -> np.ndarray:
    """The real array of that name, with as many dimensions as it has.

    Raises:
        KeyError: there is none of that name.
        ValueError: damaged, or something else.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("not a MATLAB file of level 5")
    for kind, data in _elements(content[HEADER:], order):
        if kind == COMPRESSED:
            kind, data = next(_elements(_inflated(data), order), (0, b""))
        if kind == MATRIX:
            parts = [*_elements(data, order)]
            if len(parts) > 2 and parts[2][1] == name.encode():
                return _array(parts, order)
    raise KeyError(name)


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(kind, data) one after the other."""
    at = 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        if kind >> 16:  # up to four bytes, beside their kind and number
            yield kind & 0xFFFF, content[at + 4 : at + 4 + min(kind >> 16, 4)]
            at += 8
            continue
        at += 8
        if size > len(content) - at:
            raise ValueError(f"an element of {size} bytes reaches beyond the end")
        yield kind, content[at : at + size]
        at += size if kind == COMPRESSED else -(-size // 8) * 8


def _inflated(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(data, LARGEST)
    except zlib.error as error:
        raise ValueError(f"damaged: {error}") from error
    if inflate.unconsumed_tail:
        raise ValueError(f"more than {LARGEST >> 20} MiB in a compressed element")
    return content


def _array(parts: list[tuple[int, bytes]], order: str) -> np.ndarray:
    """Of flags, shape, name and numbers."""
    flags = int.from_bytes(parts[0][1][:4], "little" if order == "<" else "big")
    if len(parts) < 4 or flags & 0xFF not in CLASSES or flags & COMPLEX:
        raise ValueError("not a matrix of real numbers")
    (_, shape), (kind, numbers) = parts[1], parts[3]
    code = np.dtype(order + NUMBERS[kind]) if kind in NUMBERS else None
    if code is None or len(shape) % 4 or len(numbers) % code.itemsize:
        raise ValueError("damaged: numbers of no known kind")
    sizes = np.frombuffer(shape, order + "i4").tolist()
    values = np.frombuffer(numbers, code)
    if min(sizes, default=-1) < 0 or math.prod(sizes) != len(values):
        raise ValueError(f"damaged: {len(values)} numbers in a shape of {sizes}")
    return values.reshape(sizes, order="F")
