"""The outer loop of training: epochs, the best one, checkpoints, early stopping, and going on where a run ended.

What one epoch does is left to the subclass (trainer/trainer.py). What a checkpoint holds is decided here, in
`stateful` and `state_dict`: one list, and a test that fails when any one entry is taken out.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from base.background_saver import BackgroundSaver
from base.checkpoints import Checkpoints
from base.continuation import fitting, require_same_batches
from base.scores import checked_monitor, named_scores, scores_in_words
from base.training_parts import Learner, RunContext, TrainerOptions
from logger.progress import say_above_bar
from logger.recorder import EpochRecord
from logger.status import Status
from utils.errors import OutputError, TrainingError
from utils.optimizers import renew_settings
from utils.plain import digest_of
from utils.seed import global_rng_state, restore_global_rng
from utils.stop import RunStopped

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
        self.epoch_time_s = 0.0  # of the running epoch, in processes before this one
        self.epoch_lr: float | None = None  # at the beginning of the running epoch
        self.epoch_started_s, self.saved_s = time.perf_counter(), time.monotonic()
        self.is_last_saved = True  # whether last.pth holds what this process begins with
        self.stop = context.stop
        self.status = Status(self.models_dir / "STATUS.json")
        self.checkpoints = Checkpoints(self.models_dir, period=options.save_period, keep=options.keep_checkpoints)
        self.saver = BackgroundSaver()
        self.first_step_after_s: float | None = None  # since the command; on a GPU the step may still be running
        self.is_first_step_unsaid = True
        self.judged_again = ""  # in words, what came of it

    @abstractmethod
    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Trains epoch number `epoch`, counted from 1; gives the loss and the metrics over it."""

    @abstractmethod
    def _valid_epoch(self, epoch: int) -> dict[str, float]:
        """Judges the model on the validation images; empty where there are none."""

    def train(self) -> None:
        """Trains the epochs that are left. An interrupt says how to continue, and closes what is open.

        Raises:
            RunStopped: a signal or `max_minutes` asked for it; last.pth holds everything up to the last step.
            KeyboardInterrupt: at a second Ctrl-C.
        """
        try:
            with self.saver.closing():
                self.stop.limit(self.options.max_minutes)
                self.stop.phase = "training"
                if self.steps_done == 0 or not self.is_last_saved:
                    self._save()  # a run that is killed before its first save can be continued too
                    self.saver.wait()
                for epoch in range(self.epochs_done + 1, self.options.epochs + 1):
                    self._one_epoch(epoch)
                    if self.monitor.exhausted:
                        break
                    if epoch < self.options.epochs:
                        self._stop_if_asked(is_saved=True)
            if self.monitor.exhausted:
                log.info(f"stopped early: {self._why_stopped()} (trainer.early_stop)")
            self.status.say("running", digests=self.digests())
            self.judged_again = self._judge_again()
            scores = self.recorder.history.last_row(self.monitor.best_epoch)
            self.recorder.finish(self.context.passport.get("config", {}), scores)
        except KeyboardInterrupt:
            saved = f"{self.epochs_saved} of {self.options.epochs} epochs are saved"
            log.warning(f"{saved}. To continue:\n  {self.recorder.run.command_to_continue}")
            raise
        finally:
            self.recorder.close()

    def _step_done(self) -> None:
        """After each step: saves when it is time to, and ends the run if somebody asked.

        Raises:
            RunStopped: after saving.
        """
        if self.first_step_after_s is None:
            self.first_step_after_s = time.monotonic() - self.stop.begun_s
        every_steps, every_minutes = self.options.save_every_steps, self.options.save_every_minutes
        is_time = every_steps is not None and self.steps_done % every_steps == 0
        is_time |= every_minutes is not None and time.monotonic() - self.saved_s >= 60 * every_minutes
        if is_time:
            self._save()
        self._stop_if_asked(is_saved=is_time)

    def _stop_if_asked(self, *, is_saved: bool = False) -> None:
        """Ends the run if somebody asked; a validation is then done anew by who continues.

        Args:
            is_saved: whether a save of this very state is done, or running.

        Raises:
            RunStopped: after saving, unless that is done.
            Exception: whatever a save raised meanwhile.
        """
        self.saver.look()
        reason = self.stop.reason
        if reason is None:
            return
        if not is_saved:
            self._save()
        self.saver.wait()
        log.warning(
            f"stopped: {reason}; {self.steps_done} steps are saved, {self.epochs_done} of {self.options.epochs} "
            f"epochs are done. To continue:\n  {self.recorder.run.command_to_continue}"
        )
        raise RunStopped(reason)

    def _one_epoch(self, epoch: int) -> None:
        self.epoch_started_s = time.perf_counter()
        if self.epoch_lr is None:
            self.epoch_lr = float(self.learner.optimizer.param_groups[0]["lr"])
        train = self._train_epoch(epoch)
        train_s = time.perf_counter() - self.epoch_started_s
        self._say_first_step()
        val = self._valid_epoch(epoch)
        time_s = self._epoch_so_far_s()
        scores = named_scores(train, val)
        best_before = self.monitor.best
        improved = self.monitor.name is not None and self.monitor.update(scores[self.monitor.name], epoch)
        self.learner.schedule.epoch_done(scores)
        self.epochs_done, self.epoch_time_s = epoch, 0.0
        lr, self.epoch_lr = self.epoch_lr, None
        speed = self.images_trained / train_s
        self.load_progress(None)
        record = EpochRecord(epoch, time_s, lr, speed, train, val)
        self.recorder.write(record, self.monitor.best_epoch)
        line = self._line(record, best_before if improved else None, improved=improved)
        self._save(improved=improved, then=lambda: say_above_bar(log, line))

    def _why_stopped(self) -> str:
        monitor = self.monitor
        if monitor.best is None:
            return f"{monitor.name} has been no finite number for {monitor.patience} epochs"
        best = f"{monitor.best:.6g} of epoch {monitor.best_epoch}"
        return f"{monitor.name} has not improved on {best} for {monitor.patience} epochs"

    def _judge_again(self) -> str:
        """After the last epoch: judges the best checkpoint from its file, and says what came of it; empty for nothing.

        Everything is on the disk by then, and the run is finished, however this ends.
        """
        return ""

    def closing_warnings(self) -> list[str]:
        """What a good-looking number could hide; said after the last epoch."""
        return []

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimizer in an epoch; as many as in the epochs that are done, unless a subclass knows."""
        return self.steps_done // max(self.epochs_done, 1)

    @property
    @abstractmethod
    def images_trained(self) -> float:
        """How many images `_train_epoch` saw in this process, for the speed."""

    def progress(self) -> dict[str, Any] | None:
        """Plain data on the part of an epoch that is done, or None between epochs; a subclass may know more."""
        return None

    def load_progress(self, progress: dict[str, Any] | None) -> None:  # noqa: B027  nothing is promised
        """Puts the part of an epoch back; None at the end of each epoch."""

    def _say_first_step(self) -> None:
        """Once, and not while a bar is shown."""
        if self.first_step_after_s is not None and self.is_first_step_unsaid:
            self.is_first_step_unsaid = False
            log.debug(f"first step after {self.first_step_after_s:.1f} s")

    def _line(self, record: EpochRecord, best_before: float | None, *, improved: bool) -> str:
        """What is said of an epoch."""
        parts = [f"epoch {record.epoch}/{self.options.epochs}", "train " + scores_in_words(record.train)]
        if record.val:
            parts.append("val " + scores_in_words(record.val))
        parts.append(f"lr {record.lr:.4g}")
        digits = 0 if record.images_per_s >= 10 else 1
        speed = f"{record.time_s:.1f} s, {record.images_per_s:.{digits}f} images/s"
        parts.append(speed + self._speed_remark())
        if improved:
            change = f" from {best_before:.4g}" if best_before is not None else ""
            parts.append(f"{self.monitor.name} improved{change} to {self.monitor.best:.4g}, saved best.pth")
        return " | ".join(parts)

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
            "progress": self._progress_with_time(),
            "epochs_done": self.epochs_done,
            "steps_done": self.steps_done,
            "history": self.recorder.history.rows(),
            "rng": global_rng_state(self.context.devices),
        }

    def _progress_with_time(self) -> dict[str, Any] | None:
        progress = self.progress()
        if progress is None:
            return None
        return {**progress, "time_s": self._epoch_so_far_s(), "lr": self.epoch_lr}

    def _epoch_so_far_s(self) -> float:
        return self.epoch_time_s + time.perf_counter() - self.epoch_started_s

    def _save(self, *, improved: bool = False, then: Callable[[], None] | None = None) -> None:
        """Begins to commit where the run stands, under all names that it has; goes on while that is written.

        Args:
            improved: whether it is the best so far.
            then: is called, in this thread, once all of it is on the disk.

        Raises:
            TrainingError: the state holds a number that is not finite, or the one before could not be written; what
                was saved before stays. Of this one it is raised later.
        """
        self._require_finite()
        self.saver.wait()
        saved, epochs_done, steps_done = self.epochs_saved, self.epochs_done, self.steps_done

        def write(state: dict[str, Any], check: Callable[[], None]) -> None:
            try:
                self.checkpoints.save(state, improved=improved, check=check)
                self.status.say("running", epochs_done=epochs_done, steps_done=steps_done)
                for name in ("last.pth", "best.pth"):
                    self.recorder.run.publish(name)
            except OutputError as error:
                raise TrainingError(f"{error} ({saved} epochs were saved before)") from error

        def done() -> None:
            self.epochs_saved = epochs_done
            if then is not None:
                then()

        self.saver.start(self.state_dict(), write, done)
        self.saved_s = time.monotonic()

    def _require_finite(self) -> None:  # noqa: B027  nothing is promised
        """Raises where the state must not be saved."""

    def digests(self) -> dict[str, str]:
        """What must be equal, to the last bit, in two runs that are meant to be the same."""
        things = {name: digest_of(thing.state_dict()) for name, thing in self.stateful().items()}
        return things | {"history": digest_of(self.recorder.history.rows(without=("time_s",)))}

    def resume(self, state: Mapping[str, Any], changed: list[str] | None = None, *, has_new_data: bool = False) -> None:
        """Goes on from a checkpoint.

        Args:
            state: of `load_checkpoint`.
            changed: config paths that are not as they were. With another learning rate or schedule, the
                optimizer's settings are the new ones and the schedule is where it would be had they always been.
            has_new_data: the training images are not those of the checkpoint; an epoch that was begun begins anew.

        Raises:
            CheckpointError: the state does not fit these objects.
        """
        changed, progress = list(changed or []), state.get("progress")
        if has_new_data and progress is not None:
            # A schedule by steps goes back to the beginning of the epoch as well.
            by_step = getattr(self.learner.schedule, "interval", None) == "step"
            changed, progress = [*changed, *(["lr_scheduler"] if by_step else [])], None
        if progress is not None:
            require_same_batches(changed, state["epochs_done"])
        fresh_groups = [dict(group) for group in self.learner.optimizer.param_groups]
        new_settings = any(path.startswith(("optimizer.", "lr_scheduler")) for path in changed)
        for name, thing in self.stateful().items():
            if name == "schedule" and new_settings:
                continue
            with fitting(name):
                thing.load_state_dict(state[name])
        self.epochs_done, self.steps_done = state["epochs_done"], state["steps_done"]
        self.epochs_saved = self.epochs_done
        if new_settings:
            renew_settings(self.learner.optimizer, fresh_groups)
            # In steps as they are now, which another batch size may have made fewer.
            in_epoch = -(-progress["batches_done"] // self.options.accumulate_steps) if progress is not None else 0
            steps = self.epochs_done * self.steps_per_epoch + in_epoch
            with fitting("schedule"):
                self.learner.schedule.replay(self.epochs_done, steps)
            self.steps_done = steps if has_new_data else self.steps_done
        if progress is not None:
            with fitting("progress"):
                self.load_progress(progress)
            self.epoch_time_s, self.epoch_lr = progress["time_s"], progress["lr"]
        with fitting("rng"):
            restore_global_rng(state["rng"], self.context.devices)
        self.is_last_saved = not changed and self.checkpoints.is_last(state)
        self.checkpoints.go_on_from(state, self.monitor.best_epoch)
