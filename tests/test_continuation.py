"""Whether a run can go on: what must be as it was, what is only said, and what is refused with what would do."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch

from base.continuation import (
    data_changes,
    epochs_done,
    numerics_changes,
    require_continuable,
    require_same_data,
    why_finished,
)
from base.training_parts import TrainerOptions
from utils.device import numerics
from utils.errors import CheckpointError
from utils.seed import KEYS_VERSION

CPU = torch.device("cpu")
DATA = {"cat": [3, "aa"], "dog": [2, "bb"]}


class Loader:
    """Stands for the training images."""

    def __init__(self, data=None, held_back=None):
        self.data, self.part = data or DATA, held_back
        self.classes = list(self.data)

    def fingerprint(self):
        return self.data

    def held_back(self):
        return self.part


def config_of(*, epochs=4, early_stop=None, monitor="min val_loss", allow_data_change=False, weights=None, **parts):
    """A parser whose checkpoint has two epochs done."""
    checkpoint = {
        "epochs_done": 2,
        "monitor": {"name": "val_loss", "higher_is_better": False, "bad_epochs": 1},
        "keys_version": KEYS_VERSION,
        "classes": ["cat", "dog"],
        "data": DATA,
        "input": {"held_back": None},
        "numerics": numerics(CPU),
    } | parts
    return SimpleNamespace(
        checkpoint=checkpoint,
        resume="last.pth",
        args=Namespace(allow_data_change=allow_data_change, weights=weights),
        trainer_options=TrainerOptions(epochs=epochs, early_stop=early_stop, monitor=monitor),
        require_same_model=lambda training: None,
        require_same_experiment=lambda: None,
    )


def new_run():
    config = config_of(weights="w.pth")
    config.checkpoint = None
    return config


def refused(config, loader):
    with pytest.raises(CheckpointError) as caught:
        require_same_data(config, loader)
    return str(caught.value)


def test_a_new_run_has_nothing_to_hold_against_it():
    config = new_run()

    require_continuable(config)
    require_same_data(config, Loader({"bird": [1, "x"], "fish": [1, "y"]}))

    assert epochs_done(config) == 0
    assert why_finished(config) == ""
    assert data_changes(config, Loader({"bird": [1, "x"]})) == []
    assert numerics_changes(config, CPU) == []


# --- finished ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "is_finished"), [(1, True), (2, True), (3, False)])
def test_a_run_is_finished_when_its_epochs_are_done(epochs, is_finished):
    message = why_finished(config_of(epochs=epochs))

    assert bool(message) is is_finished
    if is_finished:
        assert message == (
            f"last.pth: finished, 2 of {epochs} epochs are done. To go on, ask for more: "
            f"python train.py -r last.pth trainer.epochs={2 + epochs}"
        )


@pytest.mark.parametrize(
    ("early_stop", "monitor", "bad_epochs", "is_finished"),
    [
        (3, "min val_loss", 3, True),
        (2, "min val_loss", 3, True),
        (4, "min val_loss", 3, False),
        (None, "min val_loss", 3, False),
        (0, "min val_loss", 3, False),
        (3, "max val_accuracy", 3, False),  # it begins to wait anew
        (3, "max val_loss", 3, False),
    ],
)
def test_a_run_that_stopped_early_is_finished_while_it_has_the_same_patience(
    early_stop, monitor, bad_epochs, is_finished
):
    config = config_of(early_stop=early_stop, monitor=monitor)
    config.checkpoint["monitor"]["bad_epochs"] = bad_epochs

    message = why_finished(config)

    assert bool(message) is is_finished
    if is_finished:
        assert f"stopped early after {bad_epochs} epochs without improvement" in message
        assert message.endswith(f"trainer.early_stop={2 * early_stop}")


# --- what must be as it was --------------------------------------------------------------------------------------


def test_weights_beside_a_checkpoint_are_refused():
    with pytest.raises(CheckpointError, match="-r continues a run, --weights starts a new one"):
        require_continuable(config_of(weights="w.pth"))


def test_a_checkpoint_of_other_rules_of_chance_is_refused_with_both_numbers():
    require_continuable(config_of())

    with pytest.raises(CheckpointError, match=f"by version {KEYS_VERSION + 1} of the keys, .* version {KEYS_VERSION}"):
        require_continuable(config_of(keys_version=KEYS_VERSION + 1))


@pytest.mark.parametrize("name", ["require_same_model", "require_same_experiment"])
def test_the_parser_is_asked_about_model_and_experiment(name):
    def refuse(**_):
        raise CheckpointError(name)

    config = config_of()
    setattr(config, name, refuse)

    with pytest.raises(CheckpointError, match=f"^{name}$"):
        require_continuable(config)


@pytest.mark.parametrize("allow_data_change", [False, True])
def test_other_classes_are_refused_even_where_other_images_are_allowed(allow_data_change):
    config = config_of(allow_data_change=allow_data_change)

    message = refused(config, Loader({"cat": [3, "aa"], "wolf": [2, "bb"], "yak": [1, "c"]}))

    assert "was trained on 2 classes, the data has 3 (missing: dog; new: wolf, yak)" in message
    assert message.endswith("--weights last.pth")


def test_the_same_classes_in_another_order_are_other_classes():
    assert "(missing: none; new: none)" in refused(config_of(), Loader({"dog": [2, "bb"], "cat": [3, "aa"]}))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"cat": [4, "xx"], "dog": [2, "bb"]}, "cat: 4 images, were 3"),
        ({"cat": [3, "aa"], "dog": [2, "yy"]}, "dog: 2 images of other names"),
    ],
)
def test_other_images_are_refused_by_class_and_can_be_allowed(data, said):
    message = refused(config_of(), Loader(data))
    require_same_data(config_of(allow_data_change=True), Loader(data))

    assert f"the images are not those of the checkpoint any more ({said})" in message
    assert "--allow-data-change goes on with them" in message
    assert data_changes(config_of(), Loader(data)) == [f"the images are not those of the checkpoint any more ({said})"]


def test_another_part_held_back_is_a_change_of_the_data_and_its_danger_is_said():
    before, now = {"digest": "a"}, {"digest": "b"}

    (line,) = data_changes(config_of(input={"held_back": before}), Loader(held_back=now))

    assert "(another part is held back); some that are now held back for validation may have been trained on" in line
    assert data_changes(config_of(input={"held_back": before}), Loader(held_back=before)) == []


# --- what is only said -------------------------------------------------------------------------------------------


def test_the_same_machine_is_not_spoken_of():
    assert numerics_changes(config_of(), CPU) == []


@pytest.mark.parametrize("name", sorted(numerics(CPU)))
def test_whatever_computes_otherwise_is_said_with_what_it_was(name):
    before = numerics(CPU) | {name: "other"}

    (line,) = numerics_changes(config_of(numerics=before), CPU)

    assert line == (
        f"{name} was other, is {numerics(CPU)[name]}: the last bits may differ from those of a run that was not stopped"
    )
