"""The outer loop of training: epochs, the best one, checkpoints, early stopping, and going on where a run ended.

What one epoch does is left to the subclass (trainer/trainer.py). What a checkpoint holds is decided here, in
`stateful` and `state_dict`: one list, and a test that fails when any one entry is taken out.
"""

import logging
import random
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from base.training_parts import Learner, RunContext, TrainerOptions
from logger.recorder import EpochRecord
from utils.checkpoint import link, load_checkpoint, save_checkpoint
from utils.config_tree import suggest
from utils.errors import CheckpointError, ConfigError
from utils.monitor import Monitor

log = logging.getLogger("run")


class BaseTrainer(ABC):
    """Trains for `options.epochs` epochs; subclasses say what one epoch is."""

    def __init__(self, learner: Learner, options: TrainerOptions, context: RunContext, score_names: list[str]):
        self.learner = learner
        self.options = options
        self.context = context
        self.recorder = context.recorder
        self.device = context.devices[0]
        self.models_dir = context.recorder.run.models
        self.monitor = checked_monitor(options, score_names)
        self.epochs_done = 0
        self.steps_done = 0
        self.epochs_saved = 0  # lags behind epochs_done while an epoch is recorded and saved

    @abstractmethod
    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Trains epoch number `epoch`, counted from 1; gives the loss and the metrics over it."""

    @abstractmethod
    def _valid_epoch(self, epoch: int) -> dict[str, float]:
        """Judges the model on the validation images; empty where there are none."""

    def train(self) -> None:
        """Trains the epochs that are left. An interrupt says how to continue, and closes what is open."""
        try:
            if self.epochs_done == 0:
                self._save(improved=False)  # an interrupt in the first epoch can be continued too
            for epoch in range(self.epochs_done + 1, self.options.epochs + 1):
                self._one_epoch(epoch)
                if self.monitor.exhausted:
                    log.info(f"stopped early: {self._why_stopped()} (trainer.early_stop)")
                    break
            scores = self.recorder.history.last_row(self.monitor.best_epoch)
            self.recorder.finish(self.context.passport.get("config", {}), scores)
        except KeyboardInterrupt:
            log.warning(
                f"{self.epochs_saved} of {self.options.epochs} epochs are saved. To continue:\n"
                f"  python train.py -r {shlex.quote(str(self.models_dir / 'last.pth'))}"
            )
            raise
        finally:
            self.recorder.close()

    def _one_epoch(self, epoch: int) -> None:
        started_s = time.perf_counter()
        lr = float(self.learner.optimizer.param_groups[0]["lr"])
        train = self._train_epoch(epoch)
        train_s = time.perf_counter() - started_s
        val = self._valid_epoch(epoch)
        time_s = time.perf_counter() - started_s
        scores = named_scores(train, val)
        best_before = self.monitor.best
        improved = self.monitor.name is not None and self.monitor.update(scores[self.monitor.name], epoch)
        self.learner.schedule.epoch_done(scores)
        self.epochs_done = epoch
        record = EpochRecord(epoch, time_s, lr, self.images_per_epoch / train_s, train, val)
        self.recorder.write(record, self.monitor.best_epoch)
        self._save(improved=improved)
        self._say(record, best_before if improved else None, improved=improved)

    def _why_stopped(self) -> str:
        monitor = self.monitor
        if monitor.best is None:
            return f"{monitor.name} has been no finite number for {monitor.patience} epochs"
        best = f"{monitor.best:.6g} of epoch {monitor.best_epoch}"
        return f"{monitor.name} has not improved on {best} for {monitor.patience} epochs"

    def closing_warnings(self) -> list[str]:
        """What a good-looking number could hide; said after the last epoch."""
        return []

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimizer in an epoch; as many as in the epochs that are done, unless a subclass knows."""
        return self.steps_done // max(self.epochs_done, 1)

    @property
    @abstractmethod
    def images_per_epoch(self) -> int:
        """How many images `_train_epoch` sees, for the speed."""

    def _say(self, record: EpochRecord, best_before: float | None, *, improved: bool) -> None:
        """One line an epoch."""
        parts = [f"epoch {record.epoch}/{self.options.epochs}", "train " + _in_words(record.train)]
        if record.val:
            parts.append("val " + _in_words(record.val))
        parts.append(f"lr {record.lr:.4g}")
        digits = 0 if record.images_per_s >= 10 else 1
        speed = f"{record.time_s:.1f} s, {record.images_per_s:.{digits}f} images/s"
        parts.append(speed + self._speed_remark())
        if improved:
            change = f" from {best_before:.4g}" if best_before is not None else ""
            parts.append(f"{self.monitor.name} improved{change} to {self.monitor.best:.4g}, saved best.pth")
        log.info(" | ".join(parts))

    def _speed_remark(self) -> str:
        """What a subclass wishes to add to the speed."""
        return ""

    # --- checkpoints -------------------------------------------------------------------------------------------

    def stateful(self) -> dict[str, Any]:
        """What has a state of its own that must survive a restart."""
        return {
            "model": self.learner.model,
            "optimizer": self.learner.optimizer,
            "schedule": self.learner.schedule,
            "monitor": self.monitor,
        }

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint holds: plain data only."""
        return {
            **self.context.passport,
            **{name: thing.state_dict() for name, thing in self.stateful().items()},
            "epochs_done": self.epochs_done,
            "steps_done": self.steps_done,
            "rng": _rng_state(self.context.devices),
        }

    def _save(self, *, improved: bool) -> None:
        """Writes last.pth once, and gives the same file its other names."""
        last = self.models_dir / "last.pth"
        save_checkpoint(last, self.state_dict())
        self.epochs_saved = self.epochs_done
        if improved:
            link(last, self.models_dir / "best.pth")
        if self.epochs_done and self.epochs_done % self.options.save_period == 0:
            link(last, self.models_dir / f"checkpoint-epoch{self.epochs_done}.pth")
            self._forget_old_checkpoints()
        for filename in ("last.pth", "best.pth"):
            self.recorder.run.publish(filename)

    def _forget_old_checkpoints(self) -> None:
        if self.options.keep_checkpoints is None:
            return
        numbers = [n for n in checkpoint_epochs(self.models_dir) if n <= self.epochs_done]
        for number in numbers[: -self.options.keep_checkpoints]:
            (self.models_dir / f"checkpoint-epoch{number}.pth").unlink(missing_ok=True)

    def resume(self, state: Mapping[str, Any], changed: list[str] | None = None) -> None:
        """Goes on from a checkpoint.

        Args:
            state: of `load_checkpoint`.
            changed: config paths that are not as they were. With another learning rate or schedule, the
                optimizer's settings are the new ones and the schedule is where it would be had they always been.

        Raises:
            CheckpointError: the state does not fit these objects.
        """
        changed = changed or []
        fresh_groups = [dict(group) for group in self.learner.optimizer.param_groups]
        new_settings = any(path.startswith(("optimizer.", "lr_scheduler")) for path in changed)
        for name, thing in self.stateful().items():
            if name == "schedule" and new_settings:
                continue
            try:
                thing.load_state_dict(state[name])
            except (KeyError, ValueError, RuntimeError, TypeError) as error:
                reason = str(error).strip().splitlines()[-1].strip()
                raise CheckpointError(f"the checkpoint's {name} does not fit this config: {reason}") from None
        self.epochs_done, self.steps_done = state["epochs_done"], state["steps_done"]
        self.epochs_saved = self.epochs_done
        if new_settings:
            for group, fresh in zip(self.learner.optimizer.param_groups, fresh_groups, strict=True):
                group.update({key: value for key, value in fresh.items() if key != "params"})
            self.learner.schedule.replay(self.epochs_done, self.epochs_done * self.steps_per_epoch)
        _restore_rng(state["rng"], self.context.devices)
        self._match_best_to_history()

    def _match_best_to_history(self) -> None:
        """Makes best.pth that of the history that is continued.

        Going on from an older checkpoint leaves one of a future that will be trained anew: it is set aside. A process
        that was killed between its last.pth and its best.pth leaves one of the past.
        """
        best, wanted = self.models_dir / "best.pth", self.monitor.best_epoch
        found = load_checkpoint(best)["epochs_done"] if best.exists() else None
        if found is not None and found > self.epochs_done:
            aside = self.models_dir / f"best-before-going-back-to-epoch{self.epochs_done}.pth"
            best.rename(aside)
            log.info(f"going back to epoch {self.epochs_done}: the best of the later epochs is kept as {aside.name}")
        if wanted is None or found == wanted:
            return
        for source in (self.models_dir / f"checkpoint-epoch{wanted}.pth", self.models_dir / "last.pth"):
            if source.exists() and load_checkpoint(source)["epochs_done"] == wanted:
                link(source, best)
                return


def checked_monitor(options: TrainerOptions, score_names: list[str]) -> Monitor:
    """The monitor, held against the scores that there will be.

    Raises:
        ConfigError: it watches a score that nobody will compute.
    """
    monitor = Monitor.from_setting(options.monitor, options.early_stop or None, options.min_delta)
    if monitor.name is not None and monitor.name not in score_names:
        hint = (
            " (there are no validation images)"
            if monitor.name.startswith("val_") and not any(name.startswith("val_") for name in score_names)
            else ""
        )
        raise ConfigError(
            f"no score '{monitor.name}'{hint}.{suggest(monitor.name, score_names)} There are {', '.join(score_names)}, "
            f"or 'off'",
            "trainer.monitor",
        )
    return monitor


def named_scores(train: dict[str, float], val: dict[str, float]) -> dict[str, float]:
    """Scores by the names that monitors use; a bare name is the training score, as in pytorch-template.

    >>> named_scores({"loss": 1.0}, {"loss": 2.0})
    {'train_loss': 1.0, 'val_loss': 2.0, 'loss': 1.0}
    """
    prefixed = {f"train_{name}": value for name, value in train.items()}
    prefixed |= {f"val_{name}": value for name, value in val.items()}
    return prefixed | train


def score_names(metric_names: list[str], *, has_validation: bool) -> list[str]:
    """The names that a monitor can watch."""
    names = dict.fromkeys(["loss", *metric_names], 0.0)
    return list(named_scores(names, names if has_validation else {}))


def checkpoint_epochs(models_dir: Path) -> list[int]:
    """The epochs of the checkpoint-epoch<N>.pth files in a folder, ascending as numbers."""
    names = (path.stem.removeprefix("checkpoint-epoch") for path in models_dir.glob("checkpoint-epoch*.pth"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _in_words(scores: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _rng_state(devices: list[torch.device]) -> dict[str, Any]:
    """The global generators, for user code; the project's own draws are keyed and need none of this."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"],
    }


def _restore_rng(state: Mapping[str, Any], devices: list[torch.device]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    for device, of_device in zip([device for device in devices if device.type == "cuda"], state["cuda"], strict=False):
        torch.cuda.set_rng_state(of_device, device)
