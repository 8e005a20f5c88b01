"""The tests of this project can fail: six programs that are broken on purpose are each caught by what guards them.

The variants are those of docs/reliability.md. Each is made in place of the real code; what is run then is what the
named test runs.
"""

import os
import random
import signal
import time

import pytest
import torch

import base.workers
import train
from base.keyed import KeyedBatches
from tests import fault_hooks, faults
from tests.faults import Run, forking_server
from tests.small_checkpoint import tiny_state
from trainer.schedule import Schedule
from utils import checkpoint
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import CheckpointError
from utils.plain import digest_of
from utils.stop import RunStopped
from utils.weights_file import load_plain

SCHEDULE = {"type": "OneCycleLR", "interval": "step"}


def stopped_and_continued(config, config_file, monkeypatch, steps=5):
    """Trains a run whole, and stopped after some steps and continued; their digests."""
    path = str(config_file(config))
    whole = train.main(["-c", path])
    stepped = train.BaseTrainer._step_done

    def asked(self):
        if self.steps_done == steps:
            self.stop.signal_name = "SIGTERM"
        stepped(self)

    with monkeypatch.context() as patch:
        patch.setattr(train.BaseTrainer, "_step_done", asked)
        with pytest.raises(RunStopped):
            train.main(["-c", path, "name=stopped"])
    last = whole.models_dir.parents[1] / "last.pth"
    torch.manual_seed(12345)  # another process would be in another state too
    return whole.digests(), train.main(["-r", str(last)]).digests()


def test_the_unbroken_program_passes_what_catches_the_others(small_config, config_file, monkeypatch):
    config = small_config(arch={"type": "MLP", "args": {"dropout": 0.4}}, lr_scheduler=SCHEDULE)

    whole, continued = stopped_and_continued(config, config_file, monkeypatch)

    assert whole == continued


def test_without_the_state_of_the_scheduler_a_resume_is_another_run(small_config, config_file, monkeypatch):
    config = small_config(lr_scheduler=SCHEDULE)
    monkeypatch.setattr(Schedule, "state_dict", lambda self: {})

    # OneCycleLR begins anew, so that other learning rates are used than in the run that was not stopped.
    whole, continued = stopped_and_continued(config, config_file, monkeypatch)

    assert whole["model"] != continued["model"]


def test_with_one_seed_at_the_start_a_resume_is_another_run(small_config, config_file, monkeypatch):
    config = small_config(arch={"type": "MLP", "args": {"dropout": 0.4}}, lr_scheduler=SCHEDULE)
    monkeypatch.setattr("trainer.trainer.seed_step", lambda root, step, device: None)
    monkeypatch.setattr("base.base_trainer.restore_global_rng", lambda state, devices: None)

    whole, continued = stopped_and_continued(config, config_file, monkeypatch)

    assert whole["model"] != continued["model"]


def test_without_a_file_aside_a_kill_while_saving_loses_the_checkpoint(tmp_path):
    path = tmp_path / "last.pth"
    save_checkpoint(path, tiny_state(1.0))

    class Died(BaseException):
        pass

    class Dying:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            self.file.write(bytes(data)[: len(data) // 2])
            self.file.flush()
            raise Died

    def in_place(path, write, what):
        with open(path, "wb") as file:
            write(Dying(file))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "replace_file", in_place)
        with pytest.raises(Died):
            save_checkpoint(path, tiny_state(2.0))

    # What test_a_process_that_dies_at_any_operation_loses_no_checkpoint asks for.
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_without_a_digest_a_flipped_bit_is_loaded(tmp_path):
    path = tmp_path / "last.pth"
    state = tiny_state() | {"model": {"w": torch.arange(1000.0)}}
    save_checkpoint(path, state)
    content = bytearray(path.read_bytes())
    position = content.find(torch.arange(1000.0).numpy().tobytes()[400:440])
    chance, undetected = random.Random(0), 0

    for _ in range(20):
        flipped = bytearray(content)
        flipped[position + chance.randrange(40)] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        undetected += digest_of(load_plain(path)["model"]) != digest_of(state["model"])
        with pytest.raises(CheckpointError, match="digest differs"):
            load_checkpoint(path)

    # What torch alone opens without a word is what test_a_flipped_bit_in_a_weight_is_always_found finds.
    assert undetected == 20


@pytest.mark.parametrize("size", [5, 7, 8])
def test_an_evaluation_that_fills_up_the_last_batch_counts_images_twice(size, small_config, config_file, monkeypatch):
    config = small_config()
    config["data_loader"]["args"]["batch_size"] = size
    config["trainer"]["epochs"] = 1
    images = {"right": 24, "padded": 24 + -24 % size}
    trained = {"right": train.main(["-c", str(config_file(config))])}
    batches = KeyedBatches.__iter__

    def padded(self):
        """As DistributedSampler does: every batch is full, with samples from the beginning."""
        whole = list(batches(self))
        if not self.drop_last and len(whole[-1]) < self.images_per_batch and self.num_drawn == 24:
            whole[-1] += whole[0][: self.images_per_batch - len(whole[-1])]
        yield from whole

    monkeypatch.setattr(KeyedBatches, "__iter__", padded)
    trained["padded"] = train.main(["-c", str(config_file(config))])

    for name, trainer in trained.items():
        assert trainer.last_evaluation.num_images == images[name]


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="the system does not show its processes")
def test_workers_that_do_not_die_with_the_trainer_are_found(small_config, config_file, tmp_path):
    config = small_config()
    config["data_loader"]["args"]["num_workers"] = 2
    left = {}

    with forking_server() as context:
        for name, fault in (("broken", undying_workers), ("real", only_slow)):
            words = ["-c", str(config_file(config)), f"name={name}"]
            run = Run(context, words, tmp_path / name, fault)
            deadline_s = time.monotonic() + 60
            while run.alive() and len(faults.processes_of(run.pid)) < 3 and time.monotonic() < deadline_s:
                time.sleep(0.005)
            time.sleep(0.3)
            run.kill()
            run.wait()
            left[name] = run.left_behind(limit_s=2)
            for pid in left[name]:
                os.kill(pid, signal.SIGKILL)

    assert left["real"] == []
    assert left["broken"] != []


def only_slow():
    """Steps that take long enough to be killed in."""
    fault_hooks.slow_steps(0.2)


def undying_workers():
    """Workers as torch makes them, of a trainer whose death they do not learn of, and which have work for long."""
    only_slow()
    fault_hooks.worker_fault("hang", 10)
    base.workers.sys = type("NoLinux", (), {"platform": "elsewhere"})
