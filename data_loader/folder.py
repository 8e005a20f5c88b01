"""Finds the images of an image-folder tree: which folder is which part, which folders are classes, what is left out.

    data_dir/train/<class>/<image>                          with evaluation|eval|valid|val|validation/ and test/
    data_dir/<class>/<image>                                one tree, to be split

Every file that is passed over is named. Called by data_loaders.py; nothing is decoded here but to judge a file.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NoReturn

from data_loader.dataset import ImageFiles
from data_loader.decode import IMAGE_SUFFIXES, find_bad_images
from data_loader.parts import Parts
from utils.errors import DataError, some

VALIDATION_NAMES = ("evaluation", "eval", "valid", "val", "validation")
PART_NAMES = ("train", "test", *VALIDATION_NAMES)


@dataclass(frozen=True)
class FileRules:
    """How image files are read: grey or RGB, what happens with a bad one, and which classes there must be."""

    channels: int = 3
    on_bad_image: Literal["error", "skip"] = "error"
    classes: list[str] | None = None


@dataclass
class ClassFolders:
    """What one folder of class folders holds."""

    files: dict[str, list[str]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    num_hidden: int = 0


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
    folders = _part_folders(data_dir, parts.notes)
    if not training:
        used = next(name for name in ("test", "validation", "train") if name in folders)
        folders = {used: folders[used]}
    for part, folder in folders.items():
        rules_here = replace(rules, classes=rules.classes or (parts.train.classes if parts.train else None))
        found = scan_class_folders(folder)
        setattr(parts, part, _to_dataset(found, folder, rules_here, parts.notes, exact=training and part != "train"))
        parts.folders[part] = str(folder)
    return parts


def _part_folders(data_dir: Path, notes: list[str]) -> dict[str, Path]:
    """Which folder is which part, training first; one tree of classes is a training part."""
    visible = [name for name in next(os.walk(data_dir, onerror=_refuse))[1] if not name.startswith(".")]
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


def scan_class_folders(folder: Path) -> ClassFolders:
    """Lists the images below each class folder, in the order of their names, sub-folders included.

    Hidden files and folders are passed over; so are files that are no images, and links back to a folder above.
    """
    found = ClassFolders()
    _require_readable_names(folder)
    _, folders, files = next(os.walk(folder, onerror=_refuse))
    for name in sorted([*folders, *files]):
        path = os.path.join(folder, name)
        if name.startswith("."):
            found.num_hidden += 1
        elif name in folders and not _leads_back(path, folder):
            found.files[name] = _images_below(path, found)
        else:
            found.ignored.append(path)
    return found


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _leads_back(path: str, folder: str | Path) -> bool:
    """Whether a folder is `folder` itself or one above it."""
    real = os.path.realpath(path)
    return os.path.commonpath([real, os.path.realpath(folder)]) == real


def _require_readable_names(folder: Path) -> None:
    """Names in another encoding than UTF-8, as old archives have them, could not be written into any result."""
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
                raise DataError(f"{os.path.join(here, name)!a}: a name that is not UTF-8; rename it (convmv can)")


def _images_below(class_folder: str, found: ClassFolders) -> list[str]:
    images: list[str] = []
    visited = {os.path.realpath(class_folder)}
    for folder, folders, files in os.walk(class_folder, followlinks=True, onerror=_refuse):
        found.num_hidden += sum(name.startswith(".") for name in (*folders, *files))
        seen = sorted(name for name in folders if not name.startswith("."))
        folders.clear()
        for name in seen:
            path = os.path.join(folder, name)
            if os.path.realpath(path) in visited or _leads_back(path, class_folder):
                found.ignored.append(path)
            else:
                visited.add(os.path.realpath(path))
                folders.append(name)
        for name in sorted(name for name in files if not name.startswith(".")):
            is_image = os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
            (images if is_image else found.ignored).append(os.path.join(folder, name))
    return images


def _to_dataset(found: ClassFolders, folder: Path, rules: FileRules, notes: list[str], *, exact: bool) -> ImageFiles:
    """Checks what was found against what is expected, and makes a data set of it."""
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
    paths = [path for name in classes for path in found.files.get(name, [])]
    targets = [index for index, name in enumerate(classes) for _ in found.files.get(name, [])]
    if empty:
        notes.append(f"{folder}: empty class folders left out: {some(empty)}")
    if found.ignored:
        notes.append(f"{folder}: {len(found.ignored)} file(s) ignored, not images: {some(found.ignored)}")
    if found.num_hidden:
        notes.append(f"{folder}: {found.num_hidden} hidden file(s) or folder(s) ignored")
    return without_bad_images(paths, targets, classes, rules, notes)


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


def without_bad_images(
    paths: list[str], targets: list[int], classes: list[str], rules: FileRules, notes: list[str]
) -> ImageFiles:
    """A data set of the files that look as if they can be read.

    They are judged by their first and last bytes, and decoded only where those look wrong. What is damaged in its
    middle shows when it is decoded; then "skip" passes over it (see base/keyed.py).

    Raises:
        DataError: a file cannot be read and the rule is "error".
    """
    is_skipping = rules.on_bad_image == "skip"
    bad = find_bad_images(paths, thorough=False, num_threads=os.cpu_count() or 1)
    if bad and not is_skipping:
        path, reason = bad[0]
        more = f" ({len(bad)} bad images in all: {some([p for p, _ in bad[1:]])})" if len(bad) > 1 else ""
        raise DataError(f'{path}: {reason}{more}\n  "on_bad_image": "skip" leaves such files out and names them')
    if bad:
        reasons = dict(bad)
        kept = [(path, target) for path, target in zip(paths, targets, strict=True) if path not in reasons]
        if not kept:
            raise DataError(f"{bad[0][0]}: {bad[0][1]}; no image of this part can be read")
        lost = sorted(set(targets) - {target for _, target in kept})
        paths, targets = [path for path, _ in kept], [target for _, target in kept]
        notes += [f"bad image left out: {path}: {reason}" for path, reason in bad]
        notes += [f"no image can be read of {classes[index]}" for index in lost]
    return ImageFiles(paths, targets, classes, channels=rules.channels, skips_bad=is_skipping, num_left_out=len(bad))
