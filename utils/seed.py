"""Every use of chance gets a seed of its own, drawn by a hash from the run's seed and what it is for.

Sums and products of seeds collide (`seed * epoch` gives every seed the same first epoch), and torch's CPU
generator uses only the low 32 bits of a seed; a hash spreads both. Nothing here holds state: who knows
(seed, purpose, epoch, index) can draw the same numbers again, which is what makes a resumed run exact.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

# Of the mapping from (seed, purpose, numbers) to draws; a checkpoint of another one cannot go on exactly.
KEYS_VERSION = 1


def seed_for(root: int, purpose: str, *numbers: int) -> int:
    """A 63-bit seed for one purpose, for example `seed_for(123, "sample", epoch, index)`.

    The numbers must each fit into 64 signed bits, the purpose into 16 bytes. The mapping is part of what a
    checkpoint relies on: it must not change (tests/test_seed.py holds golden values).
    """
    key = b"".join(number.to_bytes(8, "little", signed=True) for number in (root, *numbers))
    digest = hashlib.blake2b(key, digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(root: int, purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator of its own for one purpose; see `seed_for`."""
    generator = torch.Generator()
    generator.manual_seed(seed_for(root, purpose, *numbers))
    return generator


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Inside, torch's CPU draws come from `seed`; afterwards the generator is where it was before.

    torchvision's transforms draw from the default CPU generator only. `torch.manual_seed` would do as well,
    and costs a hundred times more a call because it also queues the seeding of every accelerator.
    """
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def seed_step(root: int, step: int, device: torch.device) -> None:
    """Seeds what a training step draws (dropout and its kin) by the number of the step, on its device.

    Called before every step, so that a resumed run draws as the uninterrupted one without any stored state.
    """
    seed = seed_for(root, "step", step)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = device.index if device.index is not None else torch.cuda.current_device()
        torch.cuda.default_generators[index].manual_seed(seed)


def seed_everything(root: int) -> None:
    """Seeds the global generators (Python, numpy, torch) once, for the entry scripts and user code only."""
    random.seed(seed_for(root, "python"))
    np.random.seed(seed_for(root, "numpy") & 0xFFFFFFFF)
    torch.manual_seed(seed_for(root, "torch"))


def global_rng_state(devices: list[torch.device]) -> dict[str, Any]:
    """The global generators, for user code; the project's own draws are keyed and need none of this."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"],
    }


def restore_global_rng(state: Mapping[str, Any], devices: list[torch.device]) -> None:
    """Puts the global generators back."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    for device, of_device in zip([device for device in devices if device.type == "cuda"], state["cuda"], strict=False):
        torch.cuda.set_rng_state(of_device, device)
