"""Is the precision that "auto" chooses as accurate as fp32? `python -m benchmarks.accuracy CONFIG [KEY=VALUE ...]`.

Trains a config with three seeds in each, in folders that are thrown away; prints mean and spread of the best epoch's
score. `trainer.epochs=2` makes it quick; the default is the config's own length. `--precisions fp32,bf16`
compares others.
Configs: configs/mnist_mlp.json, configs/cifar10_vgg.json.
"""

import argparse
import statistics
import tempfile

import train

SEEDS = (1, 2, 3)
WATCHED = "val_accuracy"


def best_score(config: str, words: list[str], precision: str, seed: int) -> tuple[float, str]:
    """The validation accuracy of a run's best epoch, and what the precision came to."""
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        options = [f"trainer.precision={precision}", f"trainer.save_dir={folder}", f"seed={seed}"]
        options += [f"trainer.monitor=max {WATCHED}", "trainer.verbosity=0", "trainer.tensorboard=false"]
        trainer = train.main(["-c", config, *options, *words])
    if trainer is None or trainer.monitor.best is None:
        raise SystemExit(f"{config}: no {WATCHED} came of it")
    return trainer.monitor.best, trainer.context.precision


def main() -> None:
    """Prints a line for each precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--precisions", default="fp32,auto")
    args = parser.parse_args()
    for precision in args.precisions.split(","):
        runs = [best_score(args.config, args.words, precision, seed) for seed in SEEDS]
        scores = [score for score, _ in runs]
        each = ", ".join(f"{score:.4f}" for score in scores)
        mean, spread = statistics.mean(scores), statistics.stdev(scores)
        print(f"{precision} ({runs[0][1]}): {WATCHED} {mean:.4f}, standard deviation {spread:.4f} ({each})", flush=True)


if __name__ == "__main__":
    main()
