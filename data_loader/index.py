"""Keeps the listing of a large folder of images, so that the next start need not list and look at a million files.

A listing is used again where every folder in it is as it was, and so are some thousands of its files, spread over all.
It lies below the project, never in the data, and holds names only; what is wrong with it in any way makes it as good as
absent. See docs/decisions/0024-large-folders-and-workers.md.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_loader.decode import IMAGE_SUFFIXES
from data_loader.paths import PathList
from data_loader.scan import ClassFolders, FolderState
from utils.command_line import ROOT
from utils.durable_file import replace_file
from utils.errors import OutputError

INDEX_DIR = ROOT / "saved" / "cache" / "index"
MIN_FILES = 10_000  # to list fewer, and to look at each, takes a few tenths of a second
NUM_PROBES = 1_000  # files whose size and time are compared; where one in 200 has changed, 99 times of 100 it is seen
_MAGIC = b"image index 1\n"
_DIGEST_BYTES = 16
# The clocks of file systems move in steps, of up to two seconds (FAT): a change after a change may leave no trace.
_STEP_NS = 2_000_000_000


def load_index(folder: Path) -> tuple[ClassFolders, list[str]] | None:
    """What was found below a folder before, and which of its images were bad; None where it must be listed anew."""
    top = os.path.join(folder, "")
    with contextlib.suppress(OSError):
        parts = _unpacked(_file_of(folder).read_bytes())
        if parts is None or not _is_as_it_was(top, *parts):
            return None
        head, paths = parts
        found = ClassFolders(ignored=[top + name for name in head["ignored"]], num_hidden=head["num_hidden"])
        start, all_paths = 0, PathList(top, paths.letters, paths.ends)
        for name, count in head["classes"]:
            found.files[name] = all_paths[start : start + count]
            start += count
        return found, [top + name for name in head["bad"]]
    return None


def save_index(folder: Path, found: ClassFolders, bad: list[str], started_ns: int) -> None:
    """Keeps a listing, where it is of use and can be relied upon; a disk that cannot be written is no matter.

    Args:
        folder: that was listed.
        found: what `scan_class_folders` found in it.
        bad: the images of those that cannot be read, by their paths; all others were looked at.
        started_ns: when the listing began, by time.time_ns.
    """
    num_files = sum(map(len, found.files.values()))
    newest_ns = max(max(state.mtime_ns, state.ctime_ns) for state in found.folders.values())
    if num_files < MIN_FILES or found.has_links or newest_ns > started_ns - _STEP_NS:
        return
    top = os.path.join(folder, "")
    paths = PathList.joined(list(found.files.values()), top)
    head = {
        "suffixes": sorted(IMAGE_SUFFIXES),
        "classes": [(name, len(files)) for name, files in found.files.items()],
        "ignored": [path.removeprefix(top) for path in found.ignored],
        "num_hidden": found.num_hidden,
        "folders": found.folders,
        "bad": [path.removeprefix(top) for path in bad],
        "probes": _probes(paths),
    }
    content = _packed(head, paths)
    with contextlib.suppress(OSError, OutputError):
        INDEX_DIR.mkdir(parents=True, exist_ok=True)
        replace_file(_file_of(folder), lambda file: file.write(content), "the index")


def _file_of(folder: Path) -> Path:
    name = hashlib.blake2b(os.fsencode(os.path.abspath(folder)), digest_size=16).hexdigest()
    return INDEX_DIR / f"{name}.bin"


def _packed(head: dict[str, Any], paths: PathList) -> bytes:
    """Magic, digest of the rest, length of the head, head, where paths end, their letters."""
    text = json.dumps(head).encode()
    numbers = np.array([len(text), len(paths.ends)], "<i8").tobytes()
    ends = paths.ends.numpy().astype("<i8").tobytes()
    body = b"".join([numbers, text, ends, paths.letters.numpy().tobytes()])
    return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def _unpacked(content: bytes) -> tuple[dict[str, Any], PathList] | None:
    """The head and the paths, whose prefix is left empty; None where a byte is wrong, or it is of another version."""
    at = len(_MAGIC) + _DIGEST_BYTES
    body = memoryview(content)[at:]
    if not content.startswith(_MAGIC) or len(body) < 16:
        return None
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != content[len(_MAGIC) : at]:
        return None
    num_head, num_ends = np.frombuffer(body[:16], "<i8").tolist()
    head = json.loads(bytes(body[16 : 16 + num_head]))
    rest = body[16 + num_head :]
    ends = np.frombuffer(rest[: 8 * num_ends], "<i8").astype(np.int64)  # copies: tensors want memory to write to
    letters = np.frombuffer(rest[8 * num_ends :], np.uint8).copy()
    return head, PathList("", torch.from_numpy(letters), torch.from_numpy(ends))


def _probes(paths: PathList) -> list[tuple[int, int, int]]:
    """Position, size and time of files that are spread evenly; without those that are not there."""
    probes = []
    for position in range(0, len(paths), max(1, len(paths) // NUM_PROBES)):
        with contextlib.suppress(OSError):
            found = os.stat(paths[position])
            probes.append((position, found.st_size, found.st_mtime_ns))
    return probes


def _is_as_it_was(top: str, head: dict[str, Any], paths: PathList) -> bool:
    """Whether the same listing would come out again; raises OSError where something is gone."""
    if head["suffixes"] != sorted(IMAGE_SUFFIXES):
        return False
    if any(FolderState.of(top + below) != tuple(state) for below, state in head["folders"].items()):
        return False
    stats = ((os.stat(top + paths[position]), size, time_ns) for position, size, time_ns in head["probes"])
    return all((found.st_size, found.st_mtime_ns) == (size, time_ns) for found, size, time_ns in stats)
