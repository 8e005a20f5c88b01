"""The JSON Schema says what the checker says: every shipped config passes, a typo does not, and it is up to date."""

import copy
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from parse_config import schema
from utils.config_file import read_json
from utils.config_schema import described, schema_text

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = [ROOT / "config.json", *sorted((ROOT / "configs").glob("*.json"))]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return schema()


@pytest.fixture(scope="module")
def validator(made: dict[str, Any]) -> jsonschema.Draft7Validator:
    jsonschema.Draft7Validator.check_schema(made)
    return jsonschema.Draft7Validator(made)


def wrong(validator: jsonschema.Draft7Validator, config: dict[str, Any]) -> list[str]:
    return sorted(".".join(map(str, error.absolute_path)) for error in validator.iter_errors(config))


def test_the_committed_schema_is_the_one_that_is_made(made: dict[str, Any]) -> None:
    committed = (ROOT / "config.schema.json").read_text(encoding="utf-8")
    for name in ("torch", "torchvision", "torchmetrics", "pydantic"):
        if f"{name} {version(name)}" not in json.loads(committed)["$comment"]:
            pytest.skip(f"config.schema.json was made with another {name}")

    assert schema_text(made) == committed, "run: python train.py --schema > config.schema.json"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_names_the_schema_and_passes(path: Path, validator: jsonschema.Draft7Validator) -> None:
    config = read_json(path).data

    assert (path.parent / config["$schema"]).resolve() == ROOT / "config.schema.json"
    assert wrong(validator, config) == []


@pytest.mark.parametrize(
    ("keys", "value", "place"),
    [
        (("earlystop",), 3, ""),
        (("seed",), "x", "seed"),
        (("optimizer", "type"), "Adamm", "optimizer.type"),
        (("optimizer", "args", "weigth_decay"), 0, "optimizer.args"),
        (("optimizer", "args", "lr"), "fast", "optimizer.args.lr"),
        (("optimizer", "interval"), "step", "optimizer"),
        (("loss",), "cross_entrpy", "loss"),
        (("metrics",), ["accuracy", "acuracy"], "metrics.1"),
        (("metrics",), "accuracy", "metrics"),
        (("trainer", "epoch"), 1, "trainer"),
        (("trainer", "epochs"), 0, "trainer.epochs"),
        (("trainer", "verbosity"), 3, "trainer.verbosity"),
        (("data_loader", "args", "transform"), ["RandomHorizontalFlipp"], "data_loader.args.transform"),
        (("data_loader", "args", "batch_size"), True, "data_loader.args.batch_size"),
        (("data_loader", "args", "seed"), 3, "data_loader.args"),
        (("arch", "args", "dropuot"), 0.1, "arch.args"),
    ],
    ids=str,
)
def test_a_mistake_is_found_at_its_place(
    keys: tuple[str, ...], value: Any, place: str, validator: jsonschema.Draft7Validator
) -> None:
    config = copy.deepcopy(read_json(ROOT / "config.json").data)
    here = config
    for key in keys[:-1]:
        here = here[key]
    here[keys[-1]] = value

    assert wrong(validator, config) == [place]


@pytest.mark.parametrize(
    "config",
    [
        {"_base_": "base.json"},
        {"_base_": ["a.json", "b.json"], "optimizer": {"args": {"lr": 0.1}}},
        {"trainer": {"epochs": "${x.y}"}, "name": "${arch.type}_${seed}", "seed": "${trainer.epochs}"},
        {"lr_scheduler": None},
        {"lr_scheduler": {"type": "SequentialLR", "args": {"schedulers": [{"type": "LinearLR"}], "milestones": [1]}}},
        {"arch": {"type": "my_pkg.nets.Net", "args": {"anything": 1}}},
        {"loss": {"type": "CrossEntropyLoss", "args": {"weight": [1, 2.5]}}},
        {"data_loader": {"args": {"transform": [{"type": "RandomApply", "args": {"transforms": ["GaussianBlur"]}}]}}},
    ],
    ids=str,
)
def test_what_is_only_a_part_or_refers_elsewhere_passes(
    config: dict[str, Any], validator: jsonschema.Draft7Validator
) -> None:
    assert wrong(validator, config) == []


def test_arguments_are_described_from_their_docstrings(made: dict[str, Any]) -> None:
    trainer = made["properties"]["trainer"]["properties"]
    vgg = next(
        choice["then"]["properties"]["args"]["properties"]
        for choice in made["properties"]["arch"]["else"]["allOf"]
        if choice["if"]["properties"]["type"]["const"] == "VGG"
    )

    assert trainer["epochs"]["description"].startswith("how many in all")
    assert trainer["keep_checkpoints"]["default"] == 3
    assert vgg["dropout"]["default"] == 0.3
    assert all(key in made["properties"]["trainer"]["properties"] for key in ("type", "args", "monitor"))


def test_both_forms_of_docstrings_are_read() -> None:
    def google(lr: float, weight_decay: float, momentum: float) -> None:
        """Does it.

        Args:
            lr, momentum: how far
                to go. Much more.
            weight_decay (float, optional): how small (default: 0)

        Returns:
            nothing: at all.
        """

    found = described(google)

    assert found["lr"] == found["momentum"] == "how far to go"
    assert found["weight_decay"] == "how small (default: 0)"
