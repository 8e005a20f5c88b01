"""Training processes that tests can kill: forked from one that has torch in memory, each in a session of its own.

`FAULTS=full` in the environment runs every fault as often as docs/reliability.md says (`make faults`); without it a few
times. All times of kills come from seeds.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from utils.checkpoint import load_checkpoint
from utils.plain import digest_of

ROOT = Path(__file__).resolve().parent.parent
FULL = os.environ.get("FAULTS") == "full"
LIMIT_S = 120  # for any one process
PRELOADED = ["train", "torch.utils.tensorboard", "pandas", "matplotlib.figure", "matplotlib.ticker"]


SHARE = float(os.environ.get("FAULTS_SHARE", "1"))  # of the full number of trials, where time is short


def trials(few, full):
    """How often to try a fault, or which of its kinds."""
    if not FULL:
        return few
    return max(few, round(full * SHARE)) if isinstance(full, int) else full


@contextmanager
def forking_server():
    """Gives the context whose processes begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    os.environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        from multiprocessing import forkserver

        forkserver.ensure_running()
        yield context
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


class Run:
    """One process of train.py.

    Args:
        context: of `forking_server`.
        words: its command line.
        output: the file that its screen goes to.
        fault: a function of this package that changes the process before it trains, and its arguments.
    """

    def __init__(self, context, words, output, fault=None, *arguments):
        self.output = output
        self.begun_s = time.monotonic()
        self.process = context.Process(target=_train, args=(words, str(output), fault, arguments))
        self.process.start()

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.is_alive()

    def kill(self, number=signal.SIGKILL, *, group=False):
        """Sends a signal, to the process alone or to it and its workers."""
        if self.alive():
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, limit_s=LIMIT_S):
        """The exit code and what was on the screen; ends what does not end by itself."""
        self.process.join(limit_s)
        if self.alive():
            os.killpg(self.pid, signal.SIGKILL)
            self.process.join()
            raise AssertionError(f"still running after {limit_s} s:\n{self.text()}")
        return self.process.exitcode, self.text()

    def text(self):
        # torch's handler of a crash in C writes the end mark of its text too.
        text = self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""
        return text.replace("\0", "")

    def left_behind(self, limit_s=15):
        """Processes of the session that are alive so long after the trainer's end."""
        deadline_s = time.monotonic() + limit_s
        while (left := processes_of(self.pid)) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return left


def _train(words, output, fault, arguments):
    """Runs in the process itself."""
    os.setsid()
    screen = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(screen, 1)
    os.dup2(screen, 2)
    sys.stdin.close()
    os.chdir(ROOT)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of its workers; else they would be the server's children
    import logger.recorder
    import train
    from utils.errors import exit_on_user_error

    logger.recorder.draw_results = lambda *arguments: None  # takes a third of so short a run
    with exit_on_user_error():
        if fault is not None:
            fault(*arguments)
        train.main(words)


def processes_of(session):
    """Pids of a session, without those that have ended and are only not yet asked for."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def shared_memory():
    """Names in /dev/shm that torch made."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob("torch_*")} if folder.is_dir() else set()


def newest_run(save_dir, name):
    """The folder of the checkpoints of the run that was started last."""
    return max((save_dir / "models" / name).glob("*/last.pth"), key=lambda path: path.parent.name).parent


def result(models):
    """Everything that must be the same, to the last bit, in two runs that have ended."""
    last, best = (load_checkpoint(models / name) for name in ("last.pth", "best.pth"))
    history = [{key: value for key, value in row.items() if key != "time_s"} for row in last["history"]]
    parts = ("model", "optimizer", "schedule", "monitor", "epochs_done", "steps_done", "progress")
    return {
        **{name: digest_of(last[name]) for name in parts},
        "history": digest_of(history),
        "best": digest_of([best["model"], best["epochs_done"]]),
        "numbered": sorted(path.name for path in models.glob("checkpoint-epoch*.pth")),
    }


def until_done(context, words, folder, interrupt, *, fault=None, arguments=(), rounds=3):
    """Repeats one command until the run is done; all but the last process are interrupted.

    Args:
        interrupt: is given each process, and ends it or lets it be.
        rounds: after which processes are left in peace.

    Returns:
        (exit code, screen) of each process.
    """
    ends = []
    for number in range(rounds + 3):
        run = Run(context, [*words, "-r", "auto"], folder / f"screen-{number}.txt", fault, *arguments)
        if number < rounds:
            interrupt(run)
        ends.append(run.wait())
        assert run.left_behind() == [], run.text()
        if ends[-1][0] == 0:
            return ends
        assert ends[-1][0] in (75, 130, -signal.SIGKILL, 1), ends[-1]
    raise AssertionError(f"not done after {len(ends)} processes: {ends}")


def at_random(seed, span_s, number=signal.SIGKILL, *, group=False):
    """An `interrupt` for `until_done`: a signal after U(0, span) seconds."""
    chance = random.Random(seed)

    def interrupt(run):
        run.process.join(chance.uniform(0, span_s))
        run.kill(number, group=group)

    return interrupt
