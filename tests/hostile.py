"""Files that a stranger could send: made to run code, to crash, to hang, or to fill the memory.

Each maker takes an empty folder, puts a file into it and gives its path. Code in a file would leave `canary` in that
folder and do nothing else. test_security.py opens the files, through tests/opened_aside.py.
"""

import functools
import io
import json
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections import Counter, OrderedDict
from pathlib import Path

import torch
from PIL import Image

import parse_config
from utils.checkpoint import DIGEST, FORMAT, save_checkpoint
from utils.monitor import Monitor
from utils.plain import digest_of

CANARY = "canary"
HUGE = 2**40
rebuild = torch._utils._rebuild_tensor_v2


class Calls:
    """Unpickling it calls `function(*arguments)`; the function may be another of these."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments

    def __call__(self):
        """Only because pickle asks whether a function can be called."""


class Storage:
    """Stands for a record of a checkpoint, of which the pickle says that it has so many floats."""

    def __init__(self, num_floats, record="0"):
        self.num_floats, self.record = num_floats, record


class _TorchPickler(pickle.Pickler):
    def persistent_id(self, thing):
        """As torch writes tensors: by the name of a record."""
        if isinstance(thing, Storage):
            return ("storage", torch.FloatStorage, thing.record, "cpu", thing.num_floats)
        return None

    def reducer_override(self, thing):
        """The one real tensor is in `ours`; `archive` writes its record."""
        if type(thing) is torch.Tensor:
            return rebuild, (Storage(2, "ones"), 0, (2,), (1,), False, OrderedDict())
        return NotImplemented


def pickled(thing):
    """The bytes of data.pkl."""
    buffer = io.BytesIO()
    _TorchPickler(buffer, protocol=2).dump(thing)
    return buffer.getvalue()


def archive(path, content, records=(), *, compression=zipfile.ZIP_STORED):
    """Writes what torch.save would: a zip with `content` (bytes) as data.pkl and more records."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/data/ones", struct.pack("<2f", 1, 1), zipfile.ZIP_STORED)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
        for name, record in records:
            file.writestr(name, record)
    return path


def ours(**parts):
    """What load_checkpoint asks for, with as little as possible in it; the digest is right where there can be one."""
    state = {"format": FORMAT, "config": {"name": "x"}, "offered": [], "classes": ["a", "b"]}
    state |= {"run": {"name": "x", "run_id": "1"}}
    state |= {"model": {"w": torch.ones(2)}, "monitor": Monitor(None, False, None).state_dict()}
    state |= {"epochs_done": 1, "steps_done": 1}
    return {**state, DIGEST: digest_of(state), **parts}


def tensor(num_floats, offset, size, stride):
    """A tensor as a pickle tells it, whether or not that can be."""
    return Calls(rebuild, Storage(num_floats), offset, size, stride, False, OrderedDict())


# --- checkpoints: code ---------------------------------------------------------------------------------------------


def _nested(folder):
    """Opens another file, and that one without care."""
    torch.save(Calls(os.system, touch(folder)), folder / "inner")
    return Calls(functools.partial(torch.load, str(folder / "inner"), weights_only=False))


def touch(folder):
    """A shell command that leaves the canary."""
    return f"touch '{folder / CANARY}'"


def _open(folder):
    return f"open({str(folder / CANARY)!r}, 'w').close()"


# What would run where a pickle is opened without care, by the name that is refused.
CODE = {
    "posix.system": lambda folder: Calls(os.system, touch(folder)),
    "eval": lambda folder: Calls(eval, _open(folder)),
    "exec": lambda folder: Calls(exec, _open(folder)),
    "io.open": lambda folder: Calls(open, str(folder / CANARY), "w"),
    "getattr": lambda folder: Calls(Calls(getattr, Calls(__import__, "os"), "system"), touch(folder)),
    "functools.partial": _nested,
    "subprocess.check_call": lambda folder: Calls(subprocess.check_call, ["touch", str(folder / CANARY)]),
    "pickle.loads": lambda folder: Calls(pickle.loads, pickle.dumps(Calls(os.system, touch(folder)))),
    "utils.checkpoint.save_checkpoint": lambda folder: Calls(save_checkpoint, folder / CANARY, {}),
}
# Refused by their names too; these leave no canary.
NAMED = {
    "torch.hub.load": lambda folder: Calls(torch.hub.load, "owner/repository", "model"),
    "parse_config.ConfigParser": lambda folder: Calls(parse_config.ConfigParser, {"name": "x"}),
}


def _in_zip(thing):
    def make(folder):
        return archive(folder / "x.pth", pickled(ours(extra=thing(folder))))

    return make


def _as_weights(folder):
    return archive(folder / "x.pth", pickled({"w": CODE["posix.system"](folder)}))


def _legacy(folder):
    torch.save(ours(extra=CODE["posix.system"](folder)), folder / "x.pth", _use_new_zipfile_serialization=False)
    return folder / "x.pth"


def _bare(protocol):
    def make(folder):
        (folder / "x.pth").write_bytes(pickle.dumps(ours(extra=CODE["posix.system"](folder)), protocol))
        return folder / "x.pth"

    return make


def _tar(folder):
    evil = pickle.dumps(CODE["posix.system"](folder), 2)
    with tarfile.open(folder / "x.pth", "w") as file:
        for name in ("storages", "tensors", "pickle"):
            entry = tarfile.TarInfo(name)
            entry.size = len(evil)
            file.addfile(entry, io.BytesIO(evil))
    return folder / "x.pth"


def _torchscript(folder):
    evil = pickle.dumps(CODE["posix.system"](folder), 2)
    code = ("archive/code/__torch__.py", "class M(Module):\n  def __init__(self): pass\n")
    return archive(folder / "x.pth", evil, [("archive/constants.pkl", evil), code])


def _upward_names(folder):
    records = [(f"{'../' * depth}{CANARY}", b"x") for depth in range(4)] + [(str(folder / CANARY), b"x")]
    return archive(folder / "x.pth", pickled(ours()), records)


def _safetensors(header, size=8):
    def make(folder):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
        return folder / "x.safetensors"

    return make


# --- checkpoints: sizes and shapes ---------------------------------------------------------------------------------


def _with_tensor(*arguments):
    def make(folder):
        w = tensor(*arguments)
        return archive(folder / "x.pth", pickled(ours(extra=w, model={"w": w})), [("archive/data/0", bytes(16))])

    return make


def _with_calls(function, *arguments):
    return _in_zip(lambda folder: Calls(function, *arguments))


def _with_value(make_value):
    return _in_zip(lambda folder: make_value())


def _raw(operations):
    """A value in pickle's own operations, for what Python itself cannot pickle."""

    def make(folder):
        rest = ours()
        del rest["model"]
        content = pickled(rest)[:-1] + b"X\x05\x00\x00\x00extra" + operations + b"sX\x05\x00\x00\x00model}s."
        return archive(folder / "x.pth", content)

    return make


def _deflated(folder):
    num_floats = 10**7
    bomb = [("archive/data/0", bytes(4 * num_floats))]
    content = pickled(ours(extra=tensor(num_floats, 0, (num_floats,), (1,))))
    return archive(folder / "x.pth", content, bomb, compression=zipfile.ZIP_DEFLATED)


def _of_itself():
    ring = []
    ring.append(ring)
    return ring


def _dict_of_itself():
    ring = {}
    ring["ring"] = ring
    return ring


def _laughs():
    value = [1]
    for _ in range(12):
        value = [value] * 10
    return value


CODE_FILES = {
    **{name: _in_zip(make) for name, make in {**CODE, **NAMED}.items()},
    "as weights": _as_weights,
    "legacy format": _legacy,
    "bare pickle 0": _bare(0),
    "bare pickle 2": _bare(2),
    "bare pickle 5": _bare(5),
    "tar": _tar,
    "TorchScript": _torchscript,
}
SHAPES = {
    "nothing wrong": lambda folder: archive(folder / "x.pth", pickled(ours())),
    "names that lead upwards": _upward_names,
    "a storage of terabytes in 16 bytes": _with_tensor(HUGE, 0, (HUGE,), (1,)),
    "a storage that is not there": lambda folder: archive(
        folder / "x.pth", pickled(ours(extra=tensor(4, 0, (4,), (1,))))
    ),
    "40 MB deflated to 40 kB": _deflated,
    "terabytes by stride 0": _with_tensor(4, 0, (HUGE,), (0,)),
    "more numbers than there are": _with_tensor(4, 0, (HUGE, HUGE), (0, 0)),
    "overlapping rows": _with_tensor(4, 0, (3, 2), (1, 1)),
    "larger than its storage": _with_tensor(4, 0, (1000,), (1,)),
    "rows beyond its storage": _with_tensor(4, 0, (2, 2), (1000, 1)),
    "offset beyond its storage": _with_tensor(4, 10**6, (4,), (1,)),
    "offset that overflows": _with_tensor(4, 2**62, (4,), (1,)),
    "negative offset": _with_tensor(4, -4, (4,), (1,)),
    "negative size": _with_tensor(4, 0, (-4,), (1,)),
    "negative stride": _with_tensor(4, 3, (4,), (-1,)),
    "fewer strides than sizes": _with_tensor(4, 0, (2, 2), (1,)),
    "sizes that are text": _with_tensor(4, 0, "abc", (1,)),
    "negative storage": _with_tensor(-4, 0, (4,), (1,)),
    "a bytearray of terabytes": _with_calls(bytearray, 10**13),
    "a sparse tensor beyond its size": _with_calls(
        torch._utils._rebuild_sparse_tensor, torch.sparse_coo, (torch.tensor([[10**9]]), torch.ones(1), (4,), True)
    ),
    "a parameter with attributes": _with_calls(
        torch._utils._rebuild_parameter_with_state, torch.ones(2), False, OrderedDict(), {"detach": 5, "shape": 7}
    ),
    "100,000 lists in each other": _raw(b"]" * 10**5 + b"a" * (10**5 - 1)),
    "100,000 dicts in each other": _raw(b"}" + b"K\x01}" * 10**5 + b"s" * 10**5),
    "a list in itself": _with_value(_of_itself),
    "a dict in itself": _with_value(_dict_of_itself),
    "a billion laughs": _with_value(_laughs),
    "a long text 100,000 times": _with_value(lambda: ["x" * 10**6] * 10**5),
    "a set": _with_value(lambda: {1, 2}),
    "a number of 5,000 digits": _with_value(lambda: 10**5000),
    "a Counter with tensors for keys": _with_value(lambda: Counter([torch.ones(1)])),
    "safetensors: header of exabytes": lambda folder: _written(folder, b"\xff" * 7 + b"\x00{}", "x.safetensors"),
    "safetensors: beyond the file": _safetensors({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
    "safetensors: overlapping": _safetensors(
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}
    ),
    "safetensors: deep JSON": _safetensors(b'{"a":' * 10**5),
}


def _written(folder, content, name):
    (folder / name).write_bytes(content)
    return folder / name


# --- checkpoints of ours, changed by somebody who can compute a digest ---------------------------------------------


def _config(**sections):
    return lambda state: {**state, "config": {**state["config"], **sections}, "offered": []}


def _part(name, value):
    return lambda state: {**state, name: value}


def _inside(name, **values):
    return lambda state: {**state, name: {**state[name], **values}}


CHANGED_CONFIGS = {
    "os.system as a model": _config(arch={"type": "os.system", "args": {"command": "touch canary"}}),
    "builtins.eval as a loss": _config(loss="builtins.eval"),
    "functools.partial as an optimizer": _config(optimizer={"type": "functools.partial", "args": {"lr": 1}}),
    "a dunder chain as a metric": _config(metrics=["accuracy.__globals__"]),
    "torch.hub.load as a model": _config(arch={"type": "torch.hub.load", "args": {"repo_or_dir": ".", "model": "m"}}),
    "another trainer": _config(trainer={"type": "subprocess.Popen", "epochs": 2}),
    "a name that leads upwards": _config(name="../../x"),
    "a name with a NUL": _config(name="a\0b"),
    "an absolute name": _config(name="/tmp/x"),
    "a base": _config(_base_="/etc/passwd"),
    "a package that is allowed": _config(allow=["antigravity"]),
    "a loader of no images": _config(data_loader={"type": "ImageFolderDataLoader", "args": {"data_dir": "/proc/self"}}),
    "weights that are a device": _config(weights_file="/dev/zero"),
    "a config of numbers": _config(name=5, arch=5, trainer=5),
    "a tensor in the config": _config(seed=torch.ones(2)),
}
CHANGED_PARTS = {
    "run: upwards": _part("run", {"name": "../../x", "run_id": "y"}),
    "run: a NUL": _part("run", {"name": "small", "run_id": "a\0b"}),
    "run: absolute": _part("run", {"name": "/tmp/x", "run_id": "y"}),
    "run: dots": _part("run", {"name": ".", "run_id": ".."}),
    "run: right to left": _part("run", {"name": "small", "run_id": "\u202egpj.exe"}),
    "run: too long": _part("run", {"name": "x" * 300, "run_id": "y"}),
    "run: numbers": _part("run", {"name": 1, "run_id": 2}),
    "run: lists": _part("run", {"name": ["a"], "run_id": ["b"]}),
    "run: empty": _part("run", {}),
    "run: more": _part("run", {"name": "small", "run_id": "y", "more": 1}),
    "classes: others": _part("classes", ["../x", "a\0b", "c"]),
    "classes: numbers": _part("classes", [1, 2, 3]),
    "classes: dicts": _part("classes", [{}, {}, {}]),
    "classes: none": _part("classes", []),
    "input: a number": _part("input", 5),
    "monitor: empty": _part("monitor", {}),
    "monitor: text": _inside("monitor", bad_epochs="x"),
    "monitor: a best that is text": _inside("monitor", best="x"),
    "monitor: a path for an epoch": _inside("monitor", best_epoch="/../../../x"),
    "progress: text": _part("progress", "x"),
    "progress: empty": _part("progress", {}),
    "progress: negative": _part("progress", {"batches_done": -5, "loss": {}, "metrics": {}, "time_s": 0.0, "lr": 0.1}),
    "optimizer: empty": _part("optimizer", {}),
    "optimizer: numbers": _part("optimizer", {"state": 5, "param_groups": 5}),
    "schedule: a method replaced": _inside("schedule", step=5),
    "schedule: an optimizer of its own": _inside("schedule", optimizer={}),
    "rng: text": _part("rng", "x"),
    "model: numbers for names": _part("model", {1: torch.ones(1)}),
    "model: no tensors": _part("model", {"w": "x"}),
    "epochs_done: negative": _part("epochs_done", -1),
    "epochs_done: huge": _part("epochs_done", 10**30),
    "offered: paths": _part("offered", ["../../x.args.y"]),
}


def changed(state, change, path):
    """Saves a checkpoint of ours with one change and a digest that fits."""
    state = change({name: value for name, value in state.items() if name != DIGEST})
    torch.save({**state, DIGEST: digest_of(state)}, path)
    return path


# --- configs -------------------------------------------------------------------------------------------------------


def _sections(**sections):
    return lambda folder, good: _written(folder, json.dumps({**good, **sections}).encode(), "c.json")


def _text(text):
    return lambda folder, good: _written(folder, text.encode(), "c.json")


def _base(name):
    return lambda folder, good: _written(folder, json.dumps({"_base_": name}).encode(), "c.json")


def _base_pipe(folder, good):
    os.mkfifo(folder / "pipe.json")
    return _base(str(folder / "pipe.json"))(folder, good)


def _trap(folder, good):
    (folder / "trap.py").write_text(f"open({str(folder / CANARY)!r}, 'w').close()\n", encoding="utf-8")
    return _sections(arch="trap.Model", loss="trap.loss")(folder, good)


CONFIGS = {
    "os.system": _sections(arch={"type": "os.system", "args": {"command": "touch canary"}}),
    "builtins.eval": _sections(loss={"type": "builtins.eval", "args": {}}),
    "a dunder chain": _sections(arch="MLP.__init__.__globals__"),
    "functools.partial": _sections(optimizer={"type": "functools.partial", "args": {"lr": 0.1}}),
    "a module beside it": _trap,
    "an address for a model": _sections(arch="http://example.org/model.py"),
    "an address for a folder": _sections(weights_file="http://example.org/w.pth", loss="file:///etc/passwd"),
    "a template string": _sections(name="{0.__class__}", loss="%s"),
    "a huge seed": _sections(seed=10**300),
    "a huge batch": _sections(data_loader={"type": "ImageFolderDataLoader", "args": {"batch_size": -(10**18)}}),
    "5,000 digits": _text('{"seed": ' + "9" * 5000 + "}"),
    "an infinite number": _text('{"seed": 1e999}'),
    "deep": _text('{"a":' * 10**5),
    "a base that is no config": _base("/etc/passwd"),
    "a base without end": _base("/dev/zero"),
    "a base that is a pipe": _base_pipe,
    "a base that is an address": _base("http://example.org/c.json"),
    "a base that is itself": _base("c.json"),
    "references in a ring": _sections(a="${b}", b="${a}"),
    "a reference to itself": _sections(name="${name}"),
    "references that double": _sections(**{f"a{i}": f"${{a{i + 1}}}${{a{i + 1}}}" for i in range(60)}, a60="x"),
    "a name that leads upwards": _sections(name="../../x"),
    "an escape sequence": _sections(name="\x1b[2J\x1b]0;x\x07"),
    "bytes that are no text": lambda folder, good: _written(folder, b"\xff\xfe\x00{", "c.json"),
}


# --- images --------------------------------------------------------------------------------------------------------

PNG_START = b"\x89PNG\r\n\x1a\n"


def good_image(image_format="PNG", side_px=40):
    """A small picture."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((side_px, side_px)).convert("RGB").save(buffer, image_format)
    return buffer.getvalue()


def _chunk(kind, data, crc=None):
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def _png(*chunks, side_px=4):
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0))
    return PNG_START + header + b"".join(chunks) + _chunk(b"IEND", b"")


def _zeros(num_bytes):
    return zlib.compress(bytes(num_bytes), 9)


def _tiff(extra=(), next_directory=0, data=bytes(200), **changes):
    """An 8x8 grey TIFF, with tags changed by number (`t256=(type, count, value)`) or added."""
    tags = {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    tags |= {273: (4, 1, 200), 277: (3, 1, 1), 278: (4, 1, 8), 279: (4, 1, 64)}
    tags |= {int(name[1:]): value for name, value in changes.items()} | dict(extra)
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_directory) + data


def _patched(data, at, form, *values):
    return data[:at] + struct.pack(form, *values) + data[at + struct.calcsize(form) :]


def _image_bytes():
    pixels = _chunk(b"IDAT", _zeros(52))
    jpeg, webp, bmp = good_image("JPEG"), good_image("WEBP"), good_image("BMP")
    size_at = jpeg.index(b"\xff\xc0") + 5
    bomb = _zeros(10**8)
    text = b"".join(_chunk(b"zTXt", b"a%d\0\0" % i + _zeros(10**6)) for i in range(100))
    return {
        "PNG of 30000x30000 without data": _png(side_px=30_000),
        "PNG of 2^31 pixels a side": _png(pixels, side_px=2**31 - 1),
        "PNG with a wrong CRC": _png(_chunk(b"gAMA", b"\0\0\0\1", crc=1), pixels),
        "PNG with 100 MB for 52 bytes": _png(_chunk(b"IDAT", bomb)),
        "PNG with a zTXt bomb": _png(_chunk(b"zTXt", b"a\0\0" + bomb), pixels),
        "PNG with an iTXt bomb": _png(_chunk(b"iTXt", b"a\0\1\0\0\0" + bomb), pixels),
        "PNG with an iCCP bomb": _png(_chunk(b"iCCP", b"a\0\0" + bomb), pixels),
        "PNG with a bomb behind the pixels": _png(pixels, _chunk(b"zTXt", b"a\0\0" + bomb)),
        "PNG with 100 texts of 1 MB": _png(text, pixels),
        "PNG with a chunk of 4 GB": PNG_START + _png()[8:33] + b"\xff\xff\xff\xffIDAT" + bytes(10),
        "PNG cut": good_image()[:60],
        "PNG with a broken EXIF block": _png(_chunk(b"eXIf", b"II*\0" + b"\xff" * 50), pixels),
        "TIFF of 2^31 pixels a side": _tiff(t256=(4, 1, 2**31), t257=(4, 1, 2**31)),
        "TIFF whose directory follows itself": _tiff(next_directory=8),
        "TIFF whose EXIF block is itself": _tiff([(34665, (4, 1, 8))]),
        "TIFF with 2^32 values in a tag": _tiff([(700, (7, 2**32 - 1, 0)), (305, (2, 2**31, 5))]),
        "TIFF with 2^28 strips": _tiff(t273=(4, 2**28, 8), t279=(4, 2**28, 8)),
        "TIFF with a million channels": _tiff(t258=(3, 2**20, 8), t277=(3, 1, 65535)),
        "TIFF with a deflate bomb": _tiff(t259=(3, 1, 8), t273=(4, 1, 122), t279=(4, 1, len(bomb)), data=bomb),
        "TIFF that begins at its end": b"II*\0\xff\xff\xff\xff",
        "JPEG of 65535x65535": _patched(jpeg, size_at, ">HH", 65535, 65535),
        "JPEG of 0x0": _patched(jpeg, size_at, ">HH", 0, 0),
        "JPEG cut": jpeg[: len(jpeg) // 2],
        "WEBP of 2^24 pixels a side": b"RIFF\xff\xff\xff\xffWEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6,
        "WEBP with a negative size": _patched(webp, 16, "<i", -1),
        "BMP of negative height": _patched(bmp, 22, "<i", -(2**31)),
        "BMP of negative width": _patched(bmp, 18, "<i", -40),
        "BMP with a negative header": _patched(bmp, 14, "<i", -1),
        "PPM of 999999999x999999999": b"P6\n999999999 999999999\n255\nx",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) run\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "HTML": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
        "pickle": pickle.dumps(Calls(os.system, "touch canary")),
    }


def _pipe(folder):
    os.mkfifo(folder / "x.png")
    return folder / "x.png"


def _link(target):
    def make(folder):
        (folder / "x.png").symlink_to(target)
        return folder / "x.png"

    return make


def _file(data):
    return lambda folder: _written(folder, data, "x.png")


IMAGES = {name: _file(data) for name, data in _image_bytes().items()} | {
    "a link to /etc/passwd": _link("/etc/passwd"),
    "a link to /dev/zero": _link("/dev/zero"),
    "a link to itself": _link(Path("x.png")),
    "a pipe": _pipe,
}
