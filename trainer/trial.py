"""A trial of a run before it starts, for `train.py --check`: a few real steps, an evaluation, a checkpoint and back.

It uses the trainer itself, so that what passes here trains. The caller gives it folders that are thrown away.
"""

import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from base.training_parts import TrainerOptions
from trainer.trainer import Trainer
from utils.checkpoint import load_checkpoint
from utils.errors import OutputError

TARGET_S = 5.0  # of the timed steps together; at least three, at most MAX_STEPS
MAX_STEPS = 20
NUM_VALID_BATCHES = 2


class FirstBatches:
    """The beginning of a loader.

    Args:
        loader: of validation images.
        num_batches: how many of its batches; all where it has fewer.
    """

    def __init__(self, loader: Any, num_batches: int):
        self.loader = loader
        self.num_batches = min(num_batches, len(loader))

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.loader), self.num_batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def try_run(trainer: Trainer, options: TrainerOptions) -> dict[str, str]:
    """Trains a few steps, judges a few validation batches, saves, and loads what was saved.

    Args:
        trainer: whose epochs are one step long, in folders that are thrown away.
        options: of the run itself.

    Returns:
        What it cost, in words, by what it is.

    Raises:
        OutputError: the disk has not enough room for the checkpoints of the run.
        UserError: whatever training would say.
    """
    epoch, group = trainer.epochs_done + 1, options.accumulate_steps
    loader, num_batches = trainer.valid_loader, 0
    if loader is not None:
        trainer.valid_loader = FirstBatches(loader, NUM_VALID_BATCHES)
        num_batches = len(loader)
    trainer._save()
    warm_s = _seconds(lambda: trainer._one_epoch(epoch))
    num_steps = max(3, min(MAX_STEPS, int(TARGET_S / warm_s)))
    trainer.len_epoch = num_steps * group
    step_s = _seconds(lambda: trainer._train_epoch(epoch + 1)) / num_steps
    valid_s = _seconds(lambda: trainer._valid_epoch(epoch + 1)) * num_batches / min(NUM_VALID_BATCHES, num_batches or 1)
    trainer.recorder.finish(trainer.context.passport.get("config", {}), trainer.recorder.history.last_row())
    trainer.recorder.close()
    trainer.saver.wait()
    last = trainer.models_dir / "last.pth"
    trainer.resume(load_checkpoint(last))
    epoch_s = -(-(options.len_epoch or len(trainer.train_loader)) // group) * step_s + valid_s
    num_epochs = options.epochs - epoch + 1
    return {
        "memory": _memory(trainer.device),
        "checkpoint": _room(last.stat().st_size, options.keep_checkpoints, trainer.models_dir),
        "step": f"{step_s:.3g} s (mean of {num_steps} steps)",
        "epoch": f"about {in_words(epoch_s)}, of which validation {in_words(valid_s)}",
        "run": f"about {in_words(epoch_s * num_epochs)} for {num_epochs} epochs",
    }


def in_words(seconds: float) -> str:
    """A duration with two units at most.

    >>> in_words(7.25), in_words(150), in_words(7320)
    ('7.2 s', '2 min 30 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _seconds(work: Callable[[], Any]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def _memory(device: torch.device) -> str:
    unit = 1 if sys.platform == "darwin" else 1024
    peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB at most"
    if device.type != "cuda":
        return peak
    return f"{peak}, on the GPU {torch.cuda.max_memory_reserved(device) / 2**30:.2f} GiB"


def _room(size: int, keep: int | None, folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    needed = size * ((keep or 1) + 3)  # best, last, and one that is being written
    if free < needed:
        raise OutputError(
            f"trainer.save_dir: {free / 2**20:,.0f} MiB are free, and the checkpoints need {needed / 2**20:,.0f} MiB"
        )
    return f"{size / 2**20:.3g} MiB, written and read back"
