"""advice.py: one line where the loop waits for data, with something to try that fits; and silence elsewhere."""

import logging
from types import SimpleNamespace

import pytest
import torch

from base import worker_choice
from data_loader.dataset import ImageTensors
from logger.run_dir import RunDir
from parse_config import ConfigParser
from tests.test_base_data_loader import Samples
from train import build, open_trainer, read_words
from trainer import advice
from trainer import trainer as of_trainer
from trainer.advice import Waiting, advice_on

IMAGES = ImageTensors(torch.zeros(20, 1, 2, 2, dtype=torch.uint8), [0, 1] * 10, ["a", "b"], name="train")
LONG = Waiting(first_s=1.0, rest_s=9.0, share=0.45)


@pytest.fixture
def machine(monkeypatch):
    """`machine(4, has_gpu=True)`."""

    def make(cores, *, has_gpu=False):
        for module in (advice, worker_choice):
            monkeypatch.setattr(module, "usable_cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)

    return make


def a_loader(num_workers=0, *, samples=None, persistent_workers=True, **cache):
    samples = Samples() if samples is None else samples
    return SimpleNamespace(num_workers=num_workers, samples=samples, persistent_workers=persistent_workers, **cache)


def after(waiting, loader, *, is_first_epoch=False):
    return advice_on(waiting, loader, is_first_epoch=is_first_epoch)


SAID = "45% of the epoch went by waiting for data (said once): "


def test_more_workers_where_there_are_cores_for_them(machine):
    machine(8)

    assert after(LONG, a_loader(0)) == f"{SAID}no workers and 8 cores. Try data_loader.args.num_workers=4"
    assert after(LONG, a_loader(1)) == f"{SAID}1 worker and 8 cores. Try data_loader.args.num_workers=4"
    machine(8, has_gpu=True)
    assert after(LONG, a_loader(4)) == f"{SAID}4 workers and 8 cores. Try data_loader.args.num_workers=7"


@pytest.mark.parametrize("off", [None, False, "off"])
def test_the_cache_where_more_workers_would_not_help_and_there_is_one_to_be_had(machine, off):
    machine(8)

    assert after(LONG, a_loader(4, cache=off)).startswith(f"{SAID}data_loader.args.cache keeps images ")
    assert "cache" not in after(LONG, a_loader(4))


def test_one_worker_more_where_nothing_else_is_left_on_a_cpu(machine):
    machine(8)

    said = f"{SAID}try data_loader.args.num_workers=5; training and workers share 8 cores"
    assert after(LONG, a_loader(4)) == said
    assert after(LONG, a_loader(4, cache="memory")) == said
    assert after(LONG, a_loader(8)) is None
    machine(8, has_gpu=True)
    assert after(LONG, a_loader(7)) is None


def test_workers_that_start_anew_each_epoch_are_kept(machine):
    machine(8)
    start = Waiting(first_s=6.0, rest_s=4.0, share=0.45)

    said = "most of it for the first batch, while workers start. data_loader.args.persistent_workers=true keeps them"
    assert after(start, a_loader(2, persistent_workers=False)) == SAID + said
    assert "persistent" not in after(start, a_loader(2))
    assert "persistent" not in after(start, a_loader(0, persistent_workers=False))
    assert "persistent" not in after(LONG, a_loader(2, persistent_workers=False))


def test_nothing_is_said_where_there_is_little_to_win(machine):
    machine(8)

    assert after(Waiting(first_s=1.0, rest_s=9.0, share=0.2), a_loader()) is None
    assert after(Waiting(first_s=0.5, rest_s=0.4, share=0.9), a_loader()) is None


def test_nothing_is_said_of_batches_that_are_in_memory(machine):
    machine(8)

    assert after(LONG, a_loader(samples=IMAGES, cache="off")) is None
    assert after(LONG, a_loader(samples=IMAGES.with_transform(torch.neg))) is not None


def test_nothing_is_said_while_a_cache_is_being_filled(machine):
    machine(8)

    assert after(LONG, a_loader(cache="memory"), is_first_epoch=True) is None
    assert after(LONG, a_loader(cache="memory")) is not None
    assert after(LONG, a_loader(cache="off"), is_first_epoch=True) is not None


class Slow:
    """Images that take their time: by a clock that they turn."""

    def __init__(self, data, clock, seconds):
        self.data, self.clock, self.seconds = data, clock, seconds
        self.targets, self.classes = data.targets, data.classes

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        self.clock[0] += self.seconds
        return self.data[index]


@pytest.mark.parametrize(("seconds", "hints"), [(0.5, 1), (0.001, 0)])
def test_a_slow_data_set_gives_one_hint_in_a_run(
    small_config, config_file, monkeypatch, caplog, machine, seconds, hints
):
    # Through the whole program: 72 images an epoch, three epochs; a step takes a second by the same clock.
    machine(4)
    clock = [1000.0]
    config = small_config()
    config["data_loader"]["args"]["num_workers"] = 0
    parser = ConfigParser.from_args(read_words(["-c", str(config_file(config))]))
    built = build(parser)
    built.loaders[0].dataset.dataset = Slow(built.loaders[0].samples, clock, seconds)
    monkeypatch.setattr(of_trainer.time, "perf_counter", lambda: clock[0])
    step = of_trainer.Trainer._step

    def one_second(*args):
        clock[0] += 1.0
        return step(*args)

    monkeypatch.setattr(of_trainer.Trainer, "_step", one_second)
    run = RunDir.create(parser.trainer_options.save_dir, "small")
    trainer = open_trainer(parser, built, run, parser.trainer_options)
    with caplog.at_level(logging.INFO, logger="run"):
        monkeypatch.setattr(logging.getLogger("run"), "propagate", True)
        trainer.train()

    records = {id(record): record for record in caplog.records}.values()  # one that two handlers saw is one
    lines = [record.getMessage() for record in records if "hint: " in record.getMessage()]
    assert len(lines) == hints
    if hints:  # 72 images by half a second and 8 steps by a second
        assert (
            lines[0]
            .split("\n")[1]
            .startswith("hint: 82% of the epoch went by waiting for data (said once): no workers and 4 cores")
        )
        assert lines[0].endswith("Try data_loader.args.num_workers=2")
