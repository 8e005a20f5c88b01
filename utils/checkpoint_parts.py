"""What train.py and test.py rely on in a checkpoint, whoever made it: which parts there are, and of what kind."""

from typing import Annotated, Any, NotRequired

from annotated_types import Ge, Gt
from pydantic import ConfigDict, FiniteFloat, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

_Count = Annotated[int, Ge(0)]
_AND_MORE = ConfigDict(extra="allow", strict=True)


@with_config(ConfigDict(extra="forbid", strict=True))
class _Run(TypedDict):
    name: str
    run_id: str


@with_config(_AND_MORE)
class _Monitor(TypedDict):
    name: str | None
    higher_is_better: bool
    best: float | None
    best_epoch: _Count | None
    bad_epochs: _Count


@with_config(_AND_MORE)
class _Progress(TypedDict):
    batches_done: _Count
    loss: dict[str, Any]
    time_s: float
    lr: float | None


@with_config(_AND_MORE)
class _Parts(TypedDict):
    sha256: str
    config: dict[str, Any]
    offered: list[str]
    classes: list[str]
    run: _Run
    model: dict[str, Any]
    monitor: _Monitor
    epochs_done: _Count
    steps_done: _Count
    input: NotRequired[dict[str, Any]]
    data: NotRequired[dict[str, list[int | str]]]
    numerics: NotRequired[dict[str, Any]]
    keys_version: NotRequired[int]
    trained_model: NotRequired[dict[str, Any]]
    optimizer: NotRequired[dict[str, Any]]
    schedule: NotRequired[dict[str, Any]]
    compute: NotRequired[dict[str, Any]]
    progress: NotRequired[_Progress | None]
    history: NotRequired[list[dict[str, float]]]
    rng: NotRequired[dict[str, Any]]
    temperature: NotRequired[Annotated[FiniteFloat, Gt(0)]]


_ADAPTER = TypeAdapter(_Parts)


def missing_part(state: dict[str, Any]) -> str | None:
    """In words, the first part that is missing or of another kind; None where all are there."""
    try:
        _ADAPTER.validate_python(state)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(key) for key in first["loc"] if key != "_Progress")
        if first["type"] == "missing":
            return f"it has no '{where}'"
        found = first["input"]
        is_out_of_range = first["type"] in ("greater_than_equal", "greater_than", "finite_number")
        return f"its '{where}' is {found if is_out_of_range else f'a {type(found).__name__}'}"
    return None
