"""score_files.py: the files of a test are there and say the same as the scores."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from logger.predictions import Predictions
from logger.score_files import NAMES, metrics_of, write_score_files
from logger.scores import score

CLASSES = ["a,b", "고양이", '$x$ "q"', "<script>", "none/here"]


@pytest.fixture
def judged():
    generator = torch.Generator().manual_seed(0)
    targets_N = torch.randint(0, 4, (40,), generator=generator)
    logits_NK = torch.randn(40, 5, generator=generator)
    logits_NK[torch.arange(40), targets_N] += 1
    predictions = Predictions(CLASSES)
    predictions.add(logits_NK, targets_N)
    judgement = predictions.judgement("{}.png".format, lambda _: torch.zeros(3, 8, 8, dtype=torch.uint8))
    return judgement, score(judgement, 0)


def test_all_files_are_written_and_pictures_open(judged, tmp_path):
    write_score_files(tmp_path, *judged, {"num_images": 40})

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    for name in NAMES:
        if name.endswith(".png"):
            with Image.open(tmp_path / name) as image:
                assert min(image.size) > 200


def test_tables_hold_the_scores_whatever_the_classes_are_called(judged, tmp_path):
    judgement, scores = judged

    write_score_files(tmp_path, judgement, scores, {})

    confusion = pd.read_csv(tmp_path / "confusion_matrix.csv", index_col=0)
    assert confusion.index.name == "true \\ predicted"
    assert list(confusion.index) == list(confusion.columns) == CLASSES
    assert (confusion.to_numpy() == scores.confusion_KK).all()
    assert confusion.loc["a,b"].sum() == (judgement.true_N == 0).sum()
    per_class = pd.read_csv(tmp_path / "per_class.csv")
    assert per_class["class"].tolist() == CLASSES
    assert per_class["f1"].to_numpy() == pytest.approx(scores.per_class["f1"].to_numpy(), nan_ok=True)
    assert np.isnan(per_class["recall"][4])
    assert "\nnone/here,0," in (tmp_path / "per_class.csv").read_text(encoding="utf-8")


def test_metrics_are_flat_numbers_with_intervals_beside_them(judged, tmp_path):
    judgement, scores = judged

    write_score_files(tmp_path, judgement, scores, {"checkpoint": "x.pth", "loss": float("nan")})

    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["checkpoint"] == "x.pth"
    assert metrics["loss"] is None
    assert metrics["chance"] == 0.2
    for one in scores.overall:
        assert metrics[one.name] == pytest.approx(one.value)
        assert metrics["intervals"][one.name] == pytest.approx({"low": one.low, "high": one.high, "how": one.interval})


def test_a_score_of_the_config_stands_in_the_place_of_ours_without_its_interval(judged):
    _, scores = judged
    own = next(one.value for one in scores.overall if one.name == "macro_f1")

    other, same = metrics_of(scores, {"macro_f1": 0.125}), metrics_of(scores, {"macro_f1": own + 1e-8})

    assert other["macro_f1"] == 0.125
    assert "macro_f1" not in other["intervals"]
    assert "macro_f1" in same["intervals"]
