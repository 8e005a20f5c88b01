"""All that is known of the files of some data folders, before anybody judges it: which there are, and what each says.

The folders mean what they mean in training (data_loader/folder.py). Called by check_data.py; what is wrong with what
was found is said by data_findings.py. The files are read in processes of their own, and nothing is written.
"""

import itertools
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_start_method
from pathlib import Path

import numpy as np
from tqdm import tqdm

from base.workers import prepare_worker
from data_loader.decode import file_problem
from data_loader.folder import part_folders
from data_loader.paths import PathList
from data_loader.scan import refuse, scan_class_folders
from tools.picture_facts import GRID, PictureFacts, facts_of_all
from utils.errors import DataError, LoaderError

_AT_ONCE = 32  # files a task
WHOLE = "all"  # the one part of a tree that is yet to be split


@dataclass
class Listing:
    """What lies where.

    Attributes:
        folders: of each part.
        parts: names, such as "train"; with several data folders "FOLDER/train".
        classes: all class names, in order.
        found: for each part its images by class.
        ignored: (path, what it is) of files that training passes over; what is None for a whole image.
        hidden: paths of hidden files and folders.
        notes: lines on what else was passed over.
    """

    folders: list[Path] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    found: list[dict[str, PathList]] = field(default_factory=list)
    ignored: list[tuple[str, str | None]] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(paths) for classes in self.found for paths in classes.values())


def list_folders(data_dirs: Sequence[Path]) -> Listing:
    """Lists the images of all parts of all folders; opens only what training would pass over.

    Raises:
        DataError: a folder is not there, cannot be read, or holds no images.
    """
    listing = Listing()
    for data_dir in dict.fromkeys(data_dirs):
        if not data_dir.is_dir():
            raise DataError(f"{data_dir}: {'not a folder' if data_dir.exists() else 'no such folder'}")
        before, folders = len(listing), part_folders(data_dir, listing.notes)
        for part, folder in folders.items():
            found = scan_class_folders(folder)
            part = WHOLE if folder == data_dir else part
            listing.parts.append(part if len(data_dirs) == 1 else f"{data_dir}/{part}")
            listing.folders.append(folder)
            listing.found.append(found.files)
            listing.ignored += [(path, file_problem(path)) for path in found.ignored]
            listing.hidden += _hidden_below(folder)
        if len(listing) == before:
            inside = f"{data_dir}/<class>/<image>, or {data_dir}/train/<class>/<image>"
            raise DataError(f"{data_dir}: no images in class folders (expected {inside})")
    listing.classes = sorted({name for classes in listing.found for name in classes})
    return listing


def _hidden_below(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder, onerror=refuse):
        yield from (os.path.join(place, name) for name in sorted([*folders, *files]) if name.startswith("."))
        folders[:] = sorted(name for name in folders if not name.startswith("."))


@dataclass
class Pictures:
    """What the files say, N of them, in columns: a few hundred bytes each.

    Attributes:
        paths: of all files.
        parts, labels: indices into the listing's parts and classes.
        is_read: whether the file could be decoded; the columns below say something only then, digests and sizes aside.
        problems: why not, by position.
        digests: SHA-256, uint8 (N, 32).
        bits, grids, moments, sizes: see `PictureFacts`; sizes are (width, height).
        kinds: (format, mode) of each, as an index into `kind_names`.
        flags: of `PictureFacts`, by name, bool (N,).
    """

    paths: PathList
    parts: np.ndarray
    labels: np.ndarray
    is_read: np.ndarray
    num_bytes: np.ndarray
    digests: np.ndarray
    bits: np.ndarray
    grids: np.ndarray
    moments: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray
    kind_names: list[tuple[str, str]]
    flags: dict[str, np.ndarray]
    problems: dict[int, str]

    def __len__(self) -> int:
        return len(self.paths)


FLAGS = ("is_misnamed", "is_transparent", "is_animated", "is_flat", "is_reduced")


def read_pictures(listing: Listing, num_processes: int) -> Pictures:
    """Reads and decodes every file of a listing.

    Raises:
        LoaderError: a process was killed, or crashed.
    """
    pictures = _empty(listing)
    kinds: dict[tuple[str, str], int] = {}
    bar = tqdm(total=len(pictures), unit="image", leave=False, dynamic_ncols=True, disable=not sys.stderr.isatty())
    with bar:
        for at, facts in enumerate(_facts(pictures.paths, num_processes)):
            _put(pictures, at, facts, kinds)
            bar.update()
    pictures.kind_names = list(kinds)
    return pictures


def _empty(listing: Listing) -> Pictures:
    number_of = {name: number for number, name in enumerate(listing.classes)}
    groups = [
        (part, number_of[name], paths)
        for part, classes in enumerate(listing.found)
        for name, paths in classes.items()
        if len(paths)
    ]
    counts = [len(paths) for _, _, paths in groups]
    num = sum(counts)
    return Pictures(
        paths=PathList.of(path for _, _, paths in groups for path in paths),
        parts=np.repeat(np.array([part for part, _, _ in groups], np.int32), counts),
        labels=np.repeat(np.array([label for _, label, _ in groups], np.int32), counts),
        is_read=np.zeros(num, bool),
        num_bytes=np.zeros(num, np.int64),
        digests=np.zeros((num, 32), np.uint8),
        bits=np.zeros(num, np.uint64),
        grids=np.zeros((num, GRID * GRID), np.uint8),
        moments=np.zeros((num, 6)),
        sizes=np.zeros((num, 2), np.int32),
        kinds=np.zeros(num, np.int16),
        kind_names=[],
        flags={name: np.zeros(num, bool) for name in FLAGS},
        problems={},
    )


def _put(pictures: Pictures, at: int, facts: PictureFacts, kinds: dict[tuple[str, str], int]) -> None:
    pictures.num_bytes[at] = facts.num_bytes
    if facts.digest:
        pictures.digests[at] = np.frombuffer(facts.digest, np.uint8)
    if facts.problem is not None:
        pictures.problems[at] = facts.problem
        return
    pictures.is_read[at] = True
    pictures.bits[at] = facts.bits
    pictures.grids[at] = np.frombuffer(facts.grid, np.uint8)
    pictures.moments[at] = facts.moments
    pictures.sizes[at] = facts.width, facts.height
    pictures.kinds[at] = kinds.setdefault((facts.format, facts.mode), len(kinds))
    for name, column in pictures.flags.items():
        column[at] = getattr(facts, name)


def _facts(paths: PathList, num_processes: int) -> Iterator[PictureFacts]:
    """In the order of the paths, whatever process is done first; only a few tasks are under way at a time."""
    tasks = (list(paths[start : start + _AT_ONCE]) for start in range(0, len(paths), _AT_ONCE))
    if num_processes == 1:
        yield from itertools.chain.from_iterable(map(facts_of_all, tasks))
        return
    prepare = partial(prepare_worker, 0, is_child=get_start_method() != "forkserver")
    under_way: deque[tuple[list[str], Future[list[PictureFacts]]]] = deque()
    pool = ProcessPoolExecutor(num_processes, initializer=prepare)
    try:
        for task in tasks:
            under_way.append((task, pool.submit(facts_of_all, task)))
            if len(under_way) > 4 * num_processes:
                yield from under_way[0][1].result()
                under_way.popleft()
        while under_way:
            yield from under_way[0][1].result()
            under_way.popleft()
    except BrokenProcessPool as error:
        where = f"among them {under_way[0][0][0]}" if under_way else ""
        raise LoaderError(
            f"a process that reads images was killed or crashed, often because memory has run out "
            f"({where}); --processes 1 needs the least"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
