"""The tables and signatures that configs are checked against, as a JSON Schema for editors (draft-07).

Called by parse_config.py for `--schema`. There are no `required` lists, because a file with a `_base_` is only a part.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Set
from importlib.metadata import version
from typing import Any

import pydantic
import torch

from utils.config_check import Section
from utils.config_signature import REQUIRED, Parameter, adapter_of, mentions, parameters_of

Schema = dict[str, Any]
_IS_REFERENCE = r"\$\{.+\}"
_REFERENCE: Schema = {"$ref": "#/definitions/reference"}
# "    lr, momentum (float, optional): text", with the lines that belong to it.
_ARGUMENT = re.compile(
    r"^[ ]+\*{0,2}(\w+(?:, \w+)*)(?: ?\([^\n]*?\))?: (.*(?:\n(?![ ]+\w[\w, ]*(?: ?\(.*?\))?: )[ ]+\S.*)*)", re.M
)


def json_schema(
    top_level: Mapping[str, tuple[Any, Any]],
    sections: Mapping[str, Section],
    nested: Mapping[str, Section],
    trainer_options: type,
) -> Schema:
    """The schema of a whole config.

    Args:
        top_level: annotation and default of each key.
        sections: of the keys that name a class.
        nested: of the parameters, by name, that name classes.
        trainer_options: whose parameters are keys of "trainer".
    """
    writer = _Writer(nested)
    keys = {key: writer.value(Parameter(annotation, default), "") for key, (annotation, default) in top_level.items()}
    keys |= {key: writer.section(section) for key, section in sections.items()}
    keys["metrics"] = {"type": "array", "items": keys["metrics"]}
    keys["lr_scheduler"] = {**keys["lr_scheduler"], "type": ["string", "object", "null"]}
    options = writer.arguments(trainer_options, frozenset())["properties"]
    keys["trainer"] = keys["trainer"]["else"]
    keys["trainer"]["properties"] |= options
    keys["_base_"] = {
        "description": "Config files that this one changes; relative to this one.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "torchmetrics", "pydantic"))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": f"Made by `python train.py --schema > config.schema.json` with {versions}.",
        "title": "An experiment",
        "allowComments": True,
        "allowTrailingCommas": True,
        "type": "object",
        "properties": keys,
        "additionalProperties": False,
        "definitions": {
            "reference": {"type": "string", "pattern": _IS_REFERENCE},
            **writer.definitions,
        },
    }


class _Writer:
    """Writes parts of the schema; what several parts share is put into `definitions`."""

    def __init__(self, nested: Mapping[str, Section]):
        self.nested = nested
        self.definitions: Schema = {}

    def section(self, section: Section) -> Schema:
        """A name, or `{"type", "args"}` with the arguments of that type."""
        found = {name: section.table.find(name) for name in section.table.menu()}
        targets = {name: target for name, target in found.items() if target is not None}
        about = [(inspect.getdoc(target) or "").partition("\n\n")[0].replace("\n", " ") for target in targets.values()]
        # A dotted name, or a reference, is not listed.
        name = {"anyOf": [{"enum": list(targets), "enumDescriptions": about}, {"type": "string", "pattern": r"[.$]"}]}
        choices = []
        for key, target in targets.items():
            is_it = {"properties": {"type": {"const": key}}, "required": ["type"]}
            choices.append(
                {"if": is_it, "then": {"properties": {"args": self.arguments(target, section.given_to(target))}}}
            )
        keys = {
            key: self.value(Parameter(annotation, REQUIRED), "") for key, annotation in sorted(section.keys.items())
        }
        as_object = {"properties": {"type": name, "args": {}, **keys}, "additionalProperties": False, "allOf": choices}
        # Editors complete a bare name from the examples.
        names = {"type": ["string", "object"], "examples": list(targets)}
        return {**names, "if": {"type": "string"}, "then": name, "else": as_object}

    def arguments(self, target: Callable[..., Any], given: Set[str]) -> Schema:
        """The arguments of a class or function, as an object."""
        about = described(target)
        properties = {
            key: self.value(parameter, about.get(key, ""), key)
            for key, parameter in parameters_of(target).items()
            if key not in given
        }
        return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}

    def value(self, parameter: Parameter, description: str, key: str = "") -> Schema:
        """One argument, with its default and what the docstring says of it."""
        schema: Schema = {"description": description} if description else {}
        if parameter.default is not REQUIRED and _is_json(parameter.default):
            schema["default"] = parameter.default
        if key in self.nested:
            return schema | {
                "anyOf": [self._nested(key), {"type": "array", "items": self._nested(key)}, {"type": "null"}]
            }
        adapter = adapter_of(parameter.annotation)
        if adapter is None or mentions(parameter.annotation, torch.dtype):
            return schema
        try:
            typed = _draft_07(adapter.json_schema(ref_template="#/definitions/{model}"))
        except pydantic.errors.PydanticInvalidForJsonSchema:  # a function, which only the program can pass
            return schema
        self.definitions |= typed.pop("$defs", {})
        if typed.get("type") in ("number", "integer", "boolean"):  # the short form gives sharper messages
            wanted = typed["type"]
            message = f"expected {'an' if wanted == 'integer' else 'a'} {wanted}, or ${{path.of.another.value}}"
            is_reference = {"pattern": _IS_REFERENCE, "patternErrorMessage": message}
            return schema | typed | {"type": [wanted, "string"], **is_reference}
        choices = typed.pop("anyOf", None) or [typed]
        if mentions(parameter.annotation, torch.Tensor):
            choices.append({"type": "array", "items": {"type": "number"}})
        if {"type": "string"} in choices or any("format" in choice for choice in choices):
            return schema | {"anyOf": choices}
        return schema | {"anyOf": [*choices, _REFERENCE]}

    def _nested(self, key: str) -> Schema:
        what = self.nested[key].table.what.partition(" ")[2]
        if what not in self.definitions:
            self.definitions[what] = {}  # it may hold itself
            self.definitions[what] = self.section(self.nested[key])
        return {"$ref": f"#/definitions/{what}"}


def described(target: Callable[..., Any]) -> dict[str, str]:
    """What a docstring says of each argument, in its first sentence: Google's form, and torch's.

    The arguments that several classes share are described by their parents.
    """
    found: dict[str, str] = {}
    for where in reversed(inspect.getmro(target)) if inspect.isclass(target) else (target,):
        text = inspect.getdoc(where) or ""
        start = re.search(r"^(Args|Arguments|Parameters):$", text, re.M)
        section = re.split(r"\n(?=\S)", text[start.end() :])[0] if start else ""
        for names, sentence in _ARGUMENT.findall(section):
            plain = re.sub(r"\s+", " ", re.sub(r":\w+:|`", "", sentence)).strip()
            found |= {name: re.split(r"(?<=\w\w)\. ", plain)[0][:200] for name in names.split(", ")}
    return found


def _draft_07(schema: Any) -> Any:
    """pydantic writes a newer draft, where items of a tuple have another key."""
    if isinstance(schema, list):
        return [_draft_07(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {"items" if key == "prefixItems" else key: _draft_07(item) for key, item in schema.items()}


def schema_text(schema: Schema) -> str:
    """One line for each type, so that a change of a library shows as a few changed lines."""
    return json.dumps(schema, ensure_ascii=False, allow_nan=False).replace('{"if": ', '\n{"if": ') + "\n"


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
