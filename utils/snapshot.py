"""A copy of a state in the memory of the CPU, which training no longer changes: what a save in the background writes.

It is made while training waits, and therefore as fast as memory is copied: the same buffers are used at each save, and
from a GPU nothing is waited for.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

_UNCHANGING = frozenset((bool, int, float, str, type(None)))


@dataclass
class Snapshot:
    """A state as it was.

    Args:
        state: the copy; complete after `wait`.
        events: on GPUs, behind the copies.
    """

    state: Any
    events: list[torch.cuda.Event] = field(default_factory=list)

    def wait(self) -> None:
        """Until the GPUs have handed over everything."""
        for event in self.events:
            event.synchronize()


class Snapshots:
    """Takes snapshots of one state, one at a time: each is overwritten by the next."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, bool], list[torch.UntypedStorage]] = {}
        self._free = self._buffers
        # By place: the copy, and the original, so that no other takes its place meanwhile.
        self._copies: dict[Any, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def take(self, state: Any) -> Snapshot:
        """Copies plain data (see utils/plain.py) at every depth; tensors that share memory do so in the copy too.

        Args:
            state: may lie on a GPU; the copies wait in its current stream, behind the work that is queued there.
        """
        self._free, self._buffers, self._copies = self._buffers, {}, {}
        try:
            copied = self._copy(state)
            gpus = {device for device, *_ in self._copies if device.type == "cuda"}
            return Snapshot(copied, [torch.cuda.current_stream(device).record_event() for device in gpus])
        finally:  # what this state has no use for is given back
            self._free, self._copies = {}, {}

    def _copy(self, value: Any) -> Any:
        if type(value) in _UNCHANGING:
            return value
        if isinstance(value, torch.Tensor):
            return self._copy_of_tensor(value)
        if isinstance(value, dict):
            copied = type(value)()
            for key, item in value.items():
                copied[self._copy(key)] = self._copy(item)
            if hasattr(value, "__dict__"):  # the versions of modules hang on what `state_dict` gives
                vars(copied).update(self._copy(vars(value)))
            return copied
        if _UNCHANGING.issuperset(map(type, value)):
            return type(value)(value)
        return type(value)(map(self._copy, value))

    def _copy_of_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        source = tensor.resolve_conj().resolve_neg()
        dtype, place = source.dtype, (source.storage_offset(), source.shape, source.stride())
        copied = torch.empty(0, dtype=dtype, device="cpu").set_(self._copy_of_storage(source.untyped_storage()), *place)
        if isinstance(tensor, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, tensor.requires_grad)
        copied.requires_grad_(tensor.requires_grad)
        if attached := vars(tensor):
            vars(copied).update(self._copy(attached))
        return copied

    def _copy_of_storage(self, source: torch.UntypedStorage) -> torch.UntypedStorage:
        place, is_pinned = (source.device, source.data_ptr(), source.nbytes()), source.device.type == "cuda"
        if place not in self._copies:
            size = source.nbytes(), is_pinned
            free = self._free.get(size)
            buffer = free.pop() if free else _new_buffer(*size)
            buffer.copy_(source, non_blocking=is_pinned)  # without waiting only into memory that is pinned
            self._buffers.setdefault(size, []).append(buffer)
            self._copies[place] = buffer, source
        return self._copies[place][0]


def _new_buffer(num_bytes: int, is_pinned: bool) -> torch.UntypedStorage:
    if is_pinned:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True).untyped_storage()
    return torch.UntypedStorage(num_bytes)
