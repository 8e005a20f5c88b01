"""What the README and docs/config.md say is true: examples run, commands exist, languages agree, no key is left out."""

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import itertools
import json
import os
import pstats
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import new_project
import train
from base.loader_options import LoaderOptions
from base.run_plan import TOP_LEVEL
from base.training_parts import TrainerOptions
from data_loader.parts import ImageOptions
from parse_config import NESTED, SECTIONS, ConfigParser
from utils.config_check import Section
from utils.config_file import parse_json_text, read_json
from utils.config_signature import REQUIRED, parameters_of
from utils.config_tree import merge

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "README",
    "docs/config",
    "docs/reliability",
    "docs/reproducibility",
    "docs/old-checkpoints",
    "docs/performance",
)
PAIRS = [(f"{page}.md", f"{page}.ko.md") for page in PAGES]
PLACEHOLDERS = {"new.json", "changed.json"}  # the reader's own files


class Example(NamedTuple):
    """A file of one's own, and the part of a config that uses it."""

    path: str
    code: str
    section: dict[str, Any]


def text_of(name: str) -> str:
    """Without what `make faults` writes, which is in one language."""
    return re.sub(r"<!-- begin:.*?<!-- end -->", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of each block between ``` lines."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def blocks_of(name: str, language: str) -> list[str]:
    return [block for found, block in fenced_blocks(text_of(name)) if found == language]


def without_fenced_blocks(text: str) -> str:
    return re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def examples() -> list[Example]:
    """The README's python blocks that are headed by a file's name, each with the JSON behind it."""
    blocks = fenced_blocks(text_of("README.md"))
    found = []
    for (language, code), (next_language, section) in itertools.pairwise(blocks):
        head = re.match(r"# (\w+/\w+\.py)\n", code)
        if language == "python" and head:
            assert next_language == "json", f"{head[1]} is not followed by the config that uses it"
            found.append(Example(head[1], code, parse_json_text(section).data))
    return found


def commands() -> list[str]:
    """Every line of the README's sh blocks that starts python or make."""
    lines = [line for block in blocks_of("README.md", "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith(("python ", "make "))]


def sections_of(name: str) -> dict[str, str]:
    """The text below each heading of the second level, sub-headings included."""
    parts = re.split(r"^## (.*)\n", without_fenced_blocks(text_of(name)), flags=re.MULTILINE)
    return {heading.strip("`"): body for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def rows_of(body: str) -> dict[str, list[str]]:
    """The other cells of each row of its tables, by each name that stands in backticks in the first cell."""
    rows = {}
    for line in body.splitlines():
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else [""]
        rows |= dict.fromkeys(re.findall(r"`([^`]+)`", first), cells)
    return rows


def in_backticks(name: str) -> set[str]:
    return {span.strip('"') for span in re.findall(r"`([^`]+)`", without_fenced_blocks(text_of(name)))}


def load_script(name: str) -> ModuleType:
    """test.py under another name: as `test` it would stand in the way of the standard library's."""
    spec = importlib.util.spec_from_file_location(f"script_{name.removesuffix('.py')}", ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_python(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *words], cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


class Trained(NamedTuple):
    """A project, and (file, function) of all that its training called."""

    project: Path
    called: set[tuple[str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shapes_dir: Path) -> Trained:
    """A new project with the README's five examples in it, trained for one epoch on ten small pictures a class."""
    folder = new_project.main([str(tmp_path_factory.mktemp("readme") / "my_project")])
    config: dict[str, Any] = read_json(folder / "config.json").data
    for example in examples():
        (folder / example.path).write_text(example.code, encoding="utf-8")
        config = merge(config, example.section)
    (folder / "examples.json").write_text(json.dumps(config), encoding="utf-8")
    named = folder / config["data_loader"]["args"]["data_dir"]
    named.mkdir(parents=True)
    for picture in sorted(shapes_dir.glob("train/*/000?.png")):
        shutil.copy(picture, named / f"{picture.parent.name}.{picture.name}")

    words = ["-m", "cProfile", "-o", "calls.profile", "train.py", "-c", "examples.json"]
    done = run_python(folder, *words, "trainer.epochs=1", "trainer.tensorboard=false")

    assert done.returncode == 0, done.stdout + done.stderr
    calls = pstats.Stats(str(folder / "calls.profile")).stats  # type: ignore[attr-defined]
    return Trained(folder, {(os.path.realpath(file), name) for file, _, name in calls})


def test_there_is_an_example_for_each_kind_of_part() -> None:
    sections = [set(example.section) for example in examples()]

    assert sections == [{"data_loader"}, {"arch"}, {"loss"}, {"metrics"}, {"trainer"}]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.path)
def test_every_function_of_an_example_is_called_in_training(trained: Trained, example: Example) -> None:
    functions = {node.name for node in ast.walk(ast.parse(example.code)) if isinstance(node, ast.FunctionDef)}

    file = os.path.realpath(trained.project / example.path)

    assert functions
    assert {(file, name) for name in functions} <= trained.called


def test_log_and_results_show_the_new_parts(trained: Trained) -> None:
    [log] = trained.project.glob("saved/log/*/*/info.log")
    [results] = trained.project.glob("saved/log/*/*/results.csv")

    assert "TinyNet," in log.read_text(encoding="utf-8")
    assert "24 training, 6 validation images of 3 classes" in log.read_text(encoding="utf-8")
    assert {"train/p_right", "val/p_right"} <= set(pd.read_csv(results).columns)


def test_new_parts_are_tested_with_their_own_loss_and_metric(trained: Trained) -> None:
    gamma = next(example for example in examples() if "loss" in example.section).section["loss"]["args"]["gamma"]

    done = run_python(trained.project, "test.py", "-r", "saved/models/best.pth", "--out", "tested")

    assert done.returncode == 0, done.stdout + done.stderr
    scores = json.loads((trained.project / "tested" / "metrics.json").read_text(encoding="utf-8"))
    cross_entropy_N = pd.read_csv(trained.project / "tested" / "predictions.csv")["cross_entropy"].to_numpy()
    probability_N = np.exp(-cross_entropy_N)
    assert len(cross_entropy_N) == 6
    # The program computes both in single precision, batch by batch.
    assert scores["p_right"] == pytest.approx(probability_N.mean(), abs=1e-6)
    assert scores["loss"] == pytest.approx(((1 - probability_N) ** gamma * cross_entropy_N).mean(), abs=1e-6)


@pytest.mark.parametrize("command", commands())
def test_every_command_exists_and_its_words_are_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program, script, *words = shlex.split(command, comments=True)
    if program == "make":
        assert re.search(rf"^{script}:.*##", text_of("Makefile"), re.MULTILINE)
        return
    if script == "-m" and words[0].startswith("tools."):
        read_words = importlib.import_module(words[0]).read_words
        assert read_words(words[1:]).words == words[1:]
        return
    if script == "-m":
        assert words[0] == "pytest"
        assert all((ROOT / word).exists() for word in words[1:])
        return
    if script == "new_project.py":
        copied: list[Path] = []
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setattr(new_project.shutil, "copytree", lambda source, target, **_: copied.append(target))
        new_project.main(words)
        assert copied == [tmp_path / "my_project"]
        return
    assert script in ("train.py", "test.py", "predict.py", "export.py")
    if script == "export.py" and not {"pt2", "safetensors"} & set(words):
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    for name in PLACEHOLDERS:
        (tmp_path / name).write_text("{}", encoding="utf-8")
    in_readers_folder = [str(tmp_path / word) if word in PLACEHOLDERS else word for word in words]
    monkeypatch.chdir(ROOT)

    typed = (train if script == "train.py" else load_script(script)).read_words(in_readers_folder)

    assert typed.words == in_readers_folder
    assert (typed.args.config is None) == (not typed.documents)
    if words == ["--clear-cache"]:  # does its work without a config
        return
    if typed.args.resume is None and not PLACEHOLDERS & set(words):
        with contextlib.suppress(SystemExit) if typed.args.print_config else contextlib.nullcontext():
            ConfigParser.from_args(typed)


@pytest.mark.parametrize(("english", "korean"), PAIRS)
def test_languages_have_the_same_headings(english: str, korean: str) -> None:
    levels = [re.findall(r"^#+(?= )", without_fenced_blocks(text_of(name)), re.MULTILINE) for name in (english, korean)]

    assert levels[0] == levels[1]


@pytest.mark.parametrize(("english", "korean"), PAIRS)
def test_languages_have_the_same_code(english: str, korean: str) -> None:
    both = [
        [
            (language, block if language in ("python", "json") else re.sub(r" *#.*", "", block))
            for language, block in fenced_blocks(text_of(name))
        ]
        for name in (english, korean)
    ]

    assert both[0] == both[1]


@pytest.mark.parametrize(("english", "korean"), PAIRS)
def test_languages_have_the_same_numbers_in_tables(english: str, korean: str) -> None:
    both = [
        [sorted(re.findall(r"\d+(?:\.\d+)?", line)) for line in text_of(name).splitlines() if line.startswith("|")]
        for name in (english, korean)
    ]

    assert both[0] == both[1]


@pytest.mark.parametrize("name", [name for pair in PAIRS for name in pair])
def test_every_link_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", without_fenced_blocks(text_of(name)))

    files = [(ROOT / name).parent / link for link in links if not link.startswith("https:")]
    assert [str(file) for file in files if not file.exists()] == []


def test_every_ready_config_is_in_the_table() -> None:
    configs = {"config.json", *(f"configs/{path.name}" for path in ROOT.glob("configs/*.json"))}

    assert set(rows_of(sections_of("README.md")["Ready configs"])) == configs


def test_whole_configs_of_the_readme_are_valid() -> None:
    blocks = [parse_json_text(block).data for block in blocks_of("README.md", "json")]

    whole = [ConfigParser(block) for block in blocks if "name" in block]

    assert len(whole) == 1


def test_configs_of_the_reference_are_valid() -> None:
    blocks = blocks_of("docs/config.md", "json")
    config = read_json(ROOT / "config.json").data

    for block in blocks:
        changes = parse_json_text(block).data
        in_loader = not changes.keys() <= TOP_LEVEL.keys()
        ConfigParser(merge(config, {"data_loader": {"args": changes}} if in_loader else changes))


def test_every_key_of_the_top_level_is_explained_with_its_default() -> None:
    rows = rows_of(sections_of("docs/config.md")["Top level"])

    defaults = {key: default for key, (_, default) in TOP_LEVEL.items() if key != "$schema"}

    assert rows.keys() == defaults.keys()
    for key, default in defaults.items():
        assert rows[key][0] == "none" if default is REQUIRED else json.loads(rows[key][0].strip("`")) == default, key


def test_every_key_of_the_trainer_is_explained_with_its_default() -> None:
    rows = rows_of(sections_of("docs/config.md")["trainer"])

    fields = dataclasses.fields(TrainerOptions)

    assert rows.keys() == {field.name for field in fields} | {"type", "args"}
    for field in fields:
        shown = rows[field.name][0].strip("`")
        default = str(field.default) if isinstance(field.default, Path) else field.default
        assert shown == "none" if default is dataclasses.MISSING else json.loads(shown) == default, field.name


def test_every_option_of_the_loaders_is_explained() -> None:
    rows = rows_of(sections_of("docs/config.md")["data_loader"])

    options = {*LoaderOptions.__annotations__, *ImageOptions.__annotations__}

    assert options - SECTIONS["data_loader"].given <= rows.keys()


MENUS = {"data_loader": SECTIONS["data_loader"], "arch": SECTIONS["arch"], "loss": SECTIONS["loss"]}
MENUS |= {"metrics": SECTIONS["metrics"], "sampler": NESTED["sampler"], "collate_fn": NESTED["collate_fn"]}


@pytest.mark.parametrize("section", MENUS.values(), ids=MENUS.keys())
def test_every_own_type_and_its_arguments_are_named(section: Section) -> None:
    """What the menus take from torch, torchvision and torchmetrics is documented there."""
    named = in_backticks("docs/config.md")
    options = {*LoaderOptions.__annotations__, *ImageOptions.__annotations__}

    for name in section.table.menu():
        found = section.table.find(name)
        assert found is not None
        if found.__module__.split(".")[0] not in ("base", "data_loader", "model") or name == "ImageDataLoader":
            continue  # ImageDataLoader is what one's own loader subclasses
        arguments = {key for key in parameters_of(found) if not key.startswith(section.table.function_takes or "\0")}

        missing = {name, *arguments} - named - options - section.given

        assert not missing, f"docs/config.md does not name {sorted(missing)}"
