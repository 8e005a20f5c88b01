"""Plain data opens again as it was; its digest tells any two that differ apart, and depends on nothing else."""

import hashlib
import io
import itertools
import os
import random
import struct
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim
from torch.optim import lr_scheduler

from tests.plain_values import repeatable
from tests.small_checkpoint import same
from utils.plain import digest_of, require_plain

OPTIMIZERS = {
    name: cls
    for name, cls in vars(optim).items()
    if isinstance(cls, type) and issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
}
SCHEDULERS = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 3]},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 10},
    "ReduceLROnPlateau": {},
}
DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]


def reopened(value):
    """What torch gives back, from a file in memory, without an allow-list."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


# --- what is plain -----------------------------------------------------------------------------------------------

# Few different leaves, and strings that look like the inside of the digest, so that pairs are close to each other.
leaves = st.sampled_from([None, True, False, 0, 1, -1, 10, 2**70, 0.0, -0.0, 1.0, 0.1, float("nan"), float("inf")])
texts = st.sampled_from(["", "0", "1", "n", "b1", "i1;", "l0;", "s1;1", "é", "\ud800"])
tensors = st.builds(
    lambda dtype, shape: torch.zeros(shape, dtype=dtype),
    st.sampled_from([torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.float32]),
    st.sampled_from([(), (0,), (1,), (2,), (2, 1), (1, 2), (4,)]),
)
plain_values = st.recursive(
    leaves | texts | tensors,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts | st.integers(0, 2), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(repeatable, max_examples=100)
@given(plain_values)
def test_what_is_plain_opens_again_as_it_was_with_the_same_digest(value):
    require_plain(value)

    again = reopened(value)

    assert same(again, value)
    assert digest_of(again) == digest_of(value)


class Text(str):
    """Not quite a string."""


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        (np.float32(0.5), "numpy.float32"),
        (np.zeros(2), "numpy.ndarray"),
        (Path("x"), "pathlib"),
        ({1, 2}, "builtins.set"),
        (defaultdict(int), "collections.defaultdict"),
        (slice(1), "builtins.slice"),
        (1j, "builtins.complex"),
        (b"", "builtins.bytes"),
        (torch.float32, "torch.dtype"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (Text("x"), "Text"),
        (torch.__version__, "torch.torch_version.TorchVersion"),
        (os.system, "builtin_function_or_method"),
        (torch.eye(2).to_sparse(), "torch.sparse_coo tensor"),
        pytest.param(2**2039, "integer of 2040 bits", id="2**2039"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_key_path(thing, kind):
    state = {"optimizer": {"state": [{"x": 1}, {"rate": (0, thing)}]}}

    with pytest.raises(TypeError, match=r"^checkpoint\['optimizer'\]\['state'\]\[1\]\['rate'\]\[1\] is an? .*" + kind):
        require_plain(state)


def test_a_key_that_is_not_plain_is_refused():
    with pytest.raises(TypeError, match=r"checkpoint\['a'\] \(a key\) is a pathlib"):
        require_plain({"a": {Path("x"): 1}})


def test_what_somebody_attached_to_a_tensor_is_looked_at_too():
    # torch writes it with the tensor, and then refuses the file.
    tensor = torch.ones(2)
    tensor.origin = Path("x")

    with pytest.raises(TypeError, match=r"\['w'\] \(what somebody attached to it\)\['origin'\] is a pathlib"):
        require_plain({"w": tensor})


@pytest.mark.parametrize("number", [2**2039 - 1, 1 - 2**2039], ids=["positive", "negative"])
def test_the_largest_integers_that_are_plain_open_again(number):
    require_plain(number)

    assert reopened(number) == number


@pytest.mark.parametrize(
    "state", [OrderedDict(a=torch.ones(1)), Counter("aab"), random.getstate(), torch.get_rng_state()]
)
def test_what_torch_and_python_keep_as_state_is_plain_and_opens_again(state):
    require_plain(state)

    again = reopened(state)

    assert same(again, state)
    assert digest_of(again) == digest_of(state)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimizer_of_torch_is_plain_and_opens_again(name):
    parameter = nn.Parameter(torch.eye(2))
    optimizer = OPTIMIZERS[name]([parameter], lr=0.1)
    parameter.grad = torch.ones(2, 2).to_sparse() if name == "SparseAdam" else torch.ones(2, 2)
    optimizer.step(lambda: torch.tensor(1.0) if name == "LBFGS" else None)
    state = optimizer.state_dict()
    require_plain(state)

    again = reopened(state)

    assert same(again, state)
    assert digest_of(again) == digest_of(state)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_state_of_the_schedulers_of_torch_is_plain_and_opens_again(name):
    optimizer = optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
    scheduler = getattr(lr_scheduler, name)(optimizer, **SCHEDULERS[name])
    optimizer.step()
    scheduler.step(*([0.5] if name == "ReduceLROnPlateau" else []))
    state = scheduler.state_dict()
    require_plain(state)

    again = reopened(state)

    assert same(again, state)
    assert digest_of(again) == digest_of(state)


# --- the digest: what it is --------------------------------------------------------------------------------------

# Made with printf and sha256sum: a checkpoint of today must be whole for the code of next year.
GOLDEN = [
    (None, "1b16b1df538ba12dc3f97edbb85caa7050d46c148134290feba80f8236c83db9"),
    (True, "7dc96f776c8423e57a2785489a3f9c43fb6e756876d6ad9a9cac4aa4e72ec193"),
    (7, "4c8c626dedf106bb6f9291f0beb015b509d917e6a1e508b6d100a33026e82c03"),
    (1.5, "586bae06ef42a1345d4cbfed655a2cf83fe61b70679d89235f309b4134ed4d16"),
    ("é", "e87d8df053e65b4ea693a4182dcc9124ff8f22e691a6b4796945fa00a51d2cf6"),
    ({}, "7f9c13873fbad40c0d9ec0ce58b651d97765616d037d4b483d358271bcfb67a3"),
    ({"a": [1, None], "b": ()}, "ab92c28766dc59b3daaa0bc3027bf846b80038f31700617153d8da6affb334de"),
    (torch.tensor([1.0, -2.0]), "4eeec8aada6f1accd38758555fe20d0e6c020117988151d311c155b482b1b83a"),
    (torch.tensor(True), "bca693c3c9c57776f6565221dc210def6dbfa54b399e7cd6ee1320cb584c7e38"),
    (torch.zeros(0, 3, dtype=torch.bfloat16), "d70b32a74aff36c7eb0b0cb1f4a773ef3c8c220d6f57e302509b20425b5de148"),
    (
        torch.tensor([5, 6], dtype=torch.uint8).expand(1000, 2),
        "8743b7b1a80b582ee5f28a48d5effd3baf98bba4060f11a1b49eb11db298b3d1",
    ),
]


@pytest.mark.parametrize(("value", "digest"), GOLDEN, ids=[repr(value)[:30] for value, _ in GOLDEN])
def test_digests_are_what_they_were_when_the_format_was_made(value, digest):
    assert digest_of(value) == digest


def test_the_digest_is_that_of_bytes_which_one_can_write_down_by_hand():
    state = {"lr": 0.1, "model": {"w": torch.tensor([[1, -1]], dtype=torch.int16)}, "seen": (None, True, -3, "x;")}

    digest = digest_of(state)

    parts = [
        b"d3;",
        b"s2;lr" + b"f" + struct.pack("<d", 0.1),
        b"s5;model" + b"d1;" + b"s1;w" + b"ttorch.int16[1, 2];" + b"\x01\x00\xff\xff",
        b"s4;seen" + b"u4;" + b"n" + b"b1" + b"i-3;" + b"s2;x;",
    ]
    assert digest == sha256(b"".join(parts))


# --- the digest: what makes no difference ------------------------------------------------------------------------


def layouts_of(tensor):
    """The same elements of a matrix, elsewhere and otherwise in memory."""
    rows, columns = tensor.shape
    larger = torch.zeros(3 * rows, 2 * columns, dtype=tensor.dtype)
    larger[1 : 1 + rows, ::2] = tensor
    return {
        "itself": tensor,
        "a copy": tensor.clone(),
        "column by column": tensor.t().contiguous().t(),
        "a view into a larger one": larger[1 : 1 + rows, ::2],
        "a later part of a storage": torch.cat([tensor, tensor])[rows:],
        "a parameter": nn.Parameter(tensor, requires_grad=tensor.is_floating_point()),
        "detached": tensor.detach(),
        "conjugated twice, once only marked": tensor.resolve_conj().conj().resolve_conj().conj(),
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_content_has_one_digest_however_it_lies_in_memory(dtype):
    tensor = torch.arange(12).reshape(3, 4).to(dtype)

    digests = {layout: digest_of(other) for layout, other in layouts_of(tensor).items()}

    assert set(digests.values()) == {sha256(f"t{dtype}[3, 4];".encode() + bytes(tensor.view(torch.uint8).ravel()))}


def test_a_tensor_that_is_marked_as_conjugated_counts_as_what_it_shows():
    numbers = torch.tensor([1 + 2j, 3 - 4j])

    assert digest_of(numbers.conj()) == digest_of(torch.tensor([1 - 2j, 3 + 4j]))
    assert digest_of(numbers.conj().imag) == digest_of(torch.tensor([-2.0, 4.0]))
    assert digest_of(numbers.conj()) != digest_of(numbers)


def test_tensors_in_one_storage_count_as_if_each_had_its_own():
    both = torch.arange(6.0)

    assert digest_of([both[:3], both[3:]]) == digest_of([torch.arange(3.0), torch.arange(3.0, 6.0)])


def test_a_part_that_is_in_the_data_twice_counts_as_two_equal_ones():
    part = {"w": torch.ones(2)}

    assert digest_of([part, part]) == digest_of([part, {"w": torch.ones(2)}])


def test_ordered_and_counting_dicts_count_as_dicts():
    assert digest_of(OrderedDict(a=1, b=2)) == digest_of(Counter({"a": 1, "b": 2})) == digest_of({"a": 1, "b": 2})


def test_taking_a_digest_changes_nothing():
    tensor = torch.arange(6.0).reshape(2, 3).t()
    state = {"w": nn.Parameter(tensor), "x": [1, (2.0, "3")]}
    before = repr(state)

    digests = {digest_of(state) for _ in range(3)}

    assert len(digests) == 1
    assert repr(state) == before
    assert state["w"].stride() == (1, 3)
    assert state["w"].requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("expanded", [False, True])
def test_a_tensor_on_a_gpu_has_the_digest_of_that_on_the_cpu(expanded):
    tensor = torch.arange(4.0)

    there = tensor.to("cuda")

    shape = (10**6, 10**6, 4) if expanded else (4,)
    assert digest_of(there.expand(shape)) == digest_of(tensor.expand(shape))


# --- the digest: what makes one ----------------------------------------------------------------------------------


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


NAN_WITH_A_NOTE = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
TWO = torch.tensor([1.0, 2.0])
DIFFERENT = {
    "nothing, truth, numbers and texts": [
        *[None, False, True, 0, 1, -1, 0.0, -0.0, 1.0, "", "0", "1", "None", "True", "1.0", 2**53, float(2**53)],
        *[2**64, -(2**64), 10, 11, 1e-320, 0.1, 0.1 + 2**-56, float("inf"), -float("inf"), float("nan"), -float("nan")],
        *[NAN_WITH_A_NOTE, "é", "e\u0301", "\ud800", "\0", "\0\0", "a", "A", "n", "b1", "i1;"],
    ],
    "containers": [
        *[
            [],
            (),
            {},
            [[]],
            [()],
            ([],),
            ((),),
            [{}],
            [[], []],
            [[[]]],
            {"": {}},
            {"": []},
            {"": None},
            [None],
            (None,),
        ],
        *[[None, None], [1, [2, 3]], [[1, 2], 3], [1, 2, 3], (1, 2, 3), [1, (2, 3)], [3, 2, 1], ["1", 2, 3], "123"],
        *[["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], ["s1;a"], ["a"], [["a"]]],
    ],
    "dicts": [
        *[{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": None}, {"a": 1, "b": None}, {"a": 1, "b": {}}],
        *[{"b": None, "a": 1}, {"b": 1}, {1: "a"}, {"1": "a"}, {True: "a"}, {1.0: "a"}, {None: "a"}, {(): "a"}],
        *[{"a": {"b": 1}}, {"a": {}, "b": 1}, ["a", 1], [["a", 1]], [("a", 1)], {"a": 1, "b": 2}, {"a": 2, "b": 1}],
    ],
    "types of the same bytes": [
        *[zeros(16 // dtype.itemsize, dtype=dtype) for dtype in DTYPES],
        *[zeros(16, dtype=dtype) for dtype in DTYPES if dtype.itemsize > 1],
    ],
    "shapes of the same bytes": [
        *[zeros(*shape) for shape in [(6,), (6, 1), (1, 6), (2, 3), (3, 2), (1, 2, 3), (1, 1, 6), (), (1,), (1, 1)]],
        *[zeros(*shape) for shape in [(0,), (0, 1), (1, 0), (0, 0), (0, 3), (3, 0)]],
        *[zeros(*shape, dtype=torch.bool) for shape in [(), (0,), (1,)]],
    ],
    "values": [
        *[torch.tensor(value) for value in [0.0, -0.0, 1.0, float("nan"), -float("nan"), float("inf"), 0, 1, True]],
        *[torch.tensor([value]) for value in [0.0, -0.0, 1.0, 1e-45, 0, 1, True, 0j, -0j, 1j, complex(0.0, -0.0)]],
        *[TWO, TWO.flip(0), TWO.reshape(1, 2), TWO.half(), TWO.bfloat16(), TWO.double(), [1.0, 2.0], [TWO], (TWO,)],
        *[[TWO, TWO], [zeros(2), TWO], [TWO, zeros(2)], [torch.cat([TWO, zeros(2)])], {"w": TWO}, {"v": TWO}],
        *[{"w": TWO, "v": zeros(2)}, {"v": zeros(2), "w": TWO}, {"v": TWO, "w": zeros(2)}, 0.0, 0, True, [0.0], None],
    ],
    "expanded tensors": [
        *[TWO[:1].expand(9), TWO[1:].expand(9), TWO[:1].expand(10), TWO[:1].clone().expand(9), TWO.expand(9, 2)],
        *[TWO.expand(2, 9, 2), TWO[:1].expand(3, 3), TWO.view(2, 1).expand(2, 9), TWO.flip(0).expand(9, 2)],
        *[TWO.double().expand(9, 2), TWO.view(torch.int32).expand(9, 2), torch.ones(9), torch.tensor([1.0]).expand(8)],
    ],
}


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_has_another_digest(values):
    digests = [digest_of(value) for value in values]

    pairs = itertools.combinations(zip(values, digests, strict=True), 2)
    assert [(one, other) for (one, digest), (other, its_digest) in pairs if digest == its_digest] == []


def exactly(value):
    """A text for which all that differs differs, made by other means than the digest."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}{value.tolist()}"
    if isinstance(value, dict):
        return f"dict({[(exactly(key), exactly(item)) for key, item in value.items()]})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({[exactly(item) for item in value]})"
    return f"{type(value).__name__}({value!r})"


@settings(repeatable, max_examples=60)
@given(st.lists(plain_values, min_size=20, max_size=40))
def test_digests_are_equal_where_the_values_are_and_nowhere_else(values):
    by_value, by_digest = {}, {}

    for number, value in enumerate(values):
        by_value.setdefault(exactly(value), []).append(number)
        by_digest.setdefault(digest_of(value), []).append(number)

    assert list(by_value.values()) == list(by_digest.values())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_bit_of_a_tensor_counts(dtype):
    content = (
        torch.arange(2 * dtype.itemsize, dtype=torch.uint8) if dtype != torch.bool else zeros(2, dtype=torch.uint8)
    )
    bits = [0] if dtype == torch.bool else range(8)  # a bool has one

    digests = {digest_of(content.view(dtype))}
    for byte, bit in itertools.product(range(len(content)), bits):
        flipped = content.clone()
        flipped[byte] ^= 1 << bit
        digests.add(digest_of(flipped.view(dtype)))

    assert len(digests) == 1 + len(content) * len(bits)


# --- the digest: what it costs, and what has none ----------------------------------------------------------------


@pytest.mark.parametrize("mark", ["as it is", "conjugated"])
def test_an_expanded_tensor_is_not_unfolded(mark):
    # Unfolded it would take 8 TB.
    tensor = torch.tensor([1 + 2j, 3 + 4j]).expand(10**6, 10**6 // 2, 2)
    if mark == "conjugated":
        tensor = tensor.conj()

    again = reopened(tensor)

    assert digest_of(again) == digest_of(tensor)
    assert digest_of(tensor) != digest_of(tensor.conj())


@pytest.mark.parametrize("thing", [{1, 2}, b"x", 1j, Path("x"), {"a": [np.float32(1)]}, torch.float32, object()])
def test_what_is_not_plain_has_no_digest(thing):
    with pytest.raises(TypeError, match="has no digest"):
        digest_of(thing)
