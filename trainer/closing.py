"""At the end of a run its best checkpoint is judged once more, from the file: what a test will open."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from trainer.evaluate import Evaluation
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.stop import RunStopped

# A GPU may choose other kernels for the same layers; one image of ten thousand may then be taken for something else.
_SAME = {"cpu": 1e-9}
_NEARLY = 1e-3


@dataclass(frozen=True)
class Closing:
    """What came of judging a checkpoint again.

    Args:
        words: for the last lines; empty where it could not be done.
        remarks: warnings.
        evaluation: None where it was not done.
    """

    words: str = ""
    remarks: list[str] = field(default_factory=list)
    evaluation: Evaluation | None = None


def judged_again(
    path: Path,
    model: nn.Module,
    judge: Callable[[], Evaluation],
    recorded: Mapping[str, float],
    device: torch.device,
) -> Closing:
    """Judges the weights in a checkpoint, and holds the scores against those on record.

    The run is over, so that nothing here is its failure. The model has its own weights again afterwards, bit for bit.

    Args:
        path: of a checkpoint of this model.
        model: what `judge` judges.
        judge: makes the pass; raises RunStopped where somebody asked for the end.
        recorded: the row of results.csv of the checkpoint's epoch.
        device: of the model.
    """
    own = {
        name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for name, value in model.state_dict().items()
    }
    try:
        model.load_state_dict(load_checkpoint(path)["model"])
        found = judge()
    except RunStopped as reason:
        return Closing(f"not evaluated again ({reason})")
    except UserError as error:
        return Closing(remarks=[f"{path.name} could not be evaluated again: {error}"])
    finally:
        model.load_state_dict(own)
    words = f"evaluated again on {found.num_images:,} validation images: "
    others = differences(found.scores, recorded, device)
    if not others:
        return Closing(words + "the same scores", [], found)
    remark = f"{path.name} gives other scores than its epoch had: {', '.join(others)}"
    return Closing(words + "other scores", [remark], found)


def differences(found: Mapping[str, float], recorded: Mapping[str, float], device: torch.device) -> list[str]:
    """In words, the scores that are not those on record: to the last digits on a CPU, nearly on a GPU.

    >>> differences({"loss": 1.0}, {"val/loss": 1.5}, torch.device("cpu"))
    ['val_loss 1 (1.5 was recorded)']
    """
    lines = []
    for name, value in found.items():
        before = recorded.get(f"val/{name}", math.nan)
        is_same = math.isclose(value, before, rel_tol=_SAME.get(device.type, _NEARLY), abs_tol=1e-9)
        if not is_same and not (math.isnan(value) and math.isnan(before)):
            lines.append(f"val_{name} {value:.6g} ({before:.6g} was recorded)")
    return lines
