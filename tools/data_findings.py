"""What is wrong with a data set, judged from what its files say, and the numbers that describe it.

Called by check_data.py. An "error" stops a training, a "warning" makes its result worse or its score untrue, and a
"note" is good to know.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tools.data_facts import WHOLE, Listing, Pictures
from tools.duplicates import exact_groups, near_groups

MAX_RATIO = 5  # of the largest class to the smallest one, above which it is said
TINY_PX = 16
Level = Literal["error", "warning", "note"]


@dataclass
class Finding:
    """One kind of thing that was found.

    Args:
        kind: a word for programs.
        level: see the top of this file.
        text: for a person.
        files: (path, what of it).
        groups: positions of pictures that belong together.
    """

    kind: str
    level: Level
    text: str
    files: list[tuple[str, str]] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files) or len(self.groups)


_PROBLEMS: dict[str, str] = {
    "empty_file": "empty: no bytes in the file",
    "truncated": "truncated image",
    "not_an_image": "no image of a format that is read, by the name of one",
    "undecodable": "cannot be decoded",
}
_NO_IMAGE = ("not an image", "a GIF", "a HEIC", "a Git LFS")


def findings_of(listing: Listing, pictures: Pictures) -> list[Finding]:
    """All that is to be said, the worst first."""
    found = [*_of_files(pictures), *_of_folders(listing), *_of_pixels(pictures)]
    found += [*_of_classes(listing), *_of_duplicates(listing, pictures)]
    order = ("error", "warning", "note")
    return sorted((finding for finding in found if len(finding)), key=lambda finding: order.index(finding.level))


def kind_of_problem(reason: str) -> str:
    """One of `_PROBLEMS` for what decode.py says of a file."""
    if reason == "empty file":
        return "empty_file"
    if reason.startswith(_NO_IMAGE):
        return "not_an_image"
    return "truncated" if reason.startswith("truncated") else "undecodable"


def _of_files(pictures: Pictures) -> Iterator[Finding]:
    by_kind: dict[str, list[tuple[str, str]]] = {kind: [] for kind in _PROBLEMS}
    for at, reason in pictures.problems.items():
        by_kind[kind_of_problem(reason)].append((pictures.paths[at], reason))
    for kind, files in by_kind.items():
        yield Finding(kind, "error", _PROBLEMS[kind], files)
    misnamed = np.flatnonzero(pictures.flags["is_misnamed"])
    names = [(pictures.paths[at], pictures.kind_names[pictures.kinds[at]][0]) for at in misnamed.tolist()]
    yield Finding("wrongly_named", "note", "named like another format, and read all the same", names)
    animated = [(path, "") for path in _paths(pictures, pictures.flags["is_animated"])]
    yield Finding("animated", "note", "animated: the first frame is used", animated)


def _of_folders(listing: Listing) -> Iterator[Finding]:
    lost = [(path, "") for path, what in listing.ignored if what is None]
    yield Finding("left_out", "warning", "left out: an image whose name does not end like one", lost)
    others = [(path, what) for path, what in listing.ignored if what is not None]
    yield Finding("not_used", "note", "passed over: no image", others)
    yield Finding("hidden", "note", "passed over: hidden", [(path, "") for path in listing.hidden])
    empty = [
        (os.path.join(folder, name), "")
        for folder, found in zip(listing.folders, listing.found, strict=True)
        for name, paths in found.items()
        if not len(paths)
    ]
    yield Finding("empty_class", "error", "class folder without images", empty)
    yield Finding("folders", "note", "folder that is not used", [(note, "") for note in listing.notes])


def _of_pixels(pictures: Pictures) -> Iterator[Finding]:
    flat = pictures.flags["is_flat"]
    yield Finding(
        "single_colour", "warning", "one colour and nothing else", [(path, "") for path in _paths(pictures, flat)]
    )
    tiny = np.flatnonzero(pictures.is_read & (pictures.sizes.min(1, initial=1 << 30) < TINY_PX))
    sizes = [(pictures.paths[at], "x".join(map(str, pictures.sizes[at]))) for at in tiny.tolist()]
    yield Finding("tiny", "warning", f"tiny: less than {TINY_PX} pixels high or wide", sizes)


def _of_classes(listing: Listing) -> Iterator[Finding]:
    missing, uneven = [], []
    for part, found in zip(listing.parts, listing.found, strict=True):
        counts = {name: len(paths) for name, paths in found.items() if len(paths)}
        missing += [(part, f"has no class {name}") for name in listing.classes if name not in counts]
        if counts and max(counts.values()) > MAX_RATIO * min(counts.values()):
            most, least = (pick(counts, key=counts.__getitem__) for pick in (max, min))
            uneven.append((part, f"{most}: {counts[most]}, {least}: {counts[least]}"))
    yield Finding("classes_differ", "error", "a part without a class that another one has", missing)
    text = f"the largest class has more than {MAX_RATIO} times the images of the smallest; "
    text += 'see "class_weights": "auto" and "sampler": "balanced"'
    yield Finding("imbalance", "warning", text, uneven)


def _of_duplicates(listing: Listing, pictures: Pictures) -> Iterator[Finding]:
    is_known = pictures.is_read
    known = np.flatnonzero(is_known)
    exact = [known[group] for group in exact_groups(pictures.digests[known])]
    yield from _kinds_of_groups(listing, pictures, exact, "duplicates", "the same file")
    copies = [at for group in exact for at in group[1:].tolist()]
    is_single = is_known & ~pictures.flags["is_flat"]
    is_single[copies] = False
    single = np.flatnonzero(is_single)
    near = [single[group] for group in near_groups(pictures.bits[single], pictures.grids[single])]
    yield from _kinds_of_groups(listing, pictures, near, "near_duplicates", "nearly the same picture")


def _kinds_of_groups(
    listing: Listing, pictures: Pictures, groups: Sequence[np.ndarray], kind: str, what: str
) -> Iterator[Finding]:
    """A group is said of the worst that it is: under two labels, else in two parts, else in one part."""
    two_labels, across, within = [], [], []
    for group in groups:
        if len(set(pictures.labels[group].tolist())) > 1:
            two_labels.append(group)
        elif len(set(pictures.parts[group].tolist())) > 1:
            across.append(group)
        else:
            within.append(group)
    yield Finding(f"{kind}_two_labels", "warning", f"{what} under two labels", groups=two_labels)
    yield Finding(f"{kind}_across_parts", "warning", f"{what} in two parts, which makes scores too good", groups=across)
    is_whole = any(part.endswith(WHOLE) for part in listing.parts)
    is_harmless = kind == "near_duplicates" and not is_whole
    text = f"{what} twice" + (", and a split may part them" if is_whole else "")
    yield Finding(f"{kind}_within_part", "note" if is_harmless else "warning", text, groups=within)


def _paths(pictures: Pictures, which: np.ndarray) -> list[str]:
    return [pictures.paths[at] for at in np.flatnonzero(which).tolist()]


def summary_of(listing: Listing, pictures: Pictures) -> dict[str, Any]:
    """Counts, sizes, kinds and moments, as plain data."""
    read = np.flatnonzero(pictures.is_read)
    kinds = np.bincount(pictures.kinds[read], minlength=len(pictures.kind_names)).tolist()
    return {
        "images": len(pictures),
        "decoded": len(read),
        "bytes": int(pictures.num_bytes.sum()),
        "counts": {
            part: {name: len(paths) for name, paths in found.items()}
            for part, found in zip(listing.parts, listing.found, strict=True)
        },
        "kinds": [
            {"format": name, "mode": mode, "images": count}
            for (name, mode), count in zip(pictures.kind_names, kinds, strict=True)
        ],
        "transparent": int(pictures.flags["is_transparent"].sum()),
        "sizes_px": _sizes(pictures.sizes[read]),
        "pixels": {
            part: _moments(pictures, np.flatnonzero(pictures.is_read & (pictures.parts == number)))
            for number, part in enumerate(listing.parts)
        },
    }


def _sizes(sizes_N2: np.ndarray) -> dict[str, Any]:
    if not len(sizes_N2):
        return {}
    shapes, counts = np.unique(sizes_N2, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:5]
    return {
        "width": [int(value) for value in np.percentile(sizes_N2[:, 0], (0, 50, 100))],
        "height": [int(value) for value in np.percentile(sizes_N2[:, 1], (0, 50, 100))],
        "different": len(shapes),
        "most_frequent": [
            {"width": int(shapes[at][0]), "height": int(shapes[at][1]), "images": int(counts[at])}
            for at in order.tolist()
        ],
    }


def _moments(pictures: Pictures, which: np.ndarray) -> dict[str, Any]:
    """Mean and standard deviation of each channel, every image counting the same, whatever its size."""
    if not len(which):
        return {}
    means_6 = pictures.moments[which].mean(0)
    deviations = np.sqrt(np.maximum(means_6[3:] - means_6[:3] ** 2, 0))
    return {
        "mean": [round(value, 6) for value in means_6[:3].tolist()],
        "std": [round(value, 6) for value in deviations.tolist()],
        "decoded_smaller": int(pictures.flags["is_reduced"][which].sum()),
    }
