"""The bar of an epoch: on a terminal one line that moves; elsewhere nothing, so that files hold no control codes."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

REFRESH_S = 0.2


class Progress:
    """Counts batches, and shows a few running numbers at most five times a second.

    Args:
        total: batches.
        description: what is being done.
    """

    def __init__(self, total: int, description: str):
        self.bar: Any = tqdm(
            total=total,
            desc=description,
            unit="batch",
            leave=False,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        self.next_refresh_s = 0.0

    def step(self, numbers: Callable[[], dict[str, Any]]) -> None:
        """One batch is done. `numbers` is called only to be shown: reading them waits for the device."""
        if self.bar.disable:
            return
        self.bar.update()
        now_s = time.monotonic()
        if now_s >= self.next_refresh_s:
            self.next_refresh_s = now_s + REFRESH_S
            self.bar.set_postfix(numbers(), refresh=False)

    def close(self) -> None:
        """Removes the line."""
        self.bar.close()


def say_above_bar(log: logging.Logger, line: str) -> None:
    """Logs a line at progress level at any time; a bar that is shown goes on below it."""
    if not sys.stderr.isatty():
        log.info(line)
        return
    with tqdm.external_write_mode():
        log.info(line)
