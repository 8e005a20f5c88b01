"""How much faster a training step is with channels last: `OMP_NUM_THREADS=2 python -m benchmarks.layout`.

Both layouts train the same networks on the same random images, in turn, in one process; the ratio is what counts.
"""

import statistics
import time

import torch
from torch.nn.functional import cross_entropy

from model.vgg import VGG

NETWORKS = {
    "demo, 64 px, batch 32": ([16, "M", 32, "M", 64, "M", 128, "M"], 64, 32),
    "CIFAR-10, 32 px, batch 128": ([32, "M", 64, "M", 128, "M", 256, "M"], 32, 128),
}
ROUNDS, STEPS = 5, 6


def step_ms(layers: list[int | str], size_px: int, batch_size: int, layout: torch.memory_format) -> float:
    """Milliseconds of one step, the mean of a few after a warm-up."""
    torch.manual_seed(0)
    model = VGG(10, layers, batch_norm=True, classifier_width=0, pool_size=1).to(memory_format=layout)
    images = torch.randn(batch_size, 3, size_px, size_px).to(memory_format=layout)
    targets = torch.randint(0, 10, (batch_size,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(STEPS + 2):
        if step == 2:
            started_s = time.perf_counter()
        cross_entropy(model(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.perf_counter() - started_s) / STEPS * 1000


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {ROUNDS} rounds")
    for name, network in NETWORKS.items():
        rows = [
            (step_ms(*network, torch.contiguous_format), step_ms(*network, torch.channels_last)) for _ in range(ROUNDS)
        ]
        plain, last = (statistics.median(column) for column in zip(*rows, strict=True))
        ratio = statistics.median(a / b for a, b in rows)
        print(f"{name:28} contiguous {plain:7.1f} ms   channels last {last:7.1f} ms   ratio {ratio:.2f}")
