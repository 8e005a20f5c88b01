"""judged.py: the page that a training and a test leave shows what they found, and what is in its way is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train
from tests.test_test import judge  # noqa: F401  the fixture

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]


@pytest.mark.draws
def test_training_and_test_leave_a_page_of_their_own_images(
    small_config: Config,
    config_file: ConfigFile,
    judge: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    run = train.main(["-c", str(config_file(small_config()))])
    of_training = (run.recorder.run.log / "report.html").read_text(encoding="utf-8")

    judge(["-r", str(run.models_dir / "best.pth"), "--out", str(tmp_path / "out"), "--explain", "--bs", "5"])

    of_test = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    accuracy = json.loads((tmp_path / "out" / "metrics.json").read_text())["accuracy"]
    assert "24 validation images" in of_training
    assert "24 test images" in of_test
    assert f"{accuracy:.4f}" in of_test
    assert "72 images, of 3 classes (circle, square, triangle)" in of_test
    assert "data_loader.args.batch_size=5" in of_test
    assert of_test.count("data:image") > of_training.count("data:image")  # where the network looked


@pytest.mark.draws
def test_a_page_that_cannot_be_written_is_a_warning_and_the_run_is_done(
    small_config: Config, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config()
    config["trainer"]["epochs"] = 1
    drawn = train.report_on_run

    def in_the_way(trainer: Any, run: Any, *more: Any) -> None:
        (run.log / "report.html").mkdir()
        drawn(trainer, run, *more)

    monkeypatch.setattr(train, "report_on_run", in_the_way)

    run = train.main(["-c", str(config_file(config))])

    assert run.epochs_done == 1
    assert "report.html" in capsys.readouterr().out
