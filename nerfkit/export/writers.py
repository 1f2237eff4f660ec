"""Files of triangles, points and voxels.

Positions are world units, +Z up, but for glTF, which wants +Y up: the file's root node turns it.
Colours come display-encoded (sRGB) in 0..1; PLY keeps them so in bytes, glTF wants linear light.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nerfkit import __version__
from nerfkit.files import atomic_write

if TYPE_CHECKING:
    from nerfkit.export.surface import Corners
    from nerfkit.octree import Octree

PLY_TYPES = {"f4": "float", "u1": "uchar", "i4": "int"}
Z_UP_TO_Y_UP = [1, 0, 0, 0, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1]  # column by column
ARRAY, ELEMENTS = 34962, 34963  # glTF buffer targets
FLOAT, UNSIGNED = 5126, 5125  # glTF component types


def write_ply(
    path: Path,
    positions: np.ndarray,
    colours: np.ndarray,
    normals: np.ndarray | None = None,
    faces: np.ndarray | None = None,
) -> None:
    """Points [V, 3], or with `faces` [F, 3] a mesh; atomically."""
    columns = {"x y z": positions.astype("<f4")}
    if normals is not None:
        columns["nx ny nz"] = normals.astype("<f4")
    columns["red green blue"] = np.rint(colours * 255).astype("u1")
    _ply(path, columns, faces)


def write_voxels(path: Path, octree: Octree) -> None:
    """Centres of the leaves as NSVF's `--voxel-path` reads them: x, y, z and `quality`, the index.

    NSVF is told the edge of a voxel apart from the file (`--voxel-size`); a comment states it.
    """
    columns = {
        "x y z": octree.centers().numpy().astype("<f4"),
        "quality": np.arange(len(octree), dtype="<i4")[:, None],
    }
    _ply(path, columns, None, [f"voxel_size {octree.voxel!r}"])


def write_octree(path: Path, corners: Corners) -> None:
    """Leaves as a NumPy archive.

    Keys: box_min [3] float32, lowest corner of the cube, and size, its edge, world units; depth;
    codes [n] int64, Morton codes of the leaves, ascending (bit 0 of each triple is x, then y, then
    z); cells [n, 3] int32 (x, y, z): leaf i covers box_min + [cells[i], cells[i] + 1) size /
    2^depth; density [n] float32, mean of a leaf's corners, 1 / world unit.
    """
    octree = corners.octree
    with atomic_write(path) as file:
        np.savez_compressed(
            file,
            box_min=octree.box_min.numpy(),
            size=np.float64(octree.size),
            depth=np.int64(octree.depth),
            codes=octree.codes.numpy(),
            cells=octree.cells().numpy().astype(np.int32),
            density=corners.of_leaves().numpy(),
        )


def write_glb(
    path: Path, positions: np.ndarray, colours: np.ndarray, normals: np.ndarray, faces: np.ndarray
) -> None:
    """A mesh in binary glTF 2.0, vertex-coloured and unlit: its colours hold the light already."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    arrays = [
        (positions.astype("<f4"), ARRAY, FLOAT, "VEC3"),
        (normals.astype("<f4"), ARRAY, FLOAT, "VEC3"),
        (linear.astype("<f4"), ARRAY, FLOAT, "VEC3"),  # bytes of linear light band in the dark
        (faces.astype("<u4").reshape(-1, 1), ELEMENTS, UNSIGNED, "SCALAR"),
    ]
    views, accessors, offset = [], [], 0
    for array, target, component, kind in arrays:
        views.append(
            {"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target}
        )
        accessors.append(
            {
                "bufferView": len(views) - 1,
                "componentType": component,
                "count": len(array),
                "type": kind,
                "min": array.min(0).tolist(),
                "max": array.max(0).tolist(),
            }
        )
        offset += array.nbytes
    primitive = {
        "attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2},
        "indices": 3,
        "material": 0,
    }
    material = {
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        "extensions": {"KHR_materials_unlit": {}},
    }
    tree = {
        "asset": {"version": "2.0", "generator": f"nerfkit {__version__}"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "matrix": Z_UP_TO_Y_UP}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [material],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    head = json.dumps(tree, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 4)
    with atomic_write(path) as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(head) + 8 + offset))
        file.write(struct.pack("<I4s", len(head), b"JSON") + head)
        file.write(struct.pack("<I4s", offset, b"BIN\0"))
        for array, *_ in arrays:
            file.write(array.tobytes())


def _ply(
    path: Path, columns: dict[str, np.ndarray], faces: np.ndarray | None, comments: list[str] = ()
) -> None:
    """Binary PLY; the keys of `columns` name the properties of their [V, k] arrays."""
    count = len(next(iter(columns.values())))
    fields = [(name, a.dtype) for names, a in columns.items() for name in names.split()]
    vertices = np.empty(count, fields)
    for names, array in columns.items():
        for i, name in enumerate(names.split()):
            vertices[name] = array[:, i]
    lines = ["ply", "format binary_little_endian 1.0", f"comment nerfkit {__version__}"]
    lines += [f"comment {comment}" for comment in comments]
    lines.append(f"element vertex {count}")
    lines += [f"property {PLY_TYPES[dtype.str[1:]]} {name}" for name, dtype in fields]
    if faces is not None:
        lines += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    with atomic_write(path) as file:
        file.write("\n".join([*lines, "end_header\n"]).encode())
        file.write(vertices.tobytes())
        if faces is not None:
            rows = np.empty(len(faces), [("n", "u1"), ("v", "<i4", 3)])
            rows["n"], rows["v"] = 3, faces
            file.write(rows.tobytes())
