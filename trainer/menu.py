"""What a config can name in this room: trainers, optimizers, schedulers. Read by parse_config.py."""

from typing import Any, Literal

from utils.config_check import Section
from utils.config_table import Table

_SCHEDULER = Table(
    "a learning-rate scheduler",
    ("torch.optim.lr_scheduler",),
    "torch.optim.lr_scheduler:LRScheduler",
    refused=dict.fromkeys(("LambdaLR", "MultiplicativeLR"), "it takes a function, and JSON has none"),
)

SECTIONS = {
    "trainer": Section(
        Table("a trainer", ("trainer",), "base.base_trainer:BaseTrainer", own_packages=("trainer",)),
        given=frozenset({"learner", "loaders", "options", "context"}),
    ),
    "optimizer": Section(
        Table(
            "an optimizer",
            ("torch.optim",),
            "torch.optim:Optimizer",
            refused={
                "LBFGS": "it runs the model several times a step, which this training loop does not",
                "SparseAdam": "it takes sparse gradients, and images give dense ones",
            },
        ),
        given=frozenset({"params"}),
        keys={"groups": list[dict[str, Any]]},
    ),
    "lr_scheduler": Section(
        _SCHEDULER,
        given=frozenset({"optimizer"}),
        offered=frozenset({"epochs", "steps_per_epoch", "max_lr", "mode"}),
        keys={"interval": Literal["epoch", "step"]},
    ),
}
# Parameters whose values are objects to build, and what those may be.
NESTED = {"schedulers": Section(_SCHEDULER, given=frozenset({"optimizer"}))}
