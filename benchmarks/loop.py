"""What a training loop costs beside its arithmetic: `OMP_NUM_THREADS=1 python -m benchmarks.loop`.

Tutorial 1's two Linear layers (784-1024-10), SGD, batches of 64 out of 12,800 drawn images in memory. Each way trains
two epochs, in turns of a few steps with all others (benchmarks/measure.py). `limit` has its batches by one index
operation and does nothing that is not arithmetic. The peers are in benchmarks/peers.py.
"""

import argparse
import gc
import statistics
import struct
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import train
from benchmarks.measure import SLICE_STEPS, STEPS_PER_EPOCH, StepClock, Turns, machine, ratios, terminal
from benchmarks.peers import BATCH_SIZE, LEARNING_RATE, PEERS, installed, network, perceptron_config
from logger.logger import close_log
from parse_config import ConfigParser
from utils.stop import StopRequest

NUM_IMAGES = STEPS_PER_EPOCH * BATCH_SIZE
MEAN, STD = 0.1307, 0.3081


def limit(images_NCHW: torch.Tensor, targets_N: torch.Tensor, clock: StepClock) -> None:
    """The arithmetic, and next to nothing else."""
    model, criterion = clock.watch(network()), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)
    shift, scale = 255 * MEAN, 1 / (255 * STD)
    for _ in range(2):
        for indices in torch.randperm(len(images_NCHW)).split(BATCH_SIZE):
            inputs_NCHW = images_NCHW[indices].float().sub_(shift).mul_(scale)
            criterion(model(inputs_NCHW), targets_N[indices]).backward()
            optimizer.step()
            optimizer.zero_grad()


def plain(images: TensorDataset, clock: StepClock) -> None:
    """The loop that everybody writes first. It keeps no score and says nothing."""
    model, criterion = clock.watch(network()), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)
    loader = DataLoader(images, batch_size=BATCH_SIZE, shuffle=True)
    for _ in range(2):
        for inputs_NCHW, targets_N in loader:
            optimizer.zero_grad()
            criterion(model(inputs_NCHW), targets_N).backward()
            optimizer.step()


def ours(folder: Path, clock: StepClock) -> None:
    """A run as train.py makes it, with everything on: scores, bar, history, events, checkpoints, all checks."""
    path = perceptron_config(
        folder,
        folder,
        {"lr": LEARNING_RATE, "fused": True},
        {"epochs": 2, "monitor": "min train_loss", "tensorboard": True},
    )
    with StopRequest() as stop:
        config = ConfigParser.from_args(train.read_words(["-c", str(path)]))
        built = train.build(config)
        clock.watch(built.learner.model)
        run = train.open_run(config)
        try:
            train.train(config, built, run, stop, {})
        finally:
            close_log()


def side_by_side(ways: dict[str, Callable[[StepClock], None]]) -> dict[str, StepClock]:
    """Trains in all ways, each a little at a time."""
    gc.collect()
    torch.manual_seed(0)
    turns = Turns()
    clocks = {name: StepClock(turns) for name in ways}
    turns.run([partial(way, clocks[name]) for name, way in ways.items()])
    for name, clock in clocks.items():
        if clock.num_seen != 2 * STEPS_PER_EPOCH:
            raise RuntimeError(f"{name}: {clock.num_seen} training batches were seen, not {2 * STEPS_PER_EPOCH}")
    return clocks


def slices(rounds: list[dict[str, StepClock]], name: str) -> list[float]:
    """Microseconds of a step in all slices of a way but the first of each round, in which caches fill."""
    return [value for clocks in rounds for value in clocks[name].slices_us[1:]]


def middle_ratio(rounds: list[dict[str, StepClock]], name: str) -> float:
    """To the limit."""
    return ratios(slices(rounds, name), slices(rounds, "limit"))[1]


def write_idx(folder: Path, images_NHW: torch.Tensor, targets_N: torch.Tensor) -> None:
    """The images as MNIST's files, for training and (the first few) for a test."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", len(targets_N)), ("t10k", BATCH_SIZE)):
        header = struct.pack(">IIII", 0x0803, count, *images_NHW.shape[1:])
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + images_NHW[:count].numpy().tobytes())
        labels = targets_N[:count].to(torch.uint8).numpy().tobytes()
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x0801, count) + labels)


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="in each of which every way has its turn")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="leave the other peers out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    drawn = torch.Generator().manual_seed(0)
    images_NCHW = torch.randint(0, 256, (NUM_IMAGES, 1, 28, 28), dtype=torch.uint8, generator=drawn)
    targets_N = torch.randint(0, 10, (NUM_IMAGES,), generator=drawn)
    floats = TensorDataset(images_NCHW.float().sub_(255 * MEAN).mul_(1 / (255 * STD)), targets_N)
    versions = {name: installed(package) for name, (package, _) in PEERS.items()}
    peers = {name: way for name, (_, way) in PEERS.items() if versions[name] and name in (options.only or PEERS)}
    with tempfile.TemporaryDirectory() as name, terminal() as say, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        write_idx(folder, images_NCHW[:, 0], targets_N)
        ways: dict[str, Callable[[StepClock], None]] = {
            "limit": partial(limit, images_NCHW, targets_N),
            "ours": partial(ours, folder),
            "plain": partial(plain, floats),
            **{name: partial(way, floats, folder) for name, way in peers.items()},
        }
        rounds = [side_by_side(ways) for _ in range(options.rounds)]
        say(f"{machine()}\nprocessor time of a step; ratios of slices of {SLICE_STEPS} steps that ran side by side\n")
        say("| way | µs a step | ratio to limit | middle half of the ratios | ms between epochs |")
        say("|---|---|---|---|---|")
        for name in sorted(ways, key=lambda name: middle_ratio(rounds, name)):
            low, middle, high = ratios(slices(rounds, name), slices(rounds, "limit"))
            between_ms = statistics.median(value for clocks in rounds for value in clocks[name].between_epochs_ms)
            label = f"{name} {versions[name]}" if versions.get(name) else name
            say(
                f"| {label} | {statistics.median(slices(rounds, name)):.0f} | {middle:.3f} | {low:.3f} to {high:.3f} "
                f"| {between_ms:.0f} |"
            )
        missing = [name for name in PEERS if not versions[name]]
        if missing:
            say(f"\nnot installed: {', '.join(missing)} (pip install -r benchmarks/requirements.txt)")


if __name__ == "__main__":
    main()
