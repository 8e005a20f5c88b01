"""What test.py costs: `OMP_NUM_THREADS=1 python -m benchmarks.test_speed`.

A folder of drawn shapes is judged by a small VGG in turn by a plain loop (torch's DataLoader over the same data set, so
the same decoding; softmax, argmax and counts, as one would write it) and by test.py's pass. The ratio of images/s in
a round is what counts, by the processor's time, as others may use the machine. Then the scores and files of 10,000
images of 1,000 classes are timed by themselves.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks.measure import machine, ratios
from data_loader.data_loaders import ImageFolderDataLoader
from data_loader.shapes import ShapesSettings, draw_shapes_folder
from logger.predictions import Predictions
from logger.score_files import write_score_files
from logger.scores import score
from logger.tables import screen
from model.loss import Criterion, cross_entropy
from model.metric import MeanOverSamples, MetricSet, accuracy
from model.vgg import VGG
from trainer.evaluate import evaluate
from trainer.pixels import PixelsToInput

BATCH_SIZE, SIDE_PX = 64, 64


@torch.inference_mode()
def plain_s(network: torch.nn.Module, loader: ImageFolderDataLoader, to_input: PixelsToInput) -> float:
    """Seconds of a loop over the same data set, without anything of ours around it."""
    network.eval()
    num_right, began_s = 0, time.process_time()
    for images_NCHW, targets_N in DataLoader(loader.samples, batch_size=BATCH_SIZE):
        probabilities_NK = network(to_input(images_NCHW)).softmax(1)
        num_right += int((probabilities_NK.argmax(1) == targets_N).sum())
    return time.process_time() - began_s


def ours_s(network: torch.nn.Module, loader: ImageFolderDataLoader, to_input: PixelsToInput) -> float:
    """Seconds of test.py's pass, with a metric, up to the probabilities of every image."""
    metrics = MetricSet([MeanOverSamples(accuracy, "accuracy")])
    predictions, began_s = Predictions(loader.classes), time.process_time()
    evaluate(network, loader, Criterion(cross_entropy), metrics, to_input=to_input, observer=predictions.add)
    predictions.judgement(loader.sample_name, lambda _: torch.zeros(3, 1, 1, dtype=torch.uint8))
    return time.process_time() - began_s


def report_s(num_images: int, num_classes: int) -> dict[str, float]:
    """Seconds of each part of what follows the pass."""
    generator = torch.Generator().manual_seed(0)
    targets_N = torch.randint(0, num_classes, (num_images,), generator=generator)
    logits_NK = torch.randn(num_images, num_classes, generator=generator)
    logits_NK[torch.arange(num_images), targets_N] += 3
    predictions = Predictions([f"n{index:08d}" for index in range(num_classes)])
    predictions.add(logits_NK, targets_N)
    pixels = torch.zeros(3, 64, 64, dtype=torch.uint8)
    times_s = [time.process_time()]
    judgement = predictions.judgement("images/{:08d}.jpg".format, lambda _: pixels)
    times_s.append(time.process_time())
    scores = score(judgement, 0)
    times_s.append(time.process_time())
    screen(judgement, scores, {})
    with tempfile.TemporaryDirectory() as folder:
        write_score_files(Path(folder), judgement, scores, {})
    times_s.append(time.process_time())
    names = ("probabilities", "scores", "tables, files and pictures")
    return {name: end - start for name, start, end in zip(names, times_s[:-1], times_s[1:], strict=True)}


def main() -> None:
    """Prints the ratio and the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        draw_shapes_folder(Path(folder), ShapesSettings(8, 1, 1, 50, SIDE_PX, 0))
        loader = ImageFolderDataLoader(
            Path(folder), batch_size=BATCH_SIZE, transform=[], eval_transform=[], training=False
        )
        torch.manual_seed(0)
        network = VGG(8, [16, "M", 32, "M", 64, "M"], batch_norm=True, pool_size=2)
        to_input = PixelsToInput(loader.mean, loader.std, torch.device("cpu"))
        plain, ours = [], []
        for number in range(rounds + 1):
            measured = plain_s(network, loader, to_input), ours_s(network, loader, to_input)
            if number:  # the first warms up
                plain.append(measured[0])
                ours.append(measured[1])
        first, middle, third = ratios(plain, ours)
        speed = len(loader.indices) / statistics.median(ours)
        print(f"test.py {speed:.0f} images/s, {middle:.3f} of a plain loop's (quartiles {first:.3f} to {third:.3f})")
    for name, seconds in report_s(10_000, 1000).items():
        print(f"10,000 images of 1,000 classes: {name} {seconds:.2f} s")


if __name__ == "__main__":
    main()
