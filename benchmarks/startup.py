"""How soon a mistake is answered: `OMP_NUM_THREADS=1 python -m benchmarks.startup`.

Whole processes, in turn; the check of a config is held against a process that only imports torch and torchvision.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7
CHECK = """
import sys, time, torch, torchvision
started_s = time.perf_counter()
from utils.command_line import Parser
command = Parser(prog="train.py").read((), ["-c", "config.json"])
import pydantic
imported_s = time.perf_counter()
from parse_config import ConfigParser
ConfigParser.from_args(command)
print(imported_s - started_s, time.perf_counter() - imported_s)
"""


def seconds(*words: str) -> float:
    """Of a whole process; its output is thrown away."""
    started_s = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - started_s


def check_ms() -> tuple[float, float]:
    """Milliseconds, after torch and torchvision are there, to import pydantic, and to import our own code and check."""
    done = subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, capture_output=True, text=True, check=True)
    of_import, of_check = map(float, done.stdout.split())
    return of_import * 1000, of_check * 1000


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "config.json"
        broken.write_text('{\n    "name": "x"\n    "seed": 1\n}\n', encoding="utf-8")
        rows = [
            (
                seconds("train.py", "--help"),
                seconds("train.py", "-c", str(broken)),
                seconds("-c", "import torch, torchvision"),
                seconds("train.py", "-c", "config.json", "--print-config"),
                seconds("train.py", "-c", "config.json", "optimizer.args.lrr=1"),
            )
            for _ in range(ROUNDS)
        ]
        checks = [check_ms() for _ in range(ROUNDS)]
    names = ("--help", "a missing comma", "import torch, torchvision", "--print-config", "a misspelt argument")
    print(f"medians of {ROUNDS} rounds")
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        print(f"{name:28} {statistics.median(column):6.2f} s")
    for name, numbers in zip(
        ("import of pydantic", "our imports and the check"), zip(*checks, strict=True), strict=True
    ):
        print(f"{name:28} {statistics.median(numbers):6.0f} ms")
