"""Says after each epoch whether it is the best so far, and when to stop waiting for a better one."""

import math
from dataclasses import dataclass
from typing import Any

from utils.errors import ConfigError


@dataclass
class Monitor:
    """Watches one number, such as "min val_loss" or "max val_accuracy"; "off" watches none.

    Better means better by more than `min_delta`: a tie is no improvement, and neither is NaN. With
    `patience` p the run stops after p epochs in a row without improvement.
    """

    name: str | None
    higher_is_better: bool
    patience: int | None
    min_delta: float = 0.0
    best: float | None = None
    best_epoch: int | None = None
    bad_epochs: int = 0

    @classmethod
    def from_setting(cls, setting: str, patience: int | None, min_delta: float) -> "Monitor":
        """Reads "min NAME", "max NAME" or "off".

        Raises:
            ConfigError: the setting has another form, or there is patience and nothing to watch.
        """
        words = setting.split()
        if words == ["off"]:
            if patience is not None:
                raise ConfigError(
                    "needs a monitor, and trainer.monitor is 'off'", "trainer.early_stop", "trainer.monitor"
                )
            return cls(None, False, None)
        if len(words) != 2 or words[0] not in ("min", "max"):
            raise ConfigError(f"'{setting:.80}' is not 'min NAME', 'max NAME' or 'off'", "trainer.monitor")
        return cls(words[1], words[0] == "max", patience, min_delta)

    def update(self, value: float, epoch: int) -> bool:
        """Takes in the value of a finished epoch; True where it is the best so far."""
        if self._is_better(value):
            self.best, self.best_epoch, self.bad_epochs = value, epoch, 0
            return True
        self.bad_epochs += 1
        return False

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        gain = value - self.best if self.higher_is_better else self.best - value
        return gain > self.min_delta

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.bad_epochs >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What must survive a restart; the settings come from the config."""
        return {
            "name": self.name,
            "higher_is_better": self.higher_is_better,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "bad_epochs": self.bad_epochs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues the count; what watched another number is left alone, its best means nothing here."""
        if (state["name"], state["higher_is_better"]) == (self.name, self.higher_is_better):
            self.best, self.best_epoch, self.bad_epochs = state["best"], state["best_epoch"], state["bad_epochs"]
