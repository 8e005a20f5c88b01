"""What a config can name in this room: loaders, transforms, samplers, collate functions. Read by parse_config.py."""

from utils.config_check import Section
from utils.config_table import Table

_PIXELS = "images arrive as uint8 tensors and become floats on the device; leave it out"
_BATCHES = "it mixes whole batches, not single images; put it into batch_transform"
_NORMALISED = "mean and std do that with every batch; leave it out"

SECTIONS = {
    "data_loader": Section(
        Table("a data loader", ("data_loader",), "base.base_data_loader:BaseDataLoader", own_packages=("data_loader",)),
        given=frozenset({"seed", "training", "classes"}),
    ),
}
_TRANSFORM = Section(
    Table(
        "a transform",
        ("data_loader", "torchvision.transforms.v2"),
        "torchvision.transforms.v2:Transform",
        own_packages=("data_loader",),
        refused={
            **dict.fromkeys(("ToTensor", "ToImage", "PILToTensor", "ToPILImage", "ToPureTensor"), _PIXELS),
            **dict.fromkeys(("MixUp", "CutMix"), _BATCHES),
            "Lambda": "JSON has no functions; put a class of your own into data_loader/",
        },
    )
)
# Parameters whose values are objects to build, and what those may be.
NESTED = {
    **dict.fromkeys(("transform", "eval_transform", "transforms"), _TRANSFORM),
    "batch_transform": Section(
        Table(
            "a batch transform",
            ("data_loader",),
            "base.base_batch_transform:BatchTransform",
            own_packages=("data_loader",),
            refused=dict.fromkeys(("Normalize", "ToDtype"), _NORMALISED),
        )
    ),
    "sampler": Section(
        Table(
            "a sampler",
            ("data_loader",),
            "base.base_sampler:BaseSampler",
            own_packages=("data_loader",),
            short_names={"balanced": "BalancedSampler", "random": "RandomSampler", "sequential": "SequentialSampler"},
        )
    ),
    "collate_fn": Section(
        Table("a collate function", ("data_loader",), None, own_packages=("data_loader",), function_takes=("samples",))
    ),
}
