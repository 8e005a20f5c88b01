"""The names of scores, and the monitor that is held against them."""

from base.scores import named_scores, score_names, scores_in_words


def test_a_bare_name_is_the_training_score():
    named = named_scores({"loss": 1.0, "accuracy": 0.5}, {"loss": 2.0})

    assert named == {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 2.0, "loss": 1.0, "accuracy": 0.5}
    assert list(named)[:3] == ["train_loss", "train_accuracy", "val_loss"]


def test_scores_that_a_monitor_can_watch_are_named_by_part():
    assert score_names(["accuracy"], has_validation=True) == [
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "loss",
        "accuracy",
    ]
    assert score_names([], has_validation=False) == ["train_loss", "loss"]


def test_scores_are_said_in_their_order_with_four_digits():
    assert scores_in_words({"loss": 1.23456, "accuracy": 0.5}) == "loss 1.2346 accuracy 0.5000"
