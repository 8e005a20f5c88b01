"""Says what is on pictures: `python predict.py -r saved/models/best.pth photos/ more/*.jpg`.

PATH is a file, a folder (with those in it), a pattern in quotes, or - for a list on standard input. The checkpoint
brings everything: network, weights, class names, preprocessing. What cannot be read is listed with the reason.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from utils.command_line import Command, Parser
from utils.errors import ConfigError, DataError, exit_on_user_error


def read_words(words: Sequence[str] | None = None) -> Command:
    """The command line, and the config files that it names."""
    parser = Parser(takes_paths=True, prog="predict.py", description=__doc__)
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="a file, a folder, a pattern, or - for a list on standard input")
    add("--out", metavar="FILE", help="predictions.csv by default (or .json, .jsonl); - for standard output")
    add("--format", choices=("csv", "json", "jsonl"), help="by the name of --out, else csv")
    add("--top-k", metavar="K", type=int, default=1, help="the K most probable classes of each picture")
    add("--probabilities", action="store_true", help="the probabilities of all classes too")
    add("--batch-size", metavar="N", type=int, help="as in validation by default; another changes the last digits")
    add("--num-workers", metavar="N", type=int, help="processes that decode; by the machine by default")
    views = ("none", "flip", "flip_and_shift")
    add("--views", choices=views, help="what is looked at of each picture; trainer.test_time_views by default")
    add("--contact-sheet", metavar="PNG", type=Path, help="a picture of up to 48 of the pictures with their classes")
    add("--explain", metavar="DIR", type=Path, help="for each picture a PNG of what speaks for its class (Grad-CAM)")
    command = parser.read((), words)
    if command.args.is_auto:
        raise ConfigError("command line: -r auto continues a training; give the trained checkpoint, such as best.pth")
    if not command.args.paths and not (command.args.print_config or command.args.print_origins or command.args.schema):
        raise ConfigError("command line: give pictures: files, folders, patterns, or - for a list on standard input")
    if command.args.top_k < 1:
        raise ConfigError(f"command line: --top-k {command.args.top_k}: must be at least 1")
    return command


COMMAND = None
if __name__ == "__main__":
    with exit_on_user_error():
        COMMAND = read_words()  # here, because torch takes seconds to import, and --help need not wait for it

import contextlib
import io
import logging
import os
import re
import time
from dataclasses import dataclass, field

import torch

from base.base_data_loader import BaseDataLoader
from data_loader.decode import decode_image
from data_loader.listed import Listing, list_files, open_listed
from data_loader.recorded import KEY, pixel_path
from logger.logger import close_log, open_log
from logger.outputs import opened, output_of, require_room, write
from logger.overlay import TILE_PX, Tile, sheet_png
from logger.predicted import KINDS, Rows, Said, ranked
from logger.progress import Progress
from logger.summary import aligned, shown
from parse_config import ConfigParser
from trainer.inference import Answer, answers
from trainer.views import Kind
from utils.device import describe
from utils.errors import EXIT_FAILED
from wiring.explained import Explainer
from wiring.trained import Trained, checkpoint_of, open_trained

NUM_TILES, NUM_NAMED, MAX_NAME = 48, 20, 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # in names on the screen


@dataclass
class Work:
    """What a command is to do, and what has come of it so far."""

    trained: Trained
    listing: Listing
    loader: BaseDataLoader
    shape_CHW: tuple[int, ...]
    explainer: Explainer | None
    num_best: int
    num_unread: int = 0
    other_sizes: dict[tuple[int, ...], int] = field(default_factory=dict)
    tiles: dict[int, Said] = field(default_factory=dict)


def main(words: Sequence[str] | None = None, command: Command | None = None) -> int:
    """Predicts, writes, and gives the exit code: 1 where a picture could not be read."""
    command = command or read_words(words)
    config = ConfigParser.from_args(command, training=False)
    args, checkpoint, log = config.args, checkpoint_of(config), open_log(None)
    for handler in log.handlers:
        handler.setStream(sys.stderr)  # type: ignore[attr-defined]  # standard output is for results
    try:
        with config.locating():
            work = prepare(config)
        out, kind = output_of(args.out, args.format)
        require_room([args.resume, *work.listing.paths], [out, args.contact_sheet], args.explain)
        trained = work.trained
        rows = {"checkpoint": f"{shown(args.resume)}, trained for {checkpoint['epochs_done']} epochs"}
        rows |= {"device": describe(trained.devices[0]), "precision": str(trained.precision)}
        rows |= {"pictures": f"{len(work.listing.paths):,}, which may be of {len(trained.classes)} classes"}
        log.info(aligned(rows))
        for note in notes_before(work, args.top_k):
            log.info(f"note: {note}")
        with opened(out) as file:
            table = KINDS[kind](file, trained.classes, work.num_best, with_all=args.probabilities)
            try:
                predict(work, table, args.views, args.explain, log)
            finally:
                table.close()
        for note in notes_after(work):
            log.info(f"note: {note}")
        if args.contact_sheet is not None:
            heading = f"{len(work.tiles)} of {len(work.listing.paths):,} pictures, {shown(args.resume)}"
            write(args.contact_sheet, sheet_png([tile_of(work, at) for at in sorted(work.tiles)], heading))
        log.info(f"written to {'standard output' if out is None else shown(out)}")
        return EXIT_FAILED if work.num_unread else 0
    finally:
        close_log()


def prepare(config: ConfigParser) -> Work:
    """Lists the pictures, and opens network and loader.

    Raises:
        UserError: there is nothing to look at, or the checkpoint does not say how.
    """
    args, plan = config.args, config.plans["data_loader"]
    is_typed = any(name.startswith(KEY) for name, _, _ in config.changes)
    pixels = pixel_path(checkpoint_of(config), plan, is_typed=is_typed, allowed=args.allow, file=shown(args.resume))
    listing = list_files(args.paths, sys.stdin.buffer if sys.stdin is not None else io.BytesIO())
    collate = plan.args.get("collate_fn")
    loader = open_listed(
        listing.paths,
        pixels,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        collate=None if collate is None else collate.build(),
    )
    trained = open_trained(config, torch.zeros(pixels.shape_CHW, dtype=torch.uint8))
    explainer = Explainer(trained, pixels.shape_CHW) if args.explain is not None else None
    work = Work(trained, listing, loader, pixels.shape_CHW, explainer, min(args.top_k, len(trained.classes)))
    if args.contact_sheet is not None:
        count = min(NUM_TILES, len(listing.paths))
        chosen = torch.linspace(0, len(listing.paths) - 1, count, dtype=torch.float64).round().long()
        work.tiles = {position: Said("") for position in chosen.tolist()}
    return work


def predict(work: Work, table: Rows, views: Kind | None, folder: Path | None, log: logging.Logger) -> None:
    """Writes a row for each picture, in their order, a batch at a time.

    Args:
        work: what to do.
        table: receives the rows.
        views: see `Trained.network`.
        folder: for explanations.
        log: is told which pictures cannot be read, and how fast it was.
    """
    loader, paths = work.loader, work.listing.paths
    waiting: dict[int, Said] = {}

    def hand_over(end: int) -> None:
        """Writes all rows before a position."""
        for at in [at for at in loader.bad if at < end]:
            waiting[at] = Said(paths[at], error=loader.bad.pop(at).removeprefix(f"{paths[at]}: "))
        rows = [waiting[at] for at in sorted(waiting)]
        work.tiles.update({at: said for at, said in waiting.items() if at in work.tiles})
        waiting.clear()
        note_unread(work, rows, log)
        table.add(rows)

    problems = [Said(name, error=reason) for name, reason in work.listing.problems]
    note_unread(work, problems, log)
    table.add(problems)
    network, to_input, size = work.trained.network(views), work.trained.to_input(), loader.images_per_batch
    progress, started_s, num_done = Progress(len(loader), "predicting"), time.perf_counter(), 0
    batches = (pair for batch in loader for pair in batch)
    for answer in answers(network, batches, to_input, work.shape_CHW):
        positions = answer.positions_N.tolist()
        waiting |= zip(positions, said_of(work, answer, with_all=table.with_all), strict=True)
        num_done += len(positions)
        if folder is not None and answer.logits_NK is not None:
            explain(work, answer, folder)
        start = positions[0] // size * size
        end = min(start + size, len(paths))
        if len(waiting) + sum(start <= at < end for at in loader.bad) >= end - start:
            hand_over(end)
            progress.step(lambda: {"images/s": f"{num_done / (time.perf_counter() - started_s):.0f}"})  # noqa: B023
    hand_over(len(paths))
    progress.close()
    taken_s = time.perf_counter() - started_s
    log.info(f"{num_done:,} pictures in {taken_s:.1f} s, {num_done / taken_s:,.0f} images/s")


def said_of(work: Work, answer: Answer, *, with_all: bool) -> list[Said]:
    """The rows of a batch."""
    paths, classes = work.listing.paths, work.trained.classes
    positions = answer.positions_N.tolist()
    if answer.logits_NK is None:
        return [Said(paths[at], error=answer.problem) for at in positions]
    shape_CHW = tuple(answer.images_NCHW.shape[1:])
    if shape_CHW != work.shape_CHW:
        work.other_sizes[shape_CHW] = work.other_sizes.get(shape_CHW, 0) + len(positions)
    best, confidences, probabilities = ranked(answer.logits_NK, work.num_best, work.trained.temperature)
    return [
        Said(paths[at], [classes[index] for index in best[row]], confidences[row], probabilities[row] * with_all)
        for row, at in enumerate(positions)
    ]


def explain(work: Work, answer: Answer, folder: Path) -> None:
    """Writes a PNG for each picture of a batch, named by its number in the list and its name."""
    if work.explainer is None or answer.logits_NK is None:
        return
    pictures = work.explainer.overlays(answer.images_NCHW, answer.logits_NK.argmax(1).tolist())
    for at, png in zip(answer.positions_N.tolist(), pictures, strict=True):
        stem = re.sub(r"[^\w.-]", "_", os.path.splitext(os.path.basename(work.listing.paths[at]))[0])[:MAX_NAME]
        write(folder / f"{at:06}_{stem}.png", png)


def note_unread(work: Work, rows: Sequence[Said], log: logging.Logger) -> None:
    """Says of the first few which they are; all of them are in the table."""
    for said in rows:
        if said.error:
            work.num_unread += 1
            if work.num_unread <= NUM_NAMED:
                log.warning(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", f"not read: {said.path}: {said.error}"))


def notes_before(work: Work, top_k: int) -> list[str]:
    """What is to be said before anything is done."""
    notes = list(work.trained.notes)
    if work.listing.num_repeated:
        notes.append(f"{work.listing.num_repeated} paths were named more than once; each picture is looked at once")
    if top_k > work.num_best:
        notes.append(f"--top-k {top_k}: there are {work.num_best} classes, so there are as many")
    if work.trained.temperature != 1:
        notes.append(f"confidences are calibrated (temperature {work.trained.temperature:.4g})")
    return notes


def notes_after(work: Work) -> list[str]:
    """What is to be said at the end."""
    notes = []
    if work.other_sizes:
        such_as = "x".join(map(str, next(iter(work.other_sizes))[1:]))
        trained_on = "x".join(map(str, work.shape_CHW[1:]))
        notes.append(
            f"{sum(work.other_sizes.values())} pictures reached the network at other sizes (such as {such_as}) than "
            f"the {trained_on} of its training, since no transform cuts them; what is said of them may mean little"
        )
    if work.num_unread:
        more = f"; the first {NUM_NAMED} are named above" if work.num_unread > NUM_NAMED else ""
        notes.append(f"{work.num_unread} could not be read{more}; all have a row with the reason")
    return notes


def tile_of(work: Work, position: int) -> Tile:
    """A picture of the contact sheet, decoded again."""
    said = work.tiles[position]
    name = os.path.basename(said.path)
    if said.error:
        return Tile(None, "not read", name)
    with contextlib.suppress(DataError):  # taken away meanwhile
        image_CHW = decode_image(
            said.path, 3, lambda height, width: next((by for by in (8, 4, 2) if min(height, width) >= by * TILE_PX), 1)
        )
        return Tile(image_CHW, f"{said.confidences[0]:.2f} {said.classes[0]}", name)
    return Tile(None, f"{said.confidences[0]:.2f} {said.classes[0]}", name)


if __name__ == "__main__":
    with exit_on_user_error():
        raise SystemExit(main(command=COMMAND))
