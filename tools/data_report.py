"""Writes what was found in a data set: data_report.json, data_report.html with thumbnails, and a list for a quarantine.

Called by check_data.py. Names of files and folders are a stranger's words: the page escapes them, and a screen is
shown none of their control characters.
"""

import base64
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from data_loader.decode import read_picture
from tools.data_facts import Listing, Pictures
from tools.data_findings import Finding
from utils.durable_file import replace_file
from utils.errors import DataError, OutputError
from utils.text import printable

THUMB_PX = 96
NUM_GROUPS, NUM_IN_GROUP, NUM_FILES, NUM_SAMPLES, NUM_CLASSES = 20, 4, 200, 4, 50  # on the page; JSON has all
_WITH_PICTURES = ("single_colour", "tiny", "animated", "wrongly_named")
_TO_SET_ASIDE = ("empty_file", "truncated", "not_an_image", "undecodable", "single_colour")


@dataclass
class Report:
    """What there is to tell.

    Args:
        folders: as they were given.
        summary: of data_findings.py.
        findings: the worst first.
        pictures: for the names behind positions.
    """

    folders: list[str]
    summary: dict[str, Any]
    findings: list[Finding]
    pictures: Pictures

    def paths_of(self, group: Iterable[int]) -> list[str]:
        """Of pictures, by their positions."""
        return [self.pictures.paths[int(at)] for at in group]


def checked_folder(folder: Path, option: str) -> Path:
    """Makes a folder for results, before anything is read.

    Raises:
        OutputError: it cannot be written.
    """
    with _explained(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    return folder


@contextmanager
def _explained(folder: Path, option: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{folder}: cannot write ({reason}) ({option})") from None


def write_reports(report: Report, listing: Listing, out: Path) -> list[Path]:
    """Both reports; gives their paths.

    Raises:
        OutputError: they cannot be written.
    """
    contents = {
        "data_report.json": json.dumps(plain(report, listing), indent=1, ensure_ascii=False) + "\n",
        "data_report.html": page(report, listing),
    }
    for name, text in contents.items():
        _write(out / name, text)
    return [out / name for name in contents]


def _write(path: Path, text: str) -> None:
    content = text.encode("utf-8", "backslashreplace")  # a name may hold what is no letter
    replace_file(path, lambda file: file.write(content), "the report")


def plain(report: Report, listing: Listing) -> dict[str, Any]:
    """The whole report as JSON can say it."""
    findings = []
    for finding in report.findings:
        about = {"kind": finding.kind, "level": finding.level, "text": finding.text, "number": len(finding)}
        about["files"] = [{"path": path, "what": what} for path, what in finding.files]
        about["groups"] = [[_of_one(report, listing, int(at)) for at in group] for group in finding.groups]
        findings.append(about)
    return {"folders": report.folders, **report.summary, "findings": findings}


def _of_one(report: Report, listing: Listing, at: int) -> dict[str, str]:
    pictures = report.pictures
    part, label = listing.parts[pictures.parts[at]], listing.classes[pictures.labels[at]]
    return {"path": pictures.paths[at], "part": part, "class": label}


def write_quarantine(report: Report, listing: Listing, folder: Path) -> Path:
    """A table of the files that one may want to set aside, with absolute paths and reasons.

    Of copies one is not in it, a test's rather than a training's; of what has two labels all are.

    Raises:
        OutputError: it cannot be written.
    """
    rows: dict[str, str] = {}
    for finding in report.findings:
        if finding.kind in _TO_SET_ASIDE:
            rows |= {path: what or finding.text for path, what in finding.files}
        if finding.groups:
            for group in finding.groups:
                kept = None if finding.kind.endswith("two_labels") else _kept(report.pictures, listing, group)
                for at in group.tolist():
                    if at != kept:
                        others = report.paths_of([kept] if kept is not None else group[group != at][:1])
                        rows.setdefault(report.pictures.paths[at], f"{finding.text}: {others[0]}")
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerows([("path", "reason"), *((os.path.abspath(path), printable(what)) for path, what in rows.items())])
    _write(folder / "quarantine.csv", text.getvalue())
    return folder / "quarantine.csv"


def _kept(pictures: Pictures, listing: Listing, group: np.ndarray) -> int:
    """The one that stays: the first that is not trained on, or else the first."""
    is_training = [listing.parts[pictures.parts[at]].endswith("train") for at in group.tolist()]
    return int(group[is_training.index(False) if False in is_training else 0])


def page(report: Report, listing: Listing) -> str:
    """The page: one file without scripts, that needs no network."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["printable"] = printable
    return environment.get_template("data_report.html.jinja").render(
        report=report,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        findings=[_on_page(finding, report, listing) for finding in report.findings],
        samples=_samples(report.pictures, listing),
        num_files=NUM_FILES,
    )


def _on_page(finding: Finding, report: Report, listing: Listing) -> dict[str, Any]:
    has_pictures = finding.kind in _WITH_PICTURES
    files = [
        (path, what, thumbnail(path) if has_pictures and number < NUM_GROUPS else None)
        for number, (path, what) in enumerate(finding.files[:NUM_FILES])
    ]
    groups = []
    for group in finding.groups[:NUM_GROUPS]:
        shown = [_of_one(report, listing, int(at)) for at in group[:NUM_IN_GROUP]]
        groups.append(([(one, thumbnail(one["path"])) for one in shown], len(group) - len(shown)))
    more = len(finding) - len(files) - len(groups)
    return {"finding": finding, "files": files, "groups": groups, "more": more}


def _samples(pictures: Pictures, listing: Listing) -> list[tuple[str, list[int], list[str | None]]]:
    """Each class with its number of images in each part, and a few of them."""
    rows = []
    for label, name in enumerate(listing.classes):
        counts = [len(found[name]) if name in found else 0 for found in listing.found]
        of_class = (
            np.flatnonzero(pictures.is_read & (pictures.labels == label)) if label < NUM_CLASSES else np.zeros(0, int)
        )
        chosen = of_class[np.linspace(0, len(of_class) - 1, min(NUM_SAMPLES, len(of_class))).astype(int)]
        rows.append((name, counts, [thumbnail(pictures.paths[at]) for at in chosen.tolist()]))
    return rows


def thumbnail(path: str) -> str | None:
    """A small JPEG of a file as a data: URI, drawn anew from its pixels; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            image = read_picture(path, file, lambda height, width: _factor(min(height, width))).upright
    except (OSError, DataError):
        return None
    image.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.BOX if image.width > THUMB_PX else Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _factor(side_px: int) -> int:
    return next((factor for factor in (8, 4, 2) if side_px // factor >= THUMB_PX), 1)
