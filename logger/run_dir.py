"""Where a run leaves its files.

save_dir/models/<name>/<run_id>/    config.json, class_index.json, run.json, STATUS.json, best.pth, last.pth,
                                    checkpoint-epoch<N>.pth, checkpoint-epoch<N>-step<S>.pth
save_dir/log/<name>/<run_id>/       info.log, results.csv, results.png, TensorBoard events, test results
save_dir/models/best.pth, last.pth  those of the newest run
"""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from logger.status import read_status
from utils.durable_file import link
from utils.errors import CheckpointError, OutputError

MAX_NAME_BYTES = 200  # file systems end at 255


def is_folder_name(text: object) -> bool:
    """Whether a name can be a folder beside best.pth and last.pth: no separators, no control characters."""
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text.encode()) > MAX_NAME_BYTES:
        return False
    return text not in (".", "..", "best.pth", "last.pth") and not set(text) & set("/\\")


@dataclass(frozen=True)
class RunDir:
    """The two folders of one run.

    Args:
        save_dir: above all runs.
        name: of the experiment, from the config.
        run_id: the time of its start, `YYYYmmdd_HHMMSS`, with a suffix where that was taken.
    """

    save_dir: Path
    name: str
    run_id: str

    @property
    def models(self) -> Path:
        """Checkpoints, and what is needed to use them."""
        return self.save_dir / "models" / self.name / self.run_id

    @property
    def log(self) -> Path:
        """What is read by people and by TensorBoard."""
        return self.save_dir / "log" / self.name / self.run_id

    @property
    def command_to_continue(self) -> str:
        """As a person would type it."""
        return f"python train.py -r {shlex.quote(str(self.models / 'last.pth'))}"

    @classmethod
    def create(cls, save_dir: Path, name: str) -> "RunDir":
        """Makes the folders of a new run; two runs that start in one second get two.

        Raises:
            OutputError: they cannot be made.
        """
        started = time.strftime("%Y%m%d_%H%M%S")
        number = 0
        while True:
            run = cls(save_dir, name, f"{started}_{number}" if number else started)
            try:
                run.models.mkdir(parents=True, exist_ok=False)
                run.log.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                if not run.models.is_dir():
                    raise OutputError(f"{run.models}: a file of that name is in the way (trainer.save_dir)") from None
                number += 1
                continue
            except OSError as error:
                run.remove_if_empty()
                raise OutputError(f"{save_dir}: cannot write ({error.strerror}) (trainer.save_dir)") from None
            return run

    @classmethod
    def newest(cls, save_dir: Path, name: str | None = None) -> "RunDir | None":
        """The run that was started last and has a checkpoint, of this name or of any; None where there is none."""
        names = [name] if name is not None else [path.name for path in (save_dir / "models").glob("*")]
        with_checkpoints = [
            path
            for one in names
            if is_folder_name(one) and (save_dir / "models" / one).is_dir()
            for path in (save_dir / "models" / one).glob("*/*.pth")
        ]
        if not with_checkpoints:
            return None

        def started(checkpoint: Path) -> tuple[str, int, str, int]:
            # By the time in its name, then by the number behind it: _10 comes after _9. Two of different names may
            # have started in one second.
            run_id = checkpoint.parent.name
            return run_id[:15], len(run_id), run_id, checkpoint.stat().st_mtime_ns

        newest = max(with_checkpoints, key=started).parent
        return cls(save_dir, newest.parent.name, newest.name)

    @classmethod
    def of_checkpoint(cls, path: Path, save_dir: Path, name: str, run_id: str) -> "RunDir":
        """The run that a checkpoint belongs to: where the file lies, or where its run says that it is.

        Raises:
            CheckpointError: the names in it are no folder names, such as "../elsewhere".
        """
        if not is_folder_name(name) or not is_folder_name(run_id):
            raise CheckpointError(f"{path}: its run is called {name!r}/{run_id!r}, which are no folder names")
        folder = path.resolve().parent
        if (folder.name, folder.parent.name, folder.parent.parent.name) == (run_id, name, "models"):
            save_dir = folder.parent.parent.parent
        return cls(save_dir, name, run_id)

    def reopen(self) -> None:
        """Makes sure that the folders of a continued run are there.

        Raises:
            OutputError: they cannot be made.
        """
        try:
            self.models.mkdir(parents=True, exist_ok=True)
            self.log.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.save_dir}: cannot write ({error.strerror})") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other process can write this run; the system frees it when this process ends, however it ends.

        Raises:
            OutputError: another process is at work on it.
        """
        lock = FileLock(self.models / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            who = read_status(self.models / "STATUS.json").get("pid", "unknown")
            raise OutputError(f"{self.models}: in use by process {who}") from None
        except OSError as error:
            raise OutputError(f"{self.models}: cannot write ({error.strerror})") from None
        try:
            yield
        finally:
            lock.release()

    def remove_if_empty(self) -> None:
        """Takes back the folders of a run that failed before it wrote anything."""
        for folder in (self.models, self.log):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def publish(self, filename: str) -> None:
        """Makes `save_dir/models/<filename>` show this run's file, or none where this run has no such file."""
        newest = self.save_dir / "models" / filename
        if (self.models / filename).exists():
            link(self.models / filename, newest, symbolic=True)
        else:
            newest.unlink(missing_ok=True)
