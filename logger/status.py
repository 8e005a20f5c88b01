"""STATUS.json: how a run stands, for the scripts that start it again; run.json tells how each process went.

It is replaced as a whole, so that whoever reads it never sees half of it. Where `state` is "running" and no process
has that `pid`, the process was killed.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from utils.config_tree import to_json
from utils.durable_file import replace_file


class Status:
    """The state of one run: "running", "finished", "stopped" (by a signal or a limit; can go on) or "failed".

    Args:
        path: of STATUS.json; what it says already is kept until it is said anew.
    """

    def __init__(self, path: Path):
        self.path = path
        self.facts = read_status(path)

    def say(self, state: str, **facts: Any) -> None:
        """Replaces the file.

        Args:
            state: see above.
            facts: what else is known now, such as `steps_done`.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.facts |= {"state": state, "pid": os.getpid(), "updated": now, **facts}
        replace_file(self.path, lambda file: file.write(to_json(self.facts).encode()), "the status")


def read_status(path: Path) -> dict[str, Any]:
    """What a STATUS.json says; nothing where there is none, or it cannot be read."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
