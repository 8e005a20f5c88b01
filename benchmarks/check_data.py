"""How many photographs the data doctor looks over in a second: `python -m benchmarks.check_data [--images 10000]`.

Draws photograph-like JPEGs of 500x375 into a temporary folder, each a blend of two others, and looks them over with one
process and with one a core. Images a second of processor time are what a core does; the clock on the wall also counts
what other programs take.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops

from benchmarks.measure import machine
from benchmarks.pixels import draw_photographs
from tools.data_facts import list_folders, read_pictures
from tools.data_findings import findings_of
from utils.cores import usable_cores

NUM_DRAWN = 64


def blend_photographs(folder: Path, number: int) -> None:
    """Many different ones out of a few, in two parts of two classes."""
    drawn = folder / "drawn"
    draw_photographs(drawn, NUM_DRAWN, (500, 375), ".jpg")
    images = [Image.open(path).copy() for path in sorted(drawn.rglob("*.jpg"))]
    chance = np.random.default_rng(0)
    for index in range(number):
        first, second = (images[at] for at in chance.choice(NUM_DRAWN, 2, replace=False))
        moved = ImageChops.offset(second, *chance.integers(0, 375, 2).tolist())
        path = folder / "data" / ("train", "test")[index % 5 == 0] / "ab"[index % 2] / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.blend(first, moved, float(chance.uniform(0.3, 0.7))).save(path, quality=90)


def processor_s() -> float:
    """Of this process and of those that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(folder: Path, num_processes: int) -> None:
    """Prints a line."""
    started_s, before_s = time.perf_counter(), processor_s()
    listing = list_folders([folder])
    pictures = read_pictures(listing, num_processes)
    read_s = processor_s() - before_s
    findings = findings_of(listing, pictures)
    all_s, wall_s = processor_s() - before_s, time.perf_counter() - started_s
    number = len(pictures)
    print(
        f"{num_processes} processes: {number / all_s:.0f} images/s a core ({number / read_s:.0f} without the search "
        f"for copies, {all_s - read_s:.2f} s), {number / wall_s:.0f} images/s on the wall; {len(findings)} findings"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--data-dir", type=Path, help="a data set of your own instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    with tempfile.TemporaryDirectory() as place:
        if args.data_dir is None:
            blend_photographs(Path(place), args.images)
            size_kB = sum(path.stat().st_size for path in Path(place, "data").rglob("*.jpg")) / args.images / 1000
            print(f"{args.images:,} photographs of {size_kB:.0f} kB")
        for num_processes in (1, max(2, usable_cores())):
            measure(args.data_dir or Path(place) / "data", num_processes)
