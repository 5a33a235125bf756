"""Databases and pictures that the tests of data make for themselves."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torrefy.data.sources.datum import write_datum

PAGE = 4096


def lmdb_file(records: Sequence[tuple[bytes, bytes]]) -> bytes:
    """An LMDB as the library would write it: leaves with records, one branch, big values apart."""
    pages: list[bytes] = [b"", b""]
    leaves: list[tuple[bytes, int]] = []
    nodes: list[tuple[bytes, bytes]] = []

    def head(number: int, flags: int, lower: int, upper: int) -> bytes:
        return struct.pack("<QHHHH", number, 0, flags, lower, upper)

    def page(nodes: list[bytes], flags: int) -> int:
        upper, pointers, body = PAGE, [], b""
        for node in nodes:
            padded = node + b"\0" * (len(node) & 1)
            upper -= len(padded)
            pointers.append(upper)
            body = padded + body
        lower = 16 + 2 * len(nodes)
        start = head(len(pages), flags, lower, upper) + struct.pack(f"<{len(nodes)}H", *pointers)
        pages.append(start.ljust(upper, b"\0") + body)
        return len(pages) - 1

    def flush() -> None:
        if nodes:
            leaves.append((nodes[0][0], page([node for _, node in nodes], 2)))
            nodes.clear()

    for key, value in records:
        flags, held = 0, value
        if len(value) > PAGE // 2:
            flags, held = 1, struct.pack("<Q", len(pages))
            count = -(-(16 + len(value)) // PAGE)
            big = struct.pack("<QHHI", len(pages), 0, 4, count) + value
            pages.extend(big[i : i + PAGE].ljust(PAGE, b"\0") for i in range(0, count * PAGE, PAGE))
        size = len(value)
        node = struct.pack("<HHHH", size & 65535, size >> 16, flags, len(key)) + key + held
        if sum(len(node) + 3 for _, node in nodes) + len(node) + 19 > PAGE:
            flush()
        nodes.append((key, node))
    flush()
    root, depth = leaves[0][1] if leaves else (1 << 64) - 1, 1
    if len(leaves) > 1:
        root, depth = (
            page(
                [
                    struct.pack("<HHHH", at & 65535, at >> 16, 0, len(key)) + key
                    for key, at in leaves
                ],
                1,
            ),
            2,
        )
    none = struct.pack("<IHHQQQQQ", PAGE, 0, 0, 0, 0, 0, 0, (1 << 64) - 1)
    main = struct.pack("<IHHQQQQQ", 0, 0, depth, 0, 0, 0, len(records), root)
    for number in (0, 1):
        meta = struct.pack("<IIQQ", 0xBEEFC0DE, 1, 0, 1 << 20) + none + main
        meta += struct.pack("<QQ", len(pages) - 1, number)
        pages[number] = (head(number, 8, 0, 0) + meta).ljust(PAGE, b"\0")
    return b"".join(pages)


@pytest.fixture
def lmdb(tmp_path: Path) -> Callable[[Sequence[tuple[bytes, bytes]]], Path]:
    """Makes an LMDB of records."""

    def make(records: Sequence[tuple[bytes, bytes]], name: str = "db") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "data.mdb").write_bytes(lmdb_file(records))
        return folder

    return make


@pytest.fixture
def digits(lmdb: Callable[..., Path]) -> Path:
    """An LMDB of 30 pictures of 1x4x5; picture i has the label i % 10 and i as its first pixel."""
    pictures = np.random.default_rng(0).integers(0, 256, (30, 1, 4, 5), np.uint8)
    pictures[:, 0, 0, 0] = np.arange(30)
    return lmdb([(b"%08d" % i, write_datum(pictures[i], i % 10)) for i in range(30)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of six small PNGs, and a list of them."""
    random = np.random.default_rng(1)
    for i in range(6):
        pixels = random.integers(0, 256, (7, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p {i}.png")
    (tmp_path / "list.txt").write_text("".join(f"p {i}.png {i}\n" for i in range(6)))
    return tmp_path
