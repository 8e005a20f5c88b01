"""Finds the images of an image-folder tree: which folder is which part, which folders are classes, what is left out.

    data_dir/train/<class>/<image>                          with evaluation|eval|valid|val|validation/ and test/
    data_dir/<class>/<image>                                one tree, to be split

Every file that is passed over is named. Called by data_loaders.py; nothing is decoded here but to judge a file.
How the tree is listed is in scan.py, and how the listing of a large one is kept in index.py.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from data_loader.dataset import ImageFiles
from data_loader.decode import IMAGE_SUFFIXES, find_bad_images
from data_loader.index import load_index, save_index
from data_loader.parts import Parts
from data_loader.paths import PathList
from data_loader.scan import ClassFolders, refuse, scan_class_folders
from utils.errors import DataError, some

VALIDATION_NAMES = ("evaluation", "eval", "valid", "val", "validation")
PART_NAMES = ("train", "test", *VALIDATION_NAMES)


@dataclass(frozen=True)
class FileRules:
    """How image files are read: grey or RGB, what of a bad one, which classes there must be, and see scaled.py."""

    channels: int = 3
    on_bad_image: Literal["error", "skip"] = "error"
    classes: list[str] | None = None
    scaled_decoding: bool = False


def read_parts(data_dir: Path, rules: FileRules, *, training: bool) -> Parts:
    """Reads the tree below `data_dir`.

    Args:
        data_dir: see the top of this file.
        rules: with `classes` given, indices follow that list, and a class that is not in it is an error.
        training: all parts are wanted; otherwise only the one that a test would use.

    Raises:
        DataError: no such folder, no classes, one class only, classes that differ between parts, bad images.
    """
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: {'not a folder' if data_dir.exists() else 'no such folder'} (data_dir)")
    parts = Parts(name=str(data_dir))
    folders = part_folders(data_dir, parts.notes)
    if not training:
        used = next(name for name in ("test", "validation", "train") if name in folders)
        folders = {used: folders[used]}
    for part, folder in folders.items():
        rules_here = replace(rules, classes=rules.classes or (parts.train.classes if parts.train else None))
        setattr(parts, part, _read_part(folder, rules_here, parts.notes, exact=training and part != "train"))
        parts.folders[part] = str(folder)
    return parts


def _read_part(folder: Path, rules: FileRules, notes: list[str], *, exact: bool) -> ImageFiles:
    started_ns, known = time.time_ns(), load_index(folder)
    found, bad_before = known or (scan_class_folders(folder), None)
    paths, targets, classes = _checked(found, folder, rules, notes, exact=exact)
    if bad_before is None:
        bad = bad_images(paths)
    else:
        again = set(bad_before)
        bad = bad_images([path for path in paths if path in again] if again else [])
    data = without_bad_images(paths, targets, classes, rules, notes, bad)
    if known is None:
        save_index(folder, found, [path for path, _ in bad], started_ns)
    return data


def part_folders(data_dir: Path, notes: list[str]) -> dict[str, Path]:
    """Which folder is which part, training first; one tree of classes is a training part."""
    visible = [name for name in next(os.walk(data_dir, onerror=refuse))[1] if not name.startswith(".")]
    below = {name.casefold(): name for name in visible}
    validation = [name for name in VALIDATION_NAMES if name in below]
    if len(validation) > 1:
        raise DataError(f"{data_dir}: both {validation[0]}/ and {validation[1]}/; only one can be the validation part")
    others = sorted(below.keys() - set(PART_NAMES))
    if "train" not in below and others:
        return {"train": data_dir}
    if others:
        notes.append(
            f"{data_dir}: {some(others)} not used; parts are called train, test, {', '.join(VALIDATION_NAMES)}"
        )
    named = {"train": "train", "validation": validation[0] if validation else "", "test": "test"}
    return {part: data_dir / below[name] for part, name in named.items() if name in below} or {"train": data_dir}


def _checked(
    found: ClassFolders, folder: Path, rules: FileRules, notes: list[str], *, exact: bool
) -> tuple[PathList, torch.Tensor, list[str]]:
    """Paths, class indices and classes of what was found, which is held against what is expected."""
    empty = [name for name, files in found.files.items() if not files]
    if not found.files:
        raise DataError(f"{folder}: no class folders (expected {folder}/<class>/<image>)")
    suffixes = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
    if len(empty) == len(found.files):
        raise DataError(f"{folder}: no images below {some(empty)} (looked for {suffixes})")
    if empty and rules.on_bad_image == "error":
        raise DataError(
            f'{folder / empty[0]}: no images ({suffixes}). Remove the folder, or say "on_bad_image": "skip"'
        )
    classes = rules.classes or [name for name in found.files if found.files[name]]
    compare_classes(folder, [name for name in found.files if found.files[name]], classes, exact=exact, notes=notes)
    paths = PathList.joined([found.files[name] for name in classes if name in found.files])
    counts = [len(found.files[name]) if name in found.files else 0 for name in classes]
    targets = torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))
    if empty:
        notes.append(f"{folder}: empty class folders left out: {some(empty)}")
    if found.ignored:
        notes.append(f"{folder}: {len(found.ignored)} file(s) ignored, not images: {some(found.ignored)}")
    if found.num_hidden:
        notes.append(f"{folder}: {found.num_hidden} hidden file(s) or folder(s) ignored")
    return paths, targets, classes


def compare_classes(where: Path | str, found: list[str], expected: list[str], *, exact: bool, notes: list[str]) -> None:
    """Holds the classes that were found against those that are expected.

    Raises:
        DataError: fewer than two are expected, one is found that is not, or (`exact`) one is not found.
    """
    if len(expected) < 2:
        raise DataError(f"{where}: only one class ('{expected[0]}'); a classifier needs at least two")
    extra = [name for name in found if name not in expected]
    missing = [name for name in expected if name not in found]
    if extra or (missing and exact):
        lines = [f"{where}: its classes are not the {len(expected)} expected ({some(expected, 10)})"]
        lines += [f"  missing: {some(missing, 10)}"] if missing else []
        lines += [f"  not expected: {some(extra, 10)}"] if extra else []
        raise DataError("\n".join(lines))
    if missing:
        notes.append(f"{where}: no images of {some(missing)}")


def bad_images(paths: Sequence[str]) -> list[tuple[str, str]]:
    """(path, reason) of those that look as if they could not be read.

    They are judged by their first and last bytes, and decoded only where those look wrong. What is damaged in its
    middle shows when it is decoded; then "skip" passes over it (see base/keyed.py).
    """
    return find_bad_images(paths, thorough=False, num_threads=os.cpu_count() or 1)


def without_bad_images(
    paths: PathList,
    targets: torch.Tensor,
    classes: list[str],
    rules: FileRules,
    notes: list[str],
    bad: list[tuple[str, str]],
) -> ImageFiles:
    """A data set of the files that are not `bad`; see `bad_images`.

    Raises:
        DataError: a file cannot be read and the rule is "error".
    """
    is_skipping = rules.on_bad_image == "skip"
    if bad and not is_skipping:
        path, reason = bad[0]
        more = f" ({len(bad)} bad images in all: {some([p for p, _ in bad[1:]])})" if len(bad) > 1 else ""
        raise DataError(f'{path}: {reason}{more}\n  "on_bad_image": "skip" leaves such files out and names them')
    if bad:
        reasons = dict(bad)
        kept = torch.tensor([at for at, path in enumerate(paths) if path not in reasons], dtype=torch.int64)
        if not len(kept):
            raise DataError(f"{bad[0][0]}: {bad[0][1]}; no image of this part can be read")
        lost = sorted(set(targets.tolist()) - set(targets[kept].tolist()))
        paths, targets = paths.chosen(kept), targets[kept]
        notes += [f"bad image left out: {path}: {reason}" for path, reason in bad]
        notes += [f"no image can be read of {classes[index]}" for index in lost]
    return ImageFiles(
        paths,
        targets,
        classes,
        channels=rules.channels,
        skips_bad=is_skipping,
        num_left_out=len(bad),
        scaled_decoding=rules.scaled_decoding,
    )
