"""The evaluation's way from a picture to the network's input, for those who have neither this project nor torchvision.

export.py writes it into the metadata of its files in words and as data, and beside them as a script of about 15 lines,
which decodes as decode.py does and resizes as torchvision does, with Pillow and numpy alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from utils.errors import DataError

Spec = dict[str, Any]  # {"type": "Resize", "args": {"size": 256}}
# Loaders that resize and crop where the config says nothing, and those that leave pixels as they are.
_RESIZING = ("ImageFolderDataLoader", "CsvDataLoader")
_AS_THEY_ARE = ("ShapesDataLoader", "MnistDataLoader", "FashionMnistDataLoader", "Cifar10DataLoader")
_MAX_DEPTH = 10  # of lists in lists; a checkpoint may be a stranger's
_PILLOW = {1: "L", 3: "RGB"}


class _Unknown(Exception):
    """A transform that is not written in Pillow and numpy here."""


def evaluation_steps(pixels: Mapping[str, Any], data_loader: Mapping[str, Any]) -> list[Spec] | None:
    """What validation did to each picture, as a config says it; None where a loader of one's own decides.

    Args:
        pixels: entry "input" of the checkpoint, which holds what recorded.py made of the loader's own list.
        data_loader: section of the config, whose list comes first: it may have been changed for this command.
    """
    args, recorded = data_loader.get("args") or {}, pixels.get("pixels")
    steps = args.get("eval_transform")
    if steps is None and isinstance(recorded, dict):
        steps = recorded.get("eval_transform")
    if steps is not None:
        return _flat(steps)
    if data_loader["type"] in _RESIZING:
        # The rule of transforms.resize_and_crop.
        side = args.get("image_size") or 224
        return [
            {"type": "Resize", "args": {"size": round(side * 256 / 224)}},
            {"type": "CenterCrop", "args": {"size": side}},
        ]
    return [] if data_loader["type"] in _AS_THEY_ARE else None


def _flat(steps: Any, depth: int = 0) -> list[Spec]:
    """Each with its arguments, those inside a Compose too.

    Raises:
        DataError: it is no such list, as in a checkpoint that somebody else made.
    """
    if not isinstance(steps, list | tuple) or depth > _MAX_DEPTH:
        raise DataError(f"eval_transform: no list of transforms, got {steps!r:.60}")
    flat: list[Spec] = []
    for step in steps:
        step = {"type": step} if isinstance(step, str) else step
        name, args = (step.get("type"), step.get("args") or {}) if isinstance(step, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(args, dict):
            raise DataError(f"eval_transform: {step!r:.60} is no transform with its arguments")
        flat += _flat(args.get("transforms"), depth + 1) if name == "Compose" else [{"type": name, "args": args}]
    return flat


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a picture before the graph sees it.

    Args:
        shape_CHW: of what the graph takes.
        steps: see `evaluation_steps`.
        file_channels: pictures are read as RGB (3) or grey (1).
        is_float: the steps give finished floats.
    """

    shape_CHW: tuple[int, int, int]
    steps: list[Spec] | None
    file_channels: int
    is_float: bool = False

    @classmethod
    def of(
        cls, shape_CHW: tuple[int, int, int], steps: list[Spec] | None, data_loader: Mapping[str, Any], is_float: bool
    ) -> "Preprocessing":
        """With the channels that the loader reads files with: as the config says, or as many as come out."""
        turns_grey = any(step["type"] == "Grayscale" for step in steps or [])
        said = (data_loader.get("args") or {}).get("channels")
        channels = said if type(said) is int else 3 if turns_grey else shape_CHW[0]
        return cls(shape_CHW, steps, channels, is_float)

    def as_data(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> dict[str, Any]:
        """For a file's metadata; `mean` and `std` are what the graph itself does."""
        channels, height, width = self.shape_CHW
        return {
            "in_words": self.in_words(),
            "input": f"{'float32' if self.is_float else 'uint8'}, batch x {channels} x {height} x {width}",
            "read_as": _PILLOW.get(self.file_channels, f"{self.file_channels} channels"),
            "eval_transform": self.steps,
            "inside_the_graph": None if self.is_float else {"divide_by": 255, "mean": mean, "std": std},
        }

    def in_words(self) -> str:
        """One sentence."""
        channels, height, width = self.shape_CHW
        kind = {1: "grey", 3: "RGB"}.get(self.file_channels, f"{self.file_channels} channels")
        steps = "transforms that the file does not know" if self.steps is None else None
        steps = steps or ", ".join(_in_words(step) for step in self.steps or []) or "nothing else"
        ends = "finished floats" if self.is_float else "values of 0 to 255, which the graph scales and normalises"
        return f"upright by EXIF, transparency on white, {kind}; {steps}; {channels} x {height} x {width}, {ends}"

    def why_no_script(self) -> str:
        """Why there can be no script that prepares pictures; empty where there is one."""
        if self.is_float:
            return "the evaluation transforms make floats, which is not written in Pillow and numpy here"
        if self.file_channels not in _PILLOW or self.shape_CHW[0] not in _PILLOW:
            return f"pictures of {self.shape_CHW[0]} channels are not read from files here"
        return ""

    def unknown_step(self) -> str:
        """The first step that the script does not do, in place of which it resizes plainly; empty where it does all."""
        try:
            self._lines()
        except _Unknown as unknown:
            return str(unknown)
        return ""

    def _lines(self) -> list[str]:
        if self.steps is None:
            raise _Unknown("what this data loader does")
        lines: list[str] = []
        channels = self.file_channels
        for step in self.steps:
            lines += _pillow(step, channels)
            channels = step["args"].get("num_output_channels", 1) if step["type"] == "Grayscale" else channels
        if channels != self.shape_CHW[0]:
            raise _Unknown(f"the way from {channels} channels to {self.shape_CHW[0]}")
        return lines

    def script(self, file_name: str, output: str, *, with_torch: bool) -> str:
        """The text of a Python program that prints the best three classes of each picture.

        Args:
            file_name: of the exported file, in the script's own folder.
            output: what the graph gives, "probabilities" or "logits".
            with_torch: the file is a pt2, else an ONNX file.

        Raises:
            DataError: there can be none, see `why_no_script`.
        """
        if self.why_no_script():
            raise DataError(self.why_no_script())
        (channels, height, width), mode = self.shape_CHW, _PILLOW[self.file_channels]
        try:
            prepare = self._lines()
            if not any(step["type"] in ("Resize", "CenterCrop") for step in self.steps or []):
                size = f"({width}, {height})"  # the network takes no other
                prepare.append(f"image = image.resize({size}, Image.Resampling.BILINEAR)  # where it has another size")
        except _Unknown as unknown:
            plainly = f"image = image.resize(({width}, {height}), Image.Resampling.BILINEAR)"
            prepare = [f"# Not done here: {unknown}. Give pictures to which that was done.", plainly]
            if self.file_channels != channels:
                prepare.append(f'image = image.convert("{_PILLOW[channels]}")')
        head, run = (_TORCH_HEAD, _TORCH_RUN) if with_torch else (_ONNX_HEAD, _ONNX_RUN)
        lines = [
            *(line.replace("<file>", repr(file_name)) for line in head),
            'for path in sys.argv[1:] or sys.exit("which pictures?"):',
            *_READ,
            f'    image = Image.composite(image, white, image.getchannel("A")).convert("{mode}")',
            *(f"    {line}" for line in prepare),
            f"    pixels_NCHW = np.array(image).reshape(1, {height}, {width}, {channels}).transpose(0, 3, 1, 2)",
            f"    {output}_K = {run}",
            f'    print(path, *(f"{{classes[k]!r}} {{{output}_K[k]:.5f}}" for k in {output}_K.argsort()[::-1][:3]))',
        ]
        return "\n".join(lines) + "\n"


_ONNX_HEAD = (
    "# Prints the best three classes of pictures given as words. Needs onnxruntime, Pillow and numpy, nothing else.",
    "import json, pathlib, sys",
    "import numpy as np, onnxruntime",
    "from PIL import Image, ImageOps",
    "file = pathlib.Path(__file__).with_name(<file>)",
    'session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])',
    'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])',
)
_ONNX_RUN = 'session.run(None, {"images": pixels_NCHW})[0][0]'
_TORCH_HEAD = (
    "# Prints the best three classes of pictures given as words. Needs torch, Pillow and numpy, nothing else.",
    "import json, pathlib, sys",
    "import numpy as np, torch",
    "from PIL import Image, ImageOps",
    'metadata = {"classes": ""}',
    "network = torch.export.load(pathlib.Path(__file__).with_name(<file>), extra_files=metadata).module()",
    'classes = json.loads(metadata["classes"])',
)
_TORCH_RUN = "network(torch.from_numpy(pixels_NCHW))[0].detach().numpy()"
_READ = (
    "    image = ImageOps.exif_transpose(Image.open(path))",
    '    if image.mode.startswith("I"):  # 16 bit',
    "        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))",
    '    image = image.convert("RGBA")',
    '    white = Image.new("RGBA", image.size, "white")',
)


def _pillow(step: Spec, channels: int) -> list[str]:
    """Lines that do to `image`, a picture of 1 or 3 channels, what the transform does."""
    name, args = step["type"], dict(step["args"])
    size = args.pop("size", None)
    sides = list(size) if isinstance(size, list | tuple) else [size]
    if not all(type(side) is int for side in sides):  # they become code, and a checkpoint may be a stranger's
        sides = []
    if name == "Resize" and len(sides) in (1, 2) and _is_plain_bilinear(args):
        if len(sides) == 2:
            return [f"image = image.resize(({sides[1]}, {sides[0]}), Image.Resampling.BILINEAR)"]
        new_size = f"[int({sides[0]} * side / min(image.size)) for side in image.size]"
        return [f"image = image.resize({new_size}, Image.Resampling.BILINEAR)"]
    if name == "CenterCrop" and len(sides) in (1, 2) and not args:
        height, width = sides[0], sides[-1]
        middle = "round(d / 2) if d > 0 else (d + 1) // 2"  # torchvision rounds otherwise where it must add an edge
        return [
            f"left, top = ({middle} for d in (image.width - {width}, image.height - {height}))",
            f"image = image.crop((left, top, left + {width}, top + {height}))",
        ]
    if name == "Grayscale" and args in ({}, {"num_output_channels": 1}, {"num_output_channels": 3}):
        weights = "np.float32([0.2989, 0.587, 0.114])"
        grey = f"image = Image.fromarray((np.asarray(image, np.float32) @ {weights}).astype(np.uint8))"
        three = ['image = image.convert("RGB")'] if args.get("num_output_channels") == 3 else []
        return ([grey] if channels == 3 else []) + three
    if name == "Identity" and not args and size is None:
        return []
    raise _Unknown(name if name.replace(".", "").isidentifier() else "a transform")


def _is_plain_bilinear(args: Mapping[str, Any]) -> bool:
    """Whether the other arguments of a Resize leave it at what Pillow calls BILINEAR."""
    way = str(args.get("interpolation", "bilinear")).lower()
    rest = args.keys() - {"interpolation", "antialias", "max_size"}
    return way == "bilinear" and args.get("antialias", True) is True and args.get("max_size") is None and not rest


def _in_words(step: Spec) -> str:
    name, args = step["type"], step["args"]
    size = args.get("size")
    if isinstance(size, list | tuple) and len({*map(str, size)}) == 1 and (len(size) == 1 or name == "CenterCrop"):
        size = size[0]
    if name == "Resize" and isinstance(size, int):
        return f"the shorter side resized to {size} px"
    if name == "CenterCrop" and isinstance(size, int):
        return f"the middle {size} x {size} px"
    return name + (f" {json.dumps(args)}" if args else "")
