"""The checkpoints of one run: which there are, which are kept, which is the newest that can be trusted.

    last.pth                         after each save
    best.pth                         of the best epoch
    checkpoint-epoch<N>.pth          at the end of epoch N
    checkpoint-epoch<N>-step<S>.pth  within epoch N, after S steps in all

Each is one file with several names: last.pth is written, the others are linked to it, and only then are old ones
removed. Whatever is interrupted in between, what was saved before is still there.
"""

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.durable_file import link, remove_leftovers
from utils.errors import CheckpointError

log = logging.getLogger("run")
_NUMBERED = re.compile(r"checkpoint-epoch([0-9]+)(?:-step([0-9]+))?\.pth")
# Within an epoch the one before the last is kept too: last.pth shares its bytes with the last.
KEPT_WITHIN_EPOCH = 2

# (epochs done, steps in all where there are some after those epochs): ascends with training.
Position = tuple[int, int]


class Checkpoints:
    """The checkpoints in one folder, by one process at a time.

    Args:
        folder: save_dir/models/<name>/<run_id>.
        period: a numbered one is kept every so many epochs.
        keep: how many of those, besides best.pth and last.pth; None keeps all.
    """

    def __init__(self, folder: Path, *, period: int = 1, keep: int | None = None):
        self.folder, self.period, self.keep = folder, period, keep
        self.last, self.best = folder / "last.pth", folder / "best.pth"

    def save(self, state: dict[str, Any], *, improved: bool = False, check: Callable[[], None] | None = None) -> None:
        """Writes last.pth and gives it its other names; when this returns, it is on the disk.

        Args:
            state: of a trainer.
            improved: whether it is the best so far.
            check: see `save_checkpoint`.

        Raises:
            OutputError: it cannot be written; what was saved before is whole.
        """
        save_checkpoint(self.last, state, check)
        if improved:
            link(self.last, self.best)
        numbered = self._numbered_name(position_of(state))
        if numbered is not None:
            link(self.last, numbered)
        self._forget_old(position_of(state))

    def _numbered_name(self, position: Position) -> Path | None:
        """Where a state of this position is kept besides last.pth; None where it is not."""
        epochs, steps = position
        if steps:
            return self.folder / f"checkpoint-epoch{epochs + 1}-step{steps}.pth"
        return self.folder / f"checkpoint-epoch{epochs}.pth" if epochs and epochs % self.period == 0 else None

    def _forget_old(self, now: Position) -> None:
        """Only numbered ones up to now: those of a future that is trained anew are nobody's to remove."""
        past = {position: path for position, path in self.numbered().items() if position <= now}
        at_ends = [position for position in past if not position[1]]
        within = [position for position in past if position[1]]
        old = at_ends[: -self.keep] if self.keep is not None else []
        old += [position for position in within if at_ends and position < at_ends[-1]]
        old += within[:-KEPT_WITHIN_EPOCH]
        for position in set(old):
            past[position].unlink(missing_ok=True)

    def numbered(self) -> dict[Position, Path]:
        """The numbered ones by what they hold, the oldest first."""
        found = {}
        for path in self.folder.glob("checkpoint-epoch*.pth"):
            match = _NUMBERED.fullmatch(path.name)
            if match:
                epoch, step = int(match[1]), int(match[2] or 0)
                found[(epoch - 1, step) if step else (epoch, 0)] = path
        return dict(sorted(found.items()))

    def newest_valid(self) -> tuple[Path, dict[str, Any], list[str]]:
        """The newest one that is whole, its content, and a line on each newer one that is not.

        Raises:
            CheckpointError: there is none; says what is wrong with each.
        """
        damaged: list[str] = []
        whole: list[tuple[Position, Path, dict[str, Any]]] = []
        for path in (self.last, *reversed(self.numbered().values()), self.best):
            # A numbered one says by its name that it is older than what was found already.
            if path.exists() and not (whole and path != self.best):
                try:
                    state = load_checkpoint(path)
                    whole.append((position_of(state), path, state))
                except CheckpointError as error:
                    damaged.append(str(error))
            if whole and whole[0][1] == self.last:
                break
        if whole:
            _, path, state = max(whole, key=lambda one: one[0])
            return path, state, damaged
        found = "\n  ".join(damaged)
        raise CheckpointError(f"{self.folder}: no checkpoint" + (f" that can be used\n  {found}" if damaged else ""))

    def is_last(self, state: Mapping[str, Any]) -> bool:
        """Whether last.pth stands where a state does."""
        return _stands_at(self.last, position_of(state))

    def go_on_from(self, state: Mapping[str, Any], best_epoch: int | None) -> None:
        """Makes the folder that of the history that is continued.

        Going on from an older checkpoint leaves others of a future that will be trained anew: they are set aside.

        Args:
            state: that is continued.
            best_epoch: of its history; best.pth is made that one where it is another.
        """
        remove_leftovers(self.folder)
        now = position_of(state)
        for position, path in self.numbered().items():
            if position > now:
                self._set_aside(path, now)
        self._match_best(best_epoch, now)
        numbered = self._numbered_name(now)  # missing where a process was killed just before it was linked
        if numbered is not None and not numbered.exists() and _stands_at(self.last, now):
            link(self.last, numbered)
        self._forget_old(now)

    def _match_best(self, best_epoch: int | None, now: Position) -> None:
        """A process that was killed between its last.pth and its best.pth leaves a best.pth of the past."""
        found = None
        try:
            found = load_checkpoint(self.best)["epochs_done"] if self.best.exists() else None
        except CheckpointError as error:
            log.warning(f"warning: {error}")
            self._set_aside(self.best, now)
        if found is not None and found > now[0]:
            self._set_aside(self.best, now)
        if best_epoch is None or found == best_epoch:
            return
        for source in (self.folder / f"checkpoint-epoch{best_epoch}.pth", self.last):
            if _stands_at(source, (best_epoch, 0)):
                link(source, self.best)
                return
        log.warning(f"warning: {self.folder}: the best one, of epoch {best_epoch}, is nowhere whole any more")

    def _set_aside(self, path: Path, now: Position) -> None:
        aside, number = path.with_name(f"{path.stem}-before-going-back-to-epoch{now[0]}.pth"), 1
        while aside.exists():
            number += 1
            aside = path.with_name(f"{path.stem}-before-going-back-to-epoch{now[0]}-{number}.pth")
        path.rename(aside)
        log.info(f"going back to epoch {now[0]}: {path.name} is kept as {aside.name}")


def position_of(state: Mapping[str, Any]) -> Position:
    """Where a state stands: (epochs done, 0), or (epochs done, steps in all) within an epoch."""
    return state["epochs_done"], state["steps_done"] if state.get("progress") is not None else 0


def _stands_at(path: Path, position: Position) -> bool:
    try:
        return path.exists() and position_of(load_checkpoint(path)) == position
    except CheckpointError:
        return False
