"""A training step against the tutorial's: `OMP_NUM_THREADS=2 python -m benchmarks.train [ROUNDS]`.

All three train VGG-11 with Adam on the same random images, in turn, in one process; the ratios are what counts.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from base.training_parts import Learner, RunContext, TrainerOptions
from model.check import check_model, choose_layout
from model.loss import Criterion, cross_entropy
from model.metric import MetricSet
from model.vgg import VGG
from trainer.schedule import NoSchedule
from trainer.trainer import Trainer
from utils.device import describe
from utils.hardware import Precision, choose_precision
from utils.optimizers import fused_if_possible

CASES = {"224 px, batch 16": (224, 16, 7), "32 px, batch 128": (32, 128, 1)}
WARM_UP, STEPS, LR = 1, 3, 1e-4
CPU = torch.device("cpu")
Step = Callable[[], Any]


class NoLoader:
    """What a trainer asks of a loader before it asks for batches, which are given to it here."""

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    batch_transform: tuple = ()
    seed, classes = 0, ["a"] * 10

    def __len__(self) -> int:
        return 1


def network(pool_size: int) -> VGG:
    torch.manual_seed(0)
    return VGG(10, "vgg11", pool_size=pool_size)


def tutorial(images: torch.Tensor, targets_N: torch.Tensor, pool_size: int) -> Step:
    """The loop as the tutorial writes it: float32, channels first, Adam as it comes, pixels normalised beforehand."""
    model, criterion = network(pool_size).train(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=False)
    inputs_NCHW = images.float() / 255

    def step() -> None:
        optimizer.zero_grad()
        loss = criterion(model(inputs_NCHW), targets_N)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def ours(images: torch.Tensor, targets_N: torch.Tensor, pool_size: int, asked: str) -> tuple[Step, Precision]:
    """The trainer's own step, from uint8 pixels to changed weights, with scores and the look at the numbers."""
    model = network(pool_size).train()
    gflops = check_model(model, images[0].float(), 10) * len(images)
    layout, precision = choose_layout(model, images[0].float()), choose_precision(asked, CPU, batch_gflops=gflops)
    model.to(memory_format=layout)  # type: ignore[call-overload]
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LR, **fused_if_possible(torch.optim.Adam, {}, parameters))
    metrics = MetricSet([]), MetricSet([])
    recorder: Any = SimpleNamespace(run=SimpleNamespace(models=Path("nowhere")))
    trainer = Trainer(
        Learner(model, Criterion(cross_entropy), *metrics, optimizer, NoSchedule()),
        (NoLoader(), None),
        TrainerOptions(epochs=1, monitor="off"),
        RunContext(recorder, [CPU], 0, layout, precision.name),
    )
    return lambda: trainer._step([(images, targets_N)], trainer.train_loss, metrics[0]), precision


def seconds(step: Step) -> float:
    """Of the processor for one step, the mean of a few; of all threads together."""
    started_s = time.process_time()
    for _ in range(STEPS):
        step()
    return (time.process_time() - started_s) / STEPS


def compare(size_px: int, batch_size: int, pool_size: int, rounds: int) -> tuple[list[list[float]], Precision]:
    """Rounds of (tutorial, ours in fp32, ours in auto) in seconds a step, and what auto was."""
    torch.manual_seed(1)
    images = torch.randint(0, 256, (batch_size, 3, size_px, size_px), dtype=torch.uint8)
    targets_N = torch.randint(0, 10, (batch_size,))
    fp32, _ = ours(images, targets_N, pool_size, "fp32")
    auto, chosen = ours(images, targets_N, pool_size, "auto")
    steps = [tutorial(images, targets_N, pool_size), fp32, auto]
    for step in steps:
        for _ in range(WARM_UP):
            step()
    return [[seconds(step) for step in steps] for _ in range(rounds)], chosen


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"torch {torch.__version__}, {describe(CPU)}, medians of {rounds} rounds of {STEPS} steps")
    print(f"{'VGG-11':18} {'tutorial':>10} {'ours fp32':>10} {'ours auto':>10} {'ratio fp32':>11} {'ratio auto':>11}")
    for name, case in CASES.items():
        rows, chosen = compare(*case, rounds)
        times = [f"{1000 * statistics.median(column):7.0f} ms" for column in zip(*rows, strict=True)]
        ratios = [f"{statistics.median(row[0] / row[other] for row in rows):.2f}" for other in (1, 2)]
        print(
            f"{name:18} {times[0]:>10} {times[1]:>10} {times[2]:>10} {ratios[0]:>11} {ratios[1]:>11}   auto: {chosen}"
        )
