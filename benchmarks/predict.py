"""What predict.py costs beside a plain loop: `OMP_NUM_THREADS=1 python -m benchmarks.predict`.

Draws photograph-like JPEGs of 500x375 and a VGG with random weights at 224 px. Both ways decode with the same function
and transforms and run the same network on the same batches; predict's also ranks and writes. They take turns, and
the ratios of pairs count.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import predict
from benchmarks.pixels import draw_photographs
from data_loader.decode import decode_image
from data_loader.recorded import PixelPath, pixel_path
from data_loader.transforms import compose
from parse_config import ConfigParser
from utils.checkpoint import save_checkpoint
from wiring.trained import Trained, open_trained

SIZE_PX, BATCH_SIZE = 224, 16
LAYERS = [16, "M", 32, "M", 64, "M", 128, "M"]


class Files(Dataset[torch.Tensor]):
    """Decoded and transformed, as predict's are."""

    def __init__(self, paths: list[str], pixels: PixelPath):
        self.paths, self.transform = paths, compose(pixels.transforms)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = decode_image(self.paths[index])
        return self.transform(image) if self.transform else image


def checkpoint_in(folder: Path) -> Path:
    """Of a network that has learnt nothing."""
    arch = {"type": "VGG", "args": {"layers": LAYERS, "batch_norm": True, "classifier_width": 0, "pool_size": 1}}
    loader = {"type": "ImageFolderDataLoader", "args": {"data_dir": "nowhere"}}
    config = {"name": "bench", "arch": arch, "data_loader": loader, "optimizer": "SGD", "loss": "cross_entropy"}
    config |= {"metrics": [], "trainer": {"epochs": 1}, "device": "cpu", "n_gpu": 0}
    parser = ConfigParser(config)
    parser.offer(num_classes=2, in_channels=3, image_size=[SIZE_PX, SIZE_PX])
    transforms = [{"type": "Resize", "args": {"size": 256}}, {"type": "CenterCrop", "args": {"size": SIZE_PX}}]
    pixels = {"channels": 3, "scaled_decoding": False, "batch_size": BATCH_SIZE, "eval_transform": transforms}
    about = {"shape_CHW": [3, SIZE_PX, SIZE_PX], "mean": [0.5], "std": [0.25], "pixels": pixels}
    monitor = {"name": None, "higher_is_better": False, "best": None, "best_epoch": None, "bad_epochs": 0}
    state = {"config": parser.resolved, "offered": parser.offered_paths, "classes": ["a", "b"], "input": about}
    state |= {
        "run": {"name": "bench", "run_id": "1"},
        "model": parser.init_model().state_dict(),
        "monitor": monitor,
        "numerics": {},
    }
    save_checkpoint(folder / "model.pth", state | {"epochs_done": 0, "steps_done": 0})
    return folder / "model.pth"


def plain_s(trained: Trained, pixels: PixelPath, paths: list[str], num_workers: int) -> float:
    """Seconds of the loop that one would write."""
    started_s = time.perf_counter()
    network, to_input = trained.network().eval(), trained.to_input()
    with torch.inference_mode():
        for images_NCHW in DataLoader(Files(paths, pixels), BATCH_SIZE, num_workers=num_workers):
            network(to_input(images_NCHW)).softmax(1).max(1)
    return time.perf_counter() - started_s


def predict_s(config: ConfigParser, out: Path) -> float:
    """Seconds of predict's work, from the first file to the last row; the network is opened before."""
    work = predict.prepare(config)
    started_s = time.perf_counter()
    with out.open("wb") as file:
        table = predict.KINDS["csv"](file, work.trained.classes, 1, with_all=False)
        predict.predict(work, table, None, None, predict.logging.getLogger("silent"))
        table.close()
    return time.perf_counter() - started_s


def main() -> None:
    """Prints the ratio of images a second, predict's to the plain loop's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        draw_photographs(folder, args.images, (500, 375), ".jpg")
        model = checkpoint_in(folder)
        paths = sorted(str(path) for path in folder.rglob("*.jpg"))
        for num_workers in args.workers:
            words = ["-r", str(model), str(folder), "--num-workers", str(num_workers)]
            config = ConfigParser.from_args(predict.read_words(words), training=False)
            pixels = pixel_path(
                dict(config.checkpoint or {}), config.plans["data_loader"], is_typed=False, allowed=(), file="it"
            )
            trained = open_trained(config, torch.zeros(pixels.shape_CHW, dtype=torch.uint8))
            ratios = []
            for turn in range(1 + args.rounds):
                both = [0.0, 0.0]
                for way in (0, 1) if turn % 2 else (1, 0):
                    out = folder / "out.csv"
                    both[way] = predict_s(config, out) if way else plain_s(trained, pixels, paths, num_workers)
                ratios += [both[0] / both[1]] if turn else []  # the first warms up
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(
                f"{num_workers} workers: predict.py at {middle:.3f} of the plain loop's images/s "
                f"(middle half {low:.3f} to {high:.3f}, {args.rounds} rounds)"
            )


if __name__ == "__main__":
    main()
