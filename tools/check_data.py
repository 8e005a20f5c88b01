"""Looks a data set over before anybody trains on it: `python -m tools.check_data data/my_pictures`.

Every image is decoded. What is found goes to the screen, to data_report.json, and with thumbnails to data_report.html.
Nothing is moved, changed or deleted. Exit code: 0 nothing is wrong, 1 something is, 2 the command cannot be done.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from utils.command_line import ROOT
from utils.cores import usable_cores
from utils.errors import EXIT_FAILED, ConfigError, exit_on_user_error


def read_words(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; the words themselves are `words`."""
    parser = argparse.ArgumentParser(prog="python -m tools.check_data", description=__doc__)
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="as data_dir in a config")
    parser.add_argument("--out", metavar="DIR", type=Path, help="for the reports; by default saved/data_report/<name>")
    help_text = "write a list of the files to look at or leave out into DIR; they stay where they are"
    parser.add_argument("--quarantine", metavar="DIR", type=Path, help=help_text)
    parser.add_argument("--processes", metavar="N", type=int, default=usable_cores(), help="by default one a core")
    args = parser.parse_args(words)
    args.words = None if words is None else list(words)
    if args.processes < 1:
        raise ConfigError(f"command line: --processes {args.processes}: should be at least 1")
    return args


ARGS = None
if __name__ == "__main__":
    with exit_on_user_error():
        ARGS = read_words()  # here, because torch takes seconds to import, and --help need not wait for it

import sys
import time

from logger.summary import aligned, shown
from tools.data_facts import list_folders, read_pictures
from tools.data_findings import Finding, findings_of, summary_of
from tools.data_report import Report, checked_folder, write_quarantine, write_reports
from utils.text import printable

NUM_NAMED = 5  # files of one kind on the screen; the reports have more


def main(words: Sequence[str] | None = None, args: argparse.Namespace | None = None) -> int:
    """Looks, says and writes what was found; gives the exit code."""
    args = args or read_words(words)
    name = args.folders[0].resolve().name or "data"
    out = checked_folder(args.out or ROOT / "saved" / "data_report" / name, "--out")
    quarantine = args.quarantine and checked_folder(args.quarantine, "--quarantine")
    started_s = time.monotonic()
    listing = list_folders(args.folders)
    pictures = read_pictures(listing, args.processes)
    took_s = time.monotonic() - started_s
    findings = findings_of(listing, pictures)
    report = Report([str(folder) for folder in args.folders], summary_of(listing, pictures), findings, pictures)
    written = [
        *write_reports(report, listing, out),
        *([write_quarantine(report, listing, quarantine)] if quarantine else []),
    ]
    rate = f"{len(pictures):,} images in {took_s:.1f} s ({len(pictures) / took_s:,.0f}/s, {args.processes} processes)"
    sys.stdout.write("\n".join([*on_screen(report), rate, *(f"written: {shown(path)}" for path in written)]) + "\n")
    return EXIT_FAILED if any(finding.level != "note" for finding in findings) else 0


def on_screen(report: Report) -> list[str]:
    """The report in lines for a terminal."""
    summary = report.summary
    rows = {"data": ", ".join(map(printable, report.folders))}
    for part, counts in summary["counts"].items():
        least, most = min(counts.values()), max(counts.values())
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        rows[printable(part)] = f"{sum(counts.values()):,} images of {len(counts)} classes, {each} a class"
    rows["kinds"] = ", ".join(f"{kind['images']:,} {kind['format']} {kind['mode']}" for kind in summary["kinds"])
    if summary["sizes_px"]:
        spans = [
            "{} to {} (median {})".format(*(summary["sizes_px"][side][at] for at in (0, 2, 1)))
            for side in ("width", "height")
        ]
        rows["pixels"] = f"width {spans[0]}, height {spans[1]}"
    for part, moments in summary["pixels"].items():
        if moments:
            numbers = [", ".join(f"{value:.4f}" for value in moments[which]) for which in ("mean", "std")]
            rows[f"{printable(part)} RGB"] = f"mean {numbers[0]}; std {numbers[1]}"
    lines = [aligned(rows), ""]
    for finding in report.findings:
        lines += _lines_of(finding, report)
    return lines if report.findings else [*lines, "nothing is wrong"]


def _lines_of(finding: Finding, report: Report) -> list[str]:
    named = [f"{path}: {what}" if what else path for path, what in finding.files[:NUM_NAMED]]
    named += [" = ".join(report.paths_of(group[:3])) for group in finding.groups[:NUM_NAMED]]
    more = len(finding) - len(named)
    lines = [f"{finding.level}: {finding.text} ({len(finding):,})"]
    lines += [f"    {printable(line)}" for line in named]
    return [*lines, f"    and {more:,} more"] if more else lines


if __name__ == "__main__":
    with exit_on_user_error():
        raise SystemExit(main(args=ARGS))
