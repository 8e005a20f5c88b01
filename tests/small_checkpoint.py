"""The smallest checkpoint that is one, and what the tests of writing and reading such files share."""

import os
import pickle

import torch

from utils.checkpoint import FORMAT, save_checkpoint
from utils.monitor import Monitor


def tiny_state(value=1.0):
    """The keys that every checkpoint has, with as little as possible in them."""
    model = {"w": torch.full((3,), value)}
    run = {"name": "x", "run_id": "1"}
    passport = {"config": {"name": "x"}, "offered": [], "classes": ["a", "b"], "run": run}
    monitor = Monitor(None, False, None).state_dict()
    return {**passport, "model": model, "monitor": monitor, "epochs_done": 2, "steps_done": 8}


def saved(folder, value=1.0, name="last.pth"):
    path = folder / name
    save_checkpoint(path, tiny_state(value))
    return path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def same(a, b):
    """Equal, of equal types, at every depth; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


EVIL_FORMS = ["zip", "legacy", "bare pickle", "bare pickle 0", "weights"]


class _Evil:
    """Unpickling it runs a command."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def save_evil(path, canary, form):
    """Writes a file that makes `canary` where it is unpickled without care."""
    evil = tiny_state() | {"format": FORMAT, "extra": _Evil(canary)}
    if form.startswith("bare"):
        path.write_bytes(pickle.dumps(evil, 0 if form.endswith("0") else None))
    elif form == "weights":
        torch.save({"w": _Evil(canary)}, path)
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "zip")
