"""What saving costs a training loop: `OMP_NUM_THREADS=1 python -m benchmarks.checkpoint`.

The demo's network and optimizer on random images, in epochs of as many steps as the demo has: without saving, with ours
in the background, and with a plain torch.save; in turn, in one process, on the disk of the project. "Waiting" is the
time within the calls that save, which other work on the machine disturbs less than the difference of two loops.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from base.background_saver import BackgroundSaver
from base.checkpoints import Checkpoints
from model.vgg import VGG

STEPS, EVERY, ROUNDS = 60, 10, 3

Save = Callable[[dict[str, Any]], None]


class Loop:
    """Trains; `epoch_s` gives the seconds of an epoch, and of those the seconds in which it waited for a save."""

    def __init__(self) -> None:
        self.model = VGG(8, [16, "M", 32, "M", 64, "M", 128, "M"], batch_norm=True, classifier_width=128, pool_size=4)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.images_NCHW, self.targets_N = torch.randn(32, 3, 64, 64), torch.arange(32) % 8
        self.epochs_done = self.steps_done = 0

    def state(self) -> dict[str, Any]:
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {**parts, "progress": None, "epochs_done": self.epochs_done, "steps_done": self.steps_done}

    def epoch_s(self, every: int, save: Save, settle: Callable[[], None]) -> tuple[float, float]:
        began_s, waited_s = time.perf_counter(), 0.0
        for step in range(1, STEPS + 1):
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(self.images_NCHW), self.targets_N).backward()
            self.optimizer.step()
            self.steps_done += 1
            if step % every == 0:
                called_s = time.perf_counter()
                save(self.state())
                waited_s += time.perf_counter() - called_s
        self.epochs_done += 1
        took_s = time.perf_counter() - began_s
        settle()  # in a run the next epoch begins meanwhile
        return took_s, waited_s


def main() -> None:
    """Prints a line for each way to save."""
    loop, saver = Loop(), BackgroundSaver()
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        checkpoints, plain = Checkpoints(Path(folder)), Path(folder) / "plain.pth"
        ways: dict[str, tuple[int, Save]] = {
            "no saving": (STEPS, lambda state: None),
            "ours, each epoch": (STEPS, lambda state: saver.start(state, _in(checkpoints))),
            "torch.save, each epoch": (STEPS, lambda state: torch.save(state, plain)),
            f"ours, every {EVERY} steps": (EVERY, lambda state: saver.start(state, _in(checkpoints))),
            f"torch.save, every {EVERY} steps": (EVERY, lambda state: torch.save(state, plain)),
        }
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(ROUNDS + 1):  # the first round warms up
            for name, (every, save) in ways.items():
                rows[name].append(loop.epoch_s(every, save, saver.wait))
        size_MB = checkpoints.last.stat().st_size / 1e6
    without = [took_s for took_s, _ in rows["no saving"][1:]]
    print(f"a state of {size_MB:.1f} MB, epochs of {STEPS} steps, medians of {ROUNDS} rounds")
    for name, row in rows.items():
        longer = statistics.median(took_s / other_s - 1 for (took_s, _), other_s in zip(row[1:], without, strict=True))
        waiting = statistics.median(waited_s / took_s for took_s, waited_s in row[1:])
        print(
            f"{name:26} {statistics.median(took_s for took_s, _ in row[1:]):6.2f} s an epoch "
            f"({longer:+6.1%}), {waiting:5.1%} of it waiting"
        )


def _in(checkpoints: Checkpoints) -> Callable[[dict[str, Any], Callable[[], None]], None]:
    return lambda state, check: checkpoints.save(state, check=check)


if __name__ == "__main__":
    main()
