"""A network as one file of its own, which needs none of this project's code: traced, written as ONNX or pt2, run again.

Everything happens in memory, so that export.py can hold the bytes against the network before they get a name.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import nn

from utils.errors import ExportError

Answers = Callable[[torch.Tensor], torch.Tensor]
# What torch's translations to ONNX are written for; ONNX Runtime 1.15 was seen to read it.
OPSET = 18
_IR_VERSION = 8  # that belongs to it; what newer ones have more, such as metadata of nodes, is not in our files
INPUT = "images"
_MAX_PROTOBUF_BYTES = 2**31 - 2**20  # what one ONNX file can hold, with room for the graph


def json_text(value: Any) -> str:
    """JSON in readable letters; what UTF-8 cannot hold (a file name may) is written as JSON's own escape."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")


def traced(module: nn.Module, example_NCHW: torch.Tensor) -> torch.export.ExportedProgram:
    """The operations that a module does with a batch of any number of images.

    Args:
        module: in evaluation mode, on the CPU.
        example_NCHW: two images or more; one would be taken for a size that is meant.

    Raises:
        ExportError: what it does depends on more than shapes, or on the number of images.
    """
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(module, (example_NCHW,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # the module has just answered, so whatever is raised is about tracing
        raise ExportError(f"torch.export cannot trace the network: {_first_line(error)}") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines of code and folders of this machine are nobody's business
    return program


def onnx_bytes(program: torch.export.ExportedProgram, metadata: Mapping[str, str], output: str) -> bytes:
    """The content of an ONNX file, weights inside.

    Args:
        program: see `traced`.
        metadata: names to texts.
        output: name of the output.

    Raises:
        ExportError: an operator has no ONNX form, or the weights are more than such a file can hold.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size > _MAX_PROTOBUF_BYTES:
        raise ExportError(f"one ONNX file holds at most 2 GB, the weights are {size / 1e9:.1f} GB; use --format pt2")
    try:
        with _quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[output],
                dynamic_shapes=({0: "batch"},),
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, ImportError) as error:
        raise ExportError(f"ONNX cannot express the network: {_onnx_reason(error)}; --format pt2 can") from error
    model: Any = made.model_proto  # type: ignore[union-attr]  # None of the older exporter only
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph):
        del part.metadata_props[:]  # traces of the tracing, with folders of this machine
    model.ir_version = _IR_VERSION
    for name, text in metadata.items():
        model.metadata_props.add(key=name, value=text)
    return model.SerializeToString(deterministic=True)


def onnx_answers(data: bytes) -> tuple[Answers, dict[str, str]]:
    """ONNX Runtime's answers (N, K) to images_NCHW, and the metadata that it finds.

    Raises:
        ExportError: it does not take the file.
    """
    import onnxruntime  # optional, and takes a while

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; what it has to say of the machine's devices is no concern here
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, which derive from nothing narrower
        raise ExportError(f"ONNX Runtime does not take the graph: {_first_line(error)}") from error
    found = dict(session.get_modelmeta().custom_metadata_map)
    return lambda images_NCHW: torch.from_numpy(session.run(None, {INPUT: images_NCHW.numpy()})[0]), found


def program_bytes(program: torch.export.ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """The content of a pt2 file, which `torch.export.load` reads.

    Raises:
        ExportError: torch cannot write one of its parts.
    """
    file = io.BytesIO()
    try:
        with _quiet():
            torch.export.save(program, file, extra_files=dict(metadata))
    except Exception as error:  # classes of its serializer, private ones among them
        raise ExportError(f"torch.export cannot write the network: {_first_line(error)}") from error
    return file.getvalue()


def program_answers(data: bytes, names: list[str]) -> tuple[Answers, dict[str, str]]:
    """Answers (N, K) to images_NCHW of a program that is read back, and its metadata of those names."""
    metadata = dict.fromkeys(names, "")
    with _quiet():
        program = torch.export.load(io.BytesIO(data), extra_files=metadata)
    return program.module(), metadata


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch writes for the people who write torch; what goes wrong is raised, and said in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # it prints the graph beside what it raises
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _onnx_reason(error: BaseException) -> str:
    """The operator, where it is one; else the first line of the innermost error."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in reversed(chain):
        if "No ONNX function found for" in str(link):
            return f"no form of {str(link).split('found for ')[1].split('. Failure')[0][:150]}"
    return _first_line(chain[-1])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
