"""What workers gain on this machine: `python -m benchmarks.workers -c config.json [KEY=VALUE ...]`.

Trains one epoch with 0, 1, 2, ... workers in turn, in several rounds, so that a busy machine is as busy for each.
Workers are kept from one epoch to the next, and the first round, in which they start, does not count.
"""

import statistics
import time

import torch

from base.base_data_loader import BaseDataLoader
from parse_config import ConfigParser
from trainer.pixels import PixelsToInput
from utils.command_line import Parser
from utils.cores import usable_cores
from utils.device import choose_devices

ROUNDS = 3


def epoch_s(loader: BaseDataLoader, model: torch.nn.Module, device: torch.device) -> float:
    """Seconds of forward and backward over all batches, without a step of an optimizer."""
    to_input = PixelsToInput(loader.mean, loader.std, device, torch.contiguous_format)
    started_s = time.perf_counter()
    for images, targets in loader:
        loss = torch.nn.functional.cross_entropy(model(to_input(images)), targets.to(device))
        loss.backward()
        model.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started_s


def main() -> None:
    """Prints the median seconds of an epoch for each number of workers."""
    config = ConfigParser.from_args(Parser(prog="benchmarks.workers", description=__doc__).read(()))
    devices, _ = choose_devices(config["device"], config["n_gpu"])
    loaders: dict[int, BaseDataLoader] = {}
    for number in dict.fromkeys((0, 1, 2, usable_cores() // 2, usable_cores() - 1)):
        keep = {"num_workers": number, "persistent_workers": number > 0, "prefetch_factor": None}
        config.plans["data_loader"].args |= keep  # in the place of what the config says
        loaders[number] = config.init_obj("data_loader", seed=1, training=True)
    one = loaders[0]
    image_CHW = one.first_image()
    config.offer(num_classes=len(one.classes), in_channels=image_CHW.shape[0], image_size=list(image_CHW.shape[1:]))
    model = config.init_model(pretrained=False).to(devices[0])
    seconds: dict[int, list[float]] = {number: [] for number in loaders}
    for _ in range(1 + ROUNDS):
        for number, loader in loaders.items():
            seconds[number].append(epoch_s(loader, model, devices[0]))
    print(
        f"{devices[0]}, {usable_cores()} cores, {torch.get_num_threads()} threads of torch, {len(one)} batches an epoch"
    )
    base_s = statistics.median(seconds[0][1:])
    for number, (_, *counted) in seconds.items():
        median_s = statistics.median(counted)
        print(f"{number:3} workers {median_s:8.2f} s, {median_s / base_s:5.2f} of that without workers")
    for loader in loaders.values():
        loader.close()


if __name__ == "__main__":
    main()
