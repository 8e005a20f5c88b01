"""Makes a file of a trained checkpoint that is used without this project: `python export.py -r best.pth`.

The file takes uint8 pictures of the network's size, does all else itself, and holds class names and preprocessing. It
is written only after it has given the network's own answers to real images, as far as they are there.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from utils.command_line import Command, Override, Parser
from utils.config_tree import path_of
from utils.errors import ConfigError, ExportError, OutputError, exit_on_user_error

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
FORMATS = ("onnx", "pt2", "safetensors")
# How the file computes, whatever the training did: by the rules that every program that reads it has too.
PLAIN = {"device": "cpu", "n_gpu": 0, "trainer.precision": "fp32", "trainer.compile": False}
PLAIN |= {"trainer.channels_last": False}


def read_words(words: Sequence[str] | None = None) -> Command:
    """The command line; refuses what cannot be done before anything slow is imported."""
    parser = Parser(prog="export.py", description=__doc__)
    parser.add_argument("--format", choices=FORMATS, help="by default that of --out's ending, else onnx")
    parser.add_argument("--out", metavar="FILE", type=Path, help="by default in the run's folder, as best.onnx")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--logits", action="store_true", help="give the scores before the softmax")
    parser.add_argument("--views", action="store_true", help="look at each image as trainer.test_time_views says")
    parser.add_argument("--images", metavar="N", type=int, default=256, help="how many to compare on (256)")
    command = parser.read((), words)
    args = command.args
    if args.is_auto:
        raise ConfigError("command line: -r auto continues a training; give the checkpoint to export, such as best.pth")
    if args.images < 1:
        raise ConfigError(f"command line: --images {args.images}: must be 1 or more")
    ending = args.out.suffix.removeprefix(".") if args.out is not None else ""
    if args.format is not None and ending in FORMATS and ending != args.format:
        raise ConfigError(f"command line: --out {args.out} does not end in .{args.format}; leave --format out")
    args.format = args.format or (ending if ending in FORMATS else "onnx")
    if args.format == "safetensors" and (args.logits or args.views):
        raise ConfigError("command line: --format safetensors holds weights alone; leave --logits and --views out")
    if args.format == "onnx" and (missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]):
        raise ConfigError(f"command line: --format onnx needs more packages: pip install {' '.join(missing)}")
    for typed in command.overrides:
        if ".".join(map(str, typed.path)) in PLAIN and typed.text != "-d cpu":
            raise ConfigError(f"command line: {typed.text}: the file is made in fp32 on the CPU; leave it out")
    plain = [Override(path_of(path), value, "export.py") for path, value in PLAIN.items()]
    return command._replace(overrides=[*command.overrides, *plain])


COMMAND = None
if __name__ == "__main__":
    with exit_on_user_error():
        COMMAND = read_words()  # here, because torch takes seconds to import, and --help need not wait for it

import os
import tempfile
from typing import Any, Literal

import torch

from data_loader.standalone import Preprocessing, evaluation_steps
from logger.logger import close_log, open_log
from logger.summary import aligned, shown, versions
from model.pretrained import load_weights
from parse_config import ConfigParser
from trainer.shipped import Answers, Shipped, compare
from utils.durable_file import replace_file
from utils.graph_file import OPSET, json_text, onnx_answers, onnx_bytes, program_answers, program_bytes, traced
from utils.network_input import network_input, temperature_of
from utils.safetensors_file import safetensors_bytes, safetensors_parts
from utils.weights_file import is_state_dict
from wiring.check_images import CheckImages, check_images
from wiring.trained import Trained, checkpoint_of, open_trained


def main(words: Sequence[str] | None = None, command: Command | None = None) -> Path:
    """Exports, and gives the file."""
    command = command or read_words(words)
    config = ConfigParser.from_args(command, training=False)
    with config.locating():
        return export(config)


def export(config: ConfigParser) -> Path:
    """Makes the file in memory, holds it against the network, and only then writes it."""
    checkpoint, args = checkpoint_of(config), config.args
    expected, temperature = network_input(checkpoint), temperature_of(checkpoint)
    views = views_of(config)
    file, script = output_files(args, Path(config.resume or ""))
    check = check_images(config, expected, args.images)
    is_float = check.images_NCHW.dtype != torch.uint8
    section = config.resolved["data_loader"]
    steps = evaluation_steps(checkpoint["input"], section)
    preparing = Preprocessing.of(expected.shape_CHW, steps, section, is_float)
    trained = open_trained(config, torch.zeros(expected.shape_CHW))
    network, to_input = trained.network(views), trained.to_input()
    shipped = Shipped(network, None if is_float else to_input, temperature=temperature, gives_logits=args.logits)

    def answers(images_NCHW: torch.Tensor) -> torch.Tensor:
        # The way that test.py goes, and not the module that is traced.
        return shipped.finished(network(to_input(images_NCHW)))

    facts = facts_of(trained, preparing.as_data(expected.mean, expected.std), shipped, views)
    metadata = {name: json_text(value) for name, value in facts.items()}
    if args.format == "safetensors":
        data, found = weights_file(trained, shipped, metadata)
    else:
        data, found = graph_file(shipped, check.images_NCHW, metadata, args.format)
    agreement = compare(check.images_NCHW, answers, found)
    agreement.require()
    replace_file(file, lambda out: out.write(data), "the exported file")
    if script is not None and not preparing.why_no_script():
        text = preparing.script(file.name, shipped.output, with_torch=args.format == "pt2")
        replace_file(script, lambda out: out.write(text.encode("utf-8", "backslashreplace")), "the script")
    rows = {
        "checkpoint": f"{shown(Path(config.resume or ''))}, trained for {checkpoint['epochs_done']} epochs",
        "file": f"{shown(file)}, {len(data) / 1e6:.1f} MB" + (f", opset {OPSET}" if args.format == "onnx" else ""),
        **({} if script is None else {"takes": facts["preprocessing"]["input"], "gives": in_words(shipped)}),
        "computes": "in fp32, whatever the training did; made and compared on the CPU",
        "compared on": f"{check.source}: {agreement}",
        "pictures": preparing.in_words(),
    }
    if script is None:
        rows["use it"] = f"python train.py -c CONFIG --weights {shown(file)}"
    elif not preparing.why_no_script():
        rows["use it"] = f"python {shown(script)} PICTURE ... (without this project)"
    report(rows, [*trained.notes, *notes_on(config, preparing, check, views, script)])
    return file


def views_of(config: ConfigParser) -> Literal["none", "flip", "flip_and_shift"]:
    """What the file looks at of each image.

    Raises:
        ConfigError: --views, where there is nothing to look at but the image.
    """
    if not config.args.views:
        return "none"
    kind = config.trainer_options.test_time_views
    if kind == "none":
        raise ConfigError('is "none", so that --views would do nothing; leave it out', "trainer.test_time_views")
    return kind


def output_files(args: Any, checkpoint: Path) -> tuple[Path, Path | None]:
    """The file and the script beside it (weights have none), where both can be written.

    Raises:
        OutputError: one is there already, or the folder cannot be written.
    """
    file = args.out or checkpoint.resolve().with_suffix(f".{args.format}")
    if file.is_dir():
        file = file / f"{checkpoint.stem}.{args.format}"
    script = None if args.format == "safetensors" else file.with_name(f"{file.stem}_{args.format}.py")
    for path in (file, script):
        if path is not None and os.path.lexists(path):
            if path.resolve() == checkpoint.resolve():
                raise OutputError(f"{path}: is the checkpoint itself; choose another name with --out")
            if not args.overwrite:
                raise OutputError(f"{path}: is there already; --overwrite replaces it, --out FILE takes another name")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):  # found out now, and not after the work
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise OutputError(f"{file}: cannot write ({getattr(error, 'strerror', None) or error})") from None
    return file, script


def facts_of(trained: Trained, preprocessing: dict[str, Any], shipped: Shipped, views: str) -> dict[str, Any]:
    """What the file says of itself."""
    checkpoint = trained.checkpoint
    return {
        "classes": trained.classes,
        "preprocessing": preprocessing,
        "output": {"name": shipped.output, "temperature": shipped.temperature, "views": views},
        "arch": trained.config.resolved["arch"],
        "run": {**checkpoint["run"], "epochs_done": checkpoint["epochs_done"]},
        "written_by": {"exported": versions(), "trained": checkpoint.get("written_by")},
    }


def graph_file(
    shipped: Shipped, images_NCHW: torch.Tensor, metadata: dict[str, str], kind: str
) -> tuple[bytes, Answers]:
    """The content of an ONNX or pt2 file, and the answers that it gives when it is read again."""
    example_NCHW = torch.zeros(2, *images_NCHW.shape[1:], dtype=images_NCHW.dtype)
    program = traced(shipped, example_NCHW)
    if kind == "onnx":
        data = onnx_bytes(program, metadata, shipped.output)
        answers, found = onnx_answers(data)
    else:
        data = program_bytes(program, metadata)
        answers, found = program_answers(data, list(metadata))
    require_same_metadata(metadata, found)
    return data, answers


def weights_file(trained: Trained, shipped: Shipped, metadata: dict[str, str]) -> tuple[bytes, Answers]:
    """The content of a safetensors file, and the answers of a new network that is given its weights."""
    state_dict = trained.model.state_dict()
    if not is_state_dict(state_dict):
        raise ExportError("the network keeps more than tensors, which safetensors cannot hold; use --format pt2")
    data = safetensors_bytes(state_dict, {"format": "pt", **metadata})
    tensors, found = safetensors_parts(data)
    require_same_metadata(metadata, found)
    fresh = trained.config.init_model(pretrained=False).eval()
    load_weights(fresh, tensors, refit_head=False)  # as --weights does
    to_input = trained.to_input()
    return data, lambda images_NCHW: shipped.finished(fresh(to_input(images_NCHW)))


def require_same_metadata(written: dict[str, str], found: dict[str, str]) -> None:
    """Refuses a file that gives its class names back as something else.

    Raises:
        ExportError: naming the entry.
    """
    for name, text in written.items():
        if found.get(name) != text:
            raise ExportError(f"the file would give its metadata '{name}' back as {found.get(name)!r:.80}")


def in_words(shipped: Shipped) -> str:
    """What the graph gives."""
    scaled = "" if shipped.temperature == 1 else f", the scores divided by the temperature {shipped.temperature:.4g}"
    return f"{shipped.output}, float32, batch x classes{scaled}"


def notes_on(
    config: ConfigParser, preparing: Preprocessing, check: CheckImages, views: str, script: Path | None
) -> list[str]:
    """Lines on what is otherwise than one might think."""
    notes = []
    if check.why_made:
        notes.append(f"compared on made images only, the data is not here: {check.why_made}")
    precision = (config.checkpoint or {}).get("numerics", {}).get("precision", "fp32")
    if precision != "fp32":
        notes.append(f"the training computed in {precision}, the file in fp32: scores can differ in their last digits")
    asked = config.trainer_options.test_time_views
    if asked != "none" and views == "none":
        notes.append(f"test.py judges {asked} views of each image, the file looks once; --views puts them in")
    if script is not None and preparing.why_no_script():
        notes.append(f"no script beside it: {preparing.why_no_script()}")
    elif script is not None and (unknown := preparing.unknown_step()):
        notes.append(f"{script.name} does not know {unknown}; it resizes plainly, and says so")
    return notes


def report(rows: dict[str, str], notes: list[str]) -> None:
    """Prints what was made."""
    log = open_log(None)
    try:
        log.info(aligned(rows))
        for note in notes:
            log.info(f"note: {note}")
    finally:
        close_log()


if __name__ == "__main__":
    with exit_on_user_error():
        main(command=COMMAND)
