"""Tutorial 1 on MNIST, as the tutorial trains and as we do: `OMP_NUM_THREADS=1 python -m benchmarks.mnist`.

The tutorial's way opens each image as a picture and makes a tensor of it, prints every step, and evaluates with
gradients on. Ours is the trainer with scores, bar, history, events, checkpoints and all checks. Both train two linear
layers (784-1024-10) with SGD on the 60,000 training images and evaluate on the 10,000 test images, one epoch each, in
turn. Time is the processor's, of the epoch with its evaluation; what is built or written before and after is left out.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

import train
from benchmarks.measure import machine, ratios, terminal
from benchmarks.peers import BATCH_SIZE, LEARNING_RATE, network, perceptron_config
from logger.logger import close_log
from parse_config import ConfigParser
from trainer.evaluate import evaluate
from trainer.trainer import Trainer
from utils.stop import StopRequest


def tutorial(data_dir: Path) -> tuple[float, float]:
    """Seconds of an epoch and of an evaluation."""
    training, test = (
        datasets.MNIST(str(data_dir), train=part, transform=transforms.ToTensor()) for part in (True, False)
    )
    batches = DataLoader(training, batch_size=BATCH_SIZE, shuffle=True)
    test_batches = DataLoader(test, batch_size=BATCH_SIZE)
    model, criterion = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    began_s = time.process_time()
    for step, (images, targets_N) in enumerate(batches, 1):
        loss = criterion(model(images.reshape(-1, 784)), targets_N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step} of {len(batches)}, loss {loss.item():.4f}")
    trained_s = time.process_time()
    model.eval()
    num_correct = 0
    for images, targets_N in test_batches:
        logits_NK = model(images.reshape(-1, 784))
        criterion(logits_NK, targets_N)
        num_correct += (logits_NK.max(1).indices == targets_N).sum()
    print(f"accuracy {float(num_correct) / len(test):.4f}")
    return trained_s - began_s, time.process_time() - trained_s


def ours(data_dir: Path, folder: Path) -> tuple[float, float]:
    """Seconds of an epoch and of an evaluation."""
    path = perceptron_config(data_dir, folder, {"lr": LEARNING_RATE}, {"epochs": 1, "monitor": "off"})
    with StopRequest() as stop:
        config = ConfigParser.from_args(train.read_words(["-c", str(path)]))
        built = train.build(config)
        test_loader = config.init_obj("data_loader", seed=0, training=False)
        took_s: list[float] = []
        train_epoch = Trainer._train_epoch

        def timed(self: Trainer, epoch: int) -> dict[str, float]:
            began_s = time.process_time()
            scores = train_epoch(self, epoch)
            took_s.append(time.process_time() - began_s)
            return scores

        Trainer._train_epoch = timed  # type: ignore[method-assign]
        try:
            trainer = train.train(config, built, train.open_run(config), stop, {})
        finally:
            Trainer._train_epoch = train_epoch  # type: ignore[method-assign]
            close_log()
    learner, began_s = built.learner, time.process_time()
    judged = evaluate(learner.model, test_loader, learner.criterion, learner.valid_metrics, to_input=trainer.to_input)
    print(f"accuracy {judged.scores['accuracy']:.4f}")
    return took_s[0], time.process_time() - began_s


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist", description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="where MNIST/raw is")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, terminal() as say:
        rounds = [(tutorial(options.data_dir), ours(options.data_dir, Path(name))) for _ in range(options.rounds)]
        say(f"{machine()}\nprocessor time, medians of {options.rounds} rounds\n")
        say("| | tutorial's loop, s | ours, s | ratio | middle half of the ratios |\n|---|---|---|---|---|")
        for title, pick in (("an epoch", 0), ("an evaluation", 1)):
            theirs, mine = ([way[pick] for way in column] for column in zip(*rounds, strict=True))
            low, middle, high = ratios(theirs, mine)
            say(
                f"| {title} | {statistics.median(theirs):.2f} | {statistics.median(mine):.2f} | {middle:.2f} "
                f"| {low:.2f} to {high:.2f} |"
            )


if __name__ == "__main__":
    main()
