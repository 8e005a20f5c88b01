"""What a config can name in this room: models, losses, metrics. Read by parse_config.py.

A function of one's own is a loss or a metric by its first two parameters, `output` and `target`.
"""

from typing import Literal

from utils.config_check import Section
from utils.config_table import Table

SECTIONS = {
    "arch": Section(
        Table(
            "a model",
            ("model", "torchvision.models"),
            "base.base_model:BaseModel",
            own_packages=("model",),
            builders=True,
        ),
        offered=frozenset({"num_classes", "in_channels", "image_size"}),
    ),
    "loss": Section(
        Table(
            "a loss",
            ("model", "torch.nn"),
            "torch.nn.modules.loss:_Loss",
            own_packages=("model",),
            function_takes=("output", "target"),
        ),
        offered=frozenset({"weight"}),
        keys={"class_weights": Literal["auto"] | None},
    ),
    "metrics": Section(
        Table(
            "a metric",
            ("model", "torchmetrics.classification"),
            "torchmetrics:Metric",
            own_packages=("model",),
            function_takes=("output", "target"),
            refused={
                "Binary*": "it takes one score an image; for two classes too there is the Multiclass one",
                "Multilabel*": "an image has one class here; use the Multiclass one",
            },
        ),
        offered=frozenset({"num_classes"}),
        keys={"name": str},
    ),
}
