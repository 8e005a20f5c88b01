"""Judges a trained checkpoint on the test images: `python test.py -r saved/models/best.pth`.

The file brings everything but the images: network, weights, class names, preprocessing, and where the images were.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from utils.command_line import Command, CustomArgs, Parser
from utils.errors import ConfigError, OutputError, exit_on_user_error

SHORT_FLAGS = [CustomArgs(["--bs", "--batch_size"], int, "data_loader.args.batch_size")]


def read_words(words: Sequence[str] | None = None) -> Command:
    """The command line, and the config files that it names."""
    parser = Parser(prog="test.py", description=__doc__)
    parser.add_argument("--out", metavar="DIR", type=Path, help="where results go; beside the run's log by default")
    parser.add_argument("--probabilities", action="store_true", help="a column a class in predictions.csv")
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="fit a temperature on the validation part, keep it in a copy of the checkpoint, and test that",
    )
    parser.add_argument("--explain", action="store_true", help="in the report, where the network looked (Grad-CAM)")
    parser.add_argument("--strict", action="store_true", help="fail where an image cannot be read")
    command = parser.read(SHORT_FLAGS, words)
    if command.args.is_auto:
        raise ConfigError("command line: -r auto continues a training; give the checkpoint to test, such as best.pth")
    return command


COMMAND = None
if __name__ == "__main__":
    with exit_on_user_error():
        COMMAND = read_words()  # here, because torch takes seconds to import, and --help need not wait for it

import json
import shlex
import time

from logger.judgement import Judgement, Score, Scores
from logger.logger import close_log, open_log
from logger.predictions import Predictions
from logger.run_dir import RunDir
from logger.score_files import NAMES, write_score_files
from logger.scores import score
from logger.summary import aligned, shown
from logger.tables import screen
from parse_config import ConfigParser
from trainer.evaluate import evaluate
from utils.config_tree import ABSENT, thaw
from utils.device import describe
from utils.errors import some
from wiring.explained import Explainer
from wiring.images import elsewhere_but_maybe_the_same, open_test_images, otherwise_than_trained, require_all_read
from wiring.judged import PAGE, facts_of_training, judgement_of, overlays_of, speed_of, write_page
from wiring.temperature import Fitted, calibrate, error_of, open_validation_part
from wiring.trained import Trained, checkpoint_of, open_trained


def main(words: Sequence[str] | None = None, command: Command | None = None) -> dict[str, float]:
    """Tests, writes metrics.json and its companions, and gives the scores."""
    command = command or read_words(words)
    config = ConfigParser.from_args(command, training=False)
    with config.locating():
        return judge(config)


def judge(config: ConfigParser) -> dict[str, float]:
    """Judges the checkpoint that the config came with."""
    checkpoint = checkpoint_of(config)
    held_back = open_validation_part(config) if config.args.calibrate else None
    loader, source = open_test_images(config)
    require_all_read(loader, is_strict=config.args.strict)
    trained = open_trained(config, loader.first_image())
    criterion, (metrics, metric_notes) = config.init_criterion(), config.init_metrics(len(loader.classes))
    criterion.to(trained.devices[0])
    metrics.to(trained.devices[0])
    network, to_input = trained.network(), trained.to_input()
    explainer = Explainer(trained, loader.first_image().shape) if config.args.explain else None

    file = Path(config.resume or "")
    out = output_folder(config.args.out, file, RunDir(config.trainer_options.save_dir, **checkpoint["run"]))
    log, notes = open_log(None), [*trained.notes]
    if elsewhere_but_maybe_the_same(config):
        notes.append("if these images include some of the training's, the scores are too good")
    try:
        rows = {"checkpoint": f"{shown(file)}, trained for {checkpoint['epochs_done']} epochs"}
        rows |= {"device": describe(trained.devices[0]), "precision": str(trained.precision), "images": source}
        log.info(aligned(rows))
        for note in [*notes, *getattr(loader, "notes", []), *metric_notes]:
            log.info(f"note: {note}")
        warnings = otherwise_than_trained(checkpoint, loader)
        fitted = None
        if held_back is not None:
            fitted = calibrate(
                trained,
                file,
                held_back,
                lambda found: evaluate(network, held_back, criterion, metrics, to_input=to_input, observer=found.add),
            )
            trained, file = fitted.trained, fitted.file
        predictions, started_s = Predictions(loader.classes), time.perf_counter()
        result = evaluate(network, loader, criterion, metrics, to_input=to_input, observer=predictions.add)
        took_s = time.perf_counter() - started_s
        require_all_read(loader, is_strict=config.args.strict)
        judgement = judgement_of(predictions, loader, trained.temperature)
        scores = score(judgement, config["seed"])
        facts = {"checkpoint": str(file.resolve()), "epochs_done": checkpoint["epochs_done"], "images": source}
        facts |= {"num_images": result.num_images, "num_skipped": loader.num_skipped}
        facts |= {"accuracy": result.num_correct / result.num_images, **result.scores}
        for note in notes_on_classes(judgement, scores):
            log.info(f"note: {note}")
        if trained.temperature != 1:
            cold = judgement_of(predictions, loader, 1.0)
            facts |= {"temperature": trained.temperature, "calibration_error_without": error_of(cold)}
            log.info(about_temperature(trained, judgement, error_of(cold), fitted))
        write_score_files(out, judgement, scores, facts, all_probabilities=config.args.probabilities)
        if loader.num_skipped:
            log.info(f"note: {loader.num_skipped} images could not be read and are not counted")
        log.info(f"\n{screen(judgement, scores, result.scores)}\n")
        warnings += result.warnings(loader.classes)
        for warning in warnings:
            log.warning(f"warning: {warning}")
        write_page(
            out,
            trained.checkpoint,
            facts_of_training(trained.checkpoint, trained.model) | rows,
            (judgement, with_scores_of_config(scores, result.scores)),
            warnings=warnings,
            commands=commands_of(config, file),
            speed=speed_of(checkpoint["history"], test=f"{result.num_images / took_s:.0f} images/s"),
            overlays=overlays_of(judgement, loader, explainer) if explainer is not None else {},
        )
        log.info(f"written to {shown(out)}: {', '.join((*NAMES, PAGE))}")
        return {**{one.name: one.value for one in scores.overall}, "accuracy": facts["accuracy"], **result.scores}
    finally:
        close_log()


def commands_of(config: ConfigParser, file: Path) -> list[str]:
    """That train and test the same anew, as a person would type them."""
    new = [(path, value) for path, _, value in config.changes if value is not ABSENT]  # not what came in its place
    changed = [shlex.quote(f"{path}={json.dumps(thaw(value), ensure_ascii=False)}") for path, value in new]
    train = f"python train.py -c {shlex.quote(shown(file.resolve().with_name('config.json')))}"
    return [train, " ".join([f"python test.py -r {shlex.quote(shown(file))}", *changed])]


def with_scores_of_config(scores: Scores, of_config: Mapping[str, float]) -> Scores:
    """And the loss and metrics of the config, for the page, where they have names of their own."""
    known = {one.name for one in scores.overall}
    more = [Score(name, value) for name, value in of_config.items() if name not in known]
    return replace(scores, overall=[*scores.overall, *more])


def notes_on_classes(judgement: Judgement, scores: Scores) -> list[str]:
    """What the scores leave out where the images are not of all classes."""
    missing = [name for name, count in zip(judgement.classes, scores.confusion_KK.sum(1), strict=True) if not count]
    if not missing:
        return []
    there = len(judgement.classes) - len(missing)
    return [
        f"no image here is of {some(missing)}: balanced accuracy and AUROC are means over the {there} other classes, "
        f"macro F1 over those and whatever else was predicted"
    ]


def about_temperature(trained: Trained, judgement: Judgement, error_without: float, fitted: Fitted | None) -> str:
    """Lines on what the temperature is, where it comes from, and what it does."""
    lines = []
    if fitted is not None:
        lines.append(
            f"calibrate: temperature {trained.temperature:.4f}, fitted on {fitted.num_images} validation images, is "
            f"kept in {shown(fitted.file)}; their expected calibration error was {fitted.error_before:.4f} and is "
            f"{fitted.error_after:.4f}"
        )
    lines.append(
        f"note: scores are divided by the temperature {trained.temperature:.4f} before they become probabilities: the "
        f"expected calibration error of these images is {error_of(judgement):.4f}, without it {error_without:.4f}; "
        f"predicted classes, accuracy and loss are the same with it and without"
    )
    if fitted is not None and any(judgement.name_of(number) in fitted.names for number in range(len(judgement))):
        lines.append(
            "note: the temperature was fitted on images of this test, so their calibration error may be too good"
        )
    return "\n".join(lines)


def output_folder(asked: Path | None, checkpoint: Path, run: RunDir) -> Path:
    """`--out`, or the folder of the run's log, or (where the checkpoint left its run) a folder beside the file."""
    file = checkpoint.resolve()
    save_dir = file.parent.parent if file.parent.name == "models" else run.save_dir
    out = asked or RunDir.of_checkpoint(file, save_dir, run.name, run.run_id).log
    if asked is None and not out.is_dir():
        out = file.with_name(f"{file.stem}-test")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (*NAMES, PAGE):  # found out now, and not after the evaluation
            (out / name).open("ab").close()
    except OSError as error:
        raise OutputError(f"{out}: cannot write ({error.strerror})") from None
    return out


if __name__ == "__main__":
    with exit_on_user_error():
        main(command=COMMAND)
