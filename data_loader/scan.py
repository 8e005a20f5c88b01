"""Lists the images below a folder of class folders. What the folders mean is decided in folder.py; nothing is opened.

The result also says what it was read from: every folder, with what the system says of its last change. By that
index.py sees whether the same listing would come out again.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

from data_loader.decode import IMAGE_SUFFIXES
from data_loader.paths import PathList
from utils.errors import DataError


class FolderState(NamedTuple):
    """What changes when an entry of a folder is made, removed or renamed; the second cannot be set back by a copy."""

    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, folder: str) -> "FolderState":
        """As it is now; raises OSError where there is none."""
        found = os.stat(folder)
        return cls(found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@dataclass
class ClassFolders:
    """What one folder of class folders holds.

    Attributes:
        files: the images of each class, in the order of names.
        ignored: paths of what is passed over.
        num_hidden: files and folders passed over because they are hidden.
        folders: every folder that was listed, as it was before; "" is the one that holds the classes.
        has_links: whether something that is passed over is a link, which may lead somewhere else tomorrow.
    """

    files: dict[str, PathList] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    num_hidden: int = 0
    folders: dict[str, FolderState] = field(default_factory=dict)
    has_links: bool = False


class _Entry(NamedTuple):
    name: str
    is_folder: bool
    is_link: bool


def scan_class_folders(folder: Path) -> ClassFolders:
    """Lists the images below each class folder, in the order of their names, sub-folders included.

    Hidden files and folders are passed over; so are files that are no images, and links back to a folder above.

    Raises:
        DataError: a folder cannot be read, or a name is not UTF-8.
    """
    top = str(folder)
    found = ClassFolders()
    for entry in _listed(top, "", found):
        path = os.path.join(top, entry.name)
        if entry.is_folder and not (entry.is_link and _leads_back(path, top)):
            found.files[entry.name] = PathList.of(_images_below(top, entry.name, found), os.path.join(top, ""))
        else:
            found.ignored.append(path)
            found.has_links |= entry.is_link
    return found


def _images_below(top: str, name: str, found: ClassFolders) -> list[str]:
    """Images of one class, by their paths below `top`: those of a folder before those of the folders in it."""
    images: list[str] = []
    class_folder = os.path.join(top, name)
    real = os.path.realpath(class_folder)
    visited, waiting = {real}, [(name, real)]
    while waiting:
        below, real = waiting.pop()
        inside: list[tuple[str, str]] = []
        ignored: list[str] = []
        for entry in _listed(top, below, found):
            path = f"{below}{os.sep}{entry.name}"
            if entry.is_folder:
                # Only a link, or what may be one, leads elsewhere than down.
                real_path = (
                    os.path.realpath(os.path.join(top, path)) if entry.is_link else f"{real}{os.sep}{entry.name}"
                )
                if real_path in visited or (entry.is_link and _leads_back(real_path, class_folder)):
                    found.ignored.append(os.path.join(top, path))
                    found.has_links = True
                else:
                    visited.add(real_path)
                    inside.append((path, real_path))
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                images.append(path)
            else:
                ignored.append(os.path.join(top, path))
                found.has_links |= entry.is_link
        found.ignored += ignored
        waiting += reversed(inside)
    return images


def _listed(top: str, below: str, found: ClassFolders) -> list[_Entry]:
    """The entries of a folder that are not hidden, by name."""
    folder = os.path.join(top, below) if below else top
    try:
        found.folders[below] = FolderState.of(folder)
        with os.scandir(folder) as entries:
            seen = [(entry.name, entry) for entry in entries]
    except OSError as error:
        refuse(error)
    _require_readable_names(folder, (name for name, _ in seen))
    shown = sorted((pair for pair in seen if not pair[0].startswith(".")), key=lambda pair: pair[0])
    found.num_hidden += len(seen) - len(shown)
    return [_Entry(name, _is_folder(entry), entry.is_symlink() or os.name == "nt") for name, entry in shown]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def refuse(error: OSError) -> NoReturn:
    """Says which folder cannot be read."""
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _leads_back(path: str, folder: str) -> bool:
    """Whether a folder is `folder` itself or one above it."""
    real = os.path.realpath(path)
    return os.path.commonpath([real, os.path.realpath(folder)]) == real


def _require_readable_names(folder: str, names: Iterable[str]) -> None:
    """Names in another encoding than UTF-8, as old archives have them, could not be written into any result."""
    for name in names:
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"{os.path.join(folder, name)!a}: a name that is not UTF-8; rename it (convmv can)")
