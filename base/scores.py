"""The names of an epoch's scores: for the monitor, and for the lines on the screen."""

from base.training_parts import TrainerOptions
from utils.config_tree import suggest
from utils.errors import ConfigError
from utils.monitor import Monitor


def checked_monitor(options: TrainerOptions, score_names: list[str]) -> Monitor:
    """The monitor, held against the scores that there will be.

    Raises:
        ConfigError: it watches a score that nobody will compute.
    """
    monitor = Monitor.from_setting(options.monitor, options.early_stop or None, options.min_delta)
    if monitor.name is not None and monitor.name not in score_names:
        hint = (
            " (there are no validation images)"
            if monitor.name.startswith("val_") and not any(name.startswith("val_") for name in score_names)
            else ""
        )
        raise ConfigError(
            f"no score '{monitor.name}'{hint}.{suggest(monitor.name, score_names)} There are {', '.join(score_names)}, "
            f"or 'off'",
            "trainer.monitor",
        )
    return monitor


def named_scores(train: dict[str, float], val: dict[str, float]) -> dict[str, float]:
    """Scores by the names that monitors use; a bare name is the training score, as in pytorch-template.

    >>> named_scores({"loss": 1.0}, {"loss": 2.0})
    {'train_loss': 1.0, 'val_loss': 2.0, 'loss': 1.0}
    """
    prefixed = {f"train_{name}": value for name, value in train.items()}
    prefixed |= {f"val_{name}": value for name, value in val.items()}
    return prefixed | train


def score_names(metric_names: list[str], *, has_validation: bool) -> list[str]:
    """The names that a monitor can watch."""
    names = dict.fromkeys(["loss", *metric_names], 0.0)
    return list(named_scores(names, names if has_validation else {}))


def scores_in_words(scores: dict[str, float]) -> str:
    """Four digits each, for the line of an epoch.

    >>> scores_in_words({"loss": 1.0, "accuracy": 0.5})
    'loss 1.0000 accuracy 0.5000'
    """
    return " ".join(f"{name} {value:.4f}" for name, value in scores.items())
