"""The images that a test judges, and in which ways they are not those of the training."""

from collections.abc import Mapping
from typing import Any

from base.base_data_loader import BaseDataLoader
from data_loader.parts import ImageDataLoader
from data_loader.recorded import recorded_pixels
from parse_config import ConfigParser
from utils.errors import DataError


def open_test_images(config: ConfigParser) -> tuple[BaseDataLoader, str]:
    """The loader of the images to test on, and in words which they are.

    Raises:
        DataError: their classes are not those of the checkpoint, or the loader cannot tell which images to use.
    """
    checkpoint = config.checkpoint or {"classes": [], "input": {}}
    classes = checkpoint["classes"]
    plan, path = config.plans["data_loader"], "data_loader.args.validation_split"
    changed = {name for name, _, _ in config.changes}
    if plan.takes("training"):
        if elsewhere_but_maybe_the_same(config) and path not in changed:
            plan.args["validation_split"] = 0  # nothing of these images was held back, all are to be judged
        if "data_loader.args.batch_size" in changed:
            plan.args.pop("eval_batch_size", None)  # what was typed for this test wins over the training's config
        if not issubclass(plan.target, ImageDataLoader):  # type: ignore[arg-type]
            # A loader that was written for pytorch-template reads its test images, and would split and shuffle them.
            plan.args |= {
                name: value for name, value in {"validation_split": 0, "shuffle": False}.items() if plan.takes(name)
            }
        loader = config.init_obj("data_loader", seed=config["seed"], training=False, classes=classes)
        # What cannot be read is left out, not replaced as in training, and that is what is said of it.
        loader.dataset.part, loader.bad.what_is_done = None, "left out"
        source = getattr(loader, "source", f"{len(loader.indices)} images of {plan.type_name} with training=False")
    else:
        loader = config.init_obj("data_loader", seed=config["seed"]).split_validation()
        if loader is None:
            raise DataError(
                f"{plan.type_name}: has no validation part, and takes no `training` argument that could ask for test "
                f"images"
            )
        source = f"the validation part of {plan.type_name} ({len(loader.indices)} images)"
    tested_part, held_back = getattr(loader, "tested_part", None), checkpoint["input"].get("held_back")
    if tested_part is not None and tested_part != held_back:
        raise DataError(
            f"{plan.type_name}: the images are not those of the training any more, so the part that was held back "
            f"cannot be told from the part that was trained on. Name images with data_loader.args.data_dir=FOLDER"
        )
    if loader.classes != classes:
        raise DataError(f"{plan.type_name}: classes {loader.classes} are not the checkpoint's {classes}")
    return loader, source


def require_all_read(loader: BaseDataLoader, *, is_strict: bool) -> None:
    """Refuses, where that is asked for, to give scores on fewer images than there are.

    Raises:
        DataError: some could not be read so far.
    """
    if is_strict and loader.num_skipped:
        which = next(iter(loader.bad.values()), "without it the log names them")
        raise DataError(f"{loader.num_skipped} images cannot be read, and --strict asks for all: {which}")


def elsewhere_but_maybe_the_same(config: ConfigParser) -> bool:
    """Whether another folder is judged than the one that was trained on, which only its owner can tell apart."""
    return any(name.endswith(("_dir", "_file")) for name, _, _ in config.changes)


def otherwise_than_trained(checkpoint: Mapping[str, Any], loader: BaseDataLoader) -> list[str]:
    """Warnings where the loader makes the network's input in another way than the training's did.

    So where a test names another loader, whose own defaults then take the place of the training's.
    """
    before, now = dict(checkpoint["input"]), {name: getattr(loader, name) for name in ("mean", "std")}
    record, found = before.get("pixels"), recorded_pixels(loader)
    if record is not None and found is not None:
        names = ("channels", "scaled_decoding", "eval_transform")
        before |= {name: record.get(name) for name in names}
        now |= {name: found.get(name) for name in names}
    other = [name for name, value in now.items() if _plain(value) != _plain(before.get(name))]
    if not other:
        return []
    return [
        f"these images reach the network otherwise than in its training ({', '.join(other)} of data_loader.args): the "
        f"scores may mean little. Give this loader the values of the training"
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
