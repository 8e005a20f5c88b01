"""Opens files as the program would, in a process of its own with little memory and time, and tells how it went.

One process serves all files, because importing torch takes seconds; it says how each went before it opens the next,
so that a crash is laid to the right one. JSON lines [opener, path] come in, JSON lines {"outcome", "kind",
"message", "growth_MB"} go out.
"""

import importlib.util
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MORE_BYTES = 3 * 2**30  # of address space, beyond what importing takes
MAX_S = 60  # by the clock, which a busy machine stretches
MAX_CPU_S = 6  # of a slow and busy machine too


class TooLong(BaseException):
    """Nothing may catch it on its way."""


def openers():
    """Functions of a path, by name: what train.py, test.py and the loaders do with a file."""
    import torch

    import train
    from data_loader.data_loaders import ImageFolderDataLoader
    from data_loader.decode import decode_image, file_problem
    from parse_config import ConfigParser
    from tools.old_checkpoint import read_old_checkpoint
    from utils.checkpoint import load_checkpoint
    from utils.weights_file import load_weights_file

    # By its path, because the standard library has a package of that name.
    spec = importlib.util.spec_from_file_location("test_script", ROOT / "test.py")
    test_script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(test_script)
    torch.set_num_threads(1)

    def read_folder(path, on_bad_image):
        loader = ImageFolderDataLoader(
            data_dir=path.parents[1], batch_size=4, image_size=8, validation_split=0.0, on_bad_image=on_bad_image
        )
        for _ in loader:
            pass

    def careless(path):
        try:
            torch.load(path, weights_only=False)
        except (RuntimeError, pickle.UnpicklingError):
            pickle.loads(path.read_bytes())

    return {
        "load_checkpoint": load_checkpoint,
        "load_weights_file": load_weights_file,
        "train -r": lambda path: train.main(["-r", str(path)]),
        "test -r": lambda path: test_script.main(["-r", str(path)]),
        "ConfigParser": lambda path: ConfigParser.from_args(train.read_words(["-c", str(path)])),
        "convert": read_old_checkpoint,
        "decode_image": decode_image,
        "file_problem": file_problem,
        "folder, error": lambda path: read_folder(path, "error"),
        "folder, skip": lambda path: read_folder(path, "skip"),
        "careless": careless,
    }


def judged(opener, path):
    """What became of it; the memory is what it took beyond the most that any before it took."""
    from utils.errors import UserError

    def too_long(number, frame):
        raise TooLong

    before_kB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_REAL, MAX_S)
    signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)
    kind, message = "", ""
    try:
        opener(path)
        outcome = "opened"
    except UserError as error:
        outcome, kind, message = "refused", type(error).__name__, str(error)
    except BaseException as error:  # noqa: BLE001  whatever it is, it is told
        outcome, kind, message = "broke", type(error).__name__, str(error)
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    growth_MB = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kB) / 1000
    return {"outcome": outcome, "kind": kind, "message": message, "growth_MB": growth_MB}


def limit_memory():
    """A net, should a bomb go off: from here on little more than there is."""
    if Path("/proc/self/statm").exists():
        now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now_bytes + MORE_BYTES, now_bytes + MORE_BYTES))


def results_of(jobs, env, cwd):
    """How it went, for each (opener, path)."""
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__],
        input="".join(json.dumps([opener, str(path)]) + "\n" for opener, path in jobs),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **env},
        timeout=120,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != len(jobs):
        at = f"{jobs[len(lines)]} with exit code {done.returncode}" if len(lines) < len(jobs) else "the end"
        raise AssertionError(f"broke at {at}\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in lines]


def main():
    """Answers line by line."""
    sys.path.insert(0, str(ROOT))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, while they are imported
        known = openers()
    limit_memory()
    # What the opened programs print goes nowhere.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    for line in sys.stdin:
        name, path = json.loads(line)
        answers.write(json.dumps(judged(known[name], Path(path))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
