"""When the learning rate changes: after each step, after each epoch, by a watched score, or never."""

import warnings
from typing import Any, Literal

from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau

from utils.errors import ConfigError

MAX_STEPS_AHEAD = 100_000  # of a schedule that is tried out before the run; takes under a second


class NoSchedule:
    """The learning rate stays as it is."""

    def step_done(self) -> None:
        """Nothing."""

    def epoch_done(self, scores: dict[str, float]) -> None:
        """Nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing."""

    def replay(self, epochs_done: int, steps_done: int) -> None:
        """Nothing."""


class Schedule:
    """One of torch's schedulers, stepped where it belongs.

    Args:
        scheduler: built on the optimizer.
        interval: "epoch" steps it after each epoch, "step" after each step of the optimizer.
        watched: the score that ReduceLROnPlateau is told.
    """

    def __init__(self, scheduler: LRScheduler, interval: Literal["epoch", "step"], watched: str):
        self.scheduler = scheduler
        self.interval = interval
        self.watched = watched
        self.by_score = isinstance(scheduler, ReduceLROnPlateau)
        if self.by_score and interval == "step":
            raise ConfigError('ReduceLROnPlateau watches a score of an epoch; use "epoch"', "lr_scheduler.interval")

    def step_done(self) -> None:
        """After each step of the optimizer."""
        if self.interval == "step":
            self.scheduler.step()

    def epoch_done(self, scores: dict[str, float]) -> None:
        """After each epoch, with its scores by their names ("val_loss")."""
        if self.by_score:
            self.scheduler.step(scores[self.watched])  # type: ignore[arg-type]  # a score, not an epoch
        elif self.interval == "epoch":
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's own."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The scheduler's own, which must be what a fresh one has: torch would set any attribute.

        Raises:
            ValueError: it holds something else.
        """
        strange = _strange_keys(state, self.scheduler.state_dict())
        if strange:
            raise ValueError(f"{type(self.scheduler).__name__} has no state '{strange[0]}'")
        self.scheduler.load_state_dict(state)

    def replay(self, epochs_done: int, steps_done: int) -> None:
        """Brings a fresh scheduler to where it would be, had it been there from the start.

        For a run that is continued with another learning rate or schedule. ReduceLROnPlateau cannot be replayed,
        because past scores are not told; it begins anew.
        """
        if self.by_score:
            return
        with warnings.catch_warnings():
            # torch warns that the optimizer has not stepped, which here it has not.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for _ in range(steps_done if self.interval == "step" else epochs_done):
                self.scheduler.step()


def _strange_keys(state: dict[str, Any], fresh: dict[str, Any]) -> list[str]:
    """Names of attributes that a fresh state does not have, in the states of schedulers within it too."""
    strange = [str(key) for key in state if key not in fresh]
    for key in state.keys() & fresh.keys():
        if isinstance(state[key], list) and isinstance(fresh[key], list):
            for inner, fresh_inner in zip(state[key], fresh[key], strict=False):
                if isinstance(inner, dict) and isinstance(fresh_inner, dict):
                    strange += _strange_keys(inner, fresh_inner)
    return strange


def remarks_on(scheduler: LRScheduler, num_steps: int, interval: str) -> list[tuple[tuple[str, ...], str]]:
    """What is odd about a schedule in a run of a given length: that it never acts, or ends elsewhere than the run.

    Args:
        scheduler: fresh, on an optimizer that nobody uses; is stepped here.
        num_steps: how often it will be stepped in the whole run.
        interval: "epoch" or "step", what those steps are called.

    Returns:
        For each remark the path of the argument in question within the section, and the sentence.
    """
    unit = f"{num_steps} {interval}{'s' if num_steps != 1 else ''}"
    if isinstance(scheduler, CosineAnnealingLR) and scheduler.T_max != num_steps:
        then = "rises again after that" if scheduler.T_max < num_steps else "does not come that far"
        message = f"the lowest learning rate is at {interval} {scheduler.T_max}; this run of {unit} {then}"
        return [(("args", "T_max"), message)]
    before = _rates(scheduler)
    # Nearly all change at once. One that is set for far more steps than these is left to itself.
    for _ in range(min(num_steps - 1, MAX_STEPS_AHEAD)):
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(1.0)  # a score that never improves
        else:
            scheduler.step()
        if _rates(scheduler) != before:
            return []
    if num_steps - 1 > MAX_STEPS_AHEAD:
        return []
    return [((), f"{type(scheduler).__name__} never changes the learning rate in this run of {unit}")]


def _rates(scheduler: LRScheduler) -> list[float]:
    return [float(group["lr"]) for group in scheduler.optimizer.param_groups]
