"""What a config can say about any loader is what the loader takes, and only options that change no result are free."""

import inspect

import pytest

from base.base_data_loader import BaseDataLoader
from base.loader_options import HARMLESS_OPTIONS, WORKER_OPTIONS, LoaderOptions
from data_loader.data_loaders import ImageFolderDataLoader
from parse_config import FREE_ON_RESUME
from tests.test_base_data_loader import Loader, Samples, equal
from utils.errors import ConfigError

GIVEN = {"self", "dataset", "eval_dataset", "validation_dataset", "evaluation"}


def test_the_options_are_the_arguments_of_every_loader_but_those_that_the_program_gives():
    parameters = inspect.signature(BaseDataLoader.__init__).parameters

    assert set(parameters) - GIVEN == set(LoaderOptions.__annotations__)


def test_each_worker_option_is_an_option_that_may_differ_in_a_continued_run():
    assert set(WORKER_OPTIONS) <= set(LoaderOptions.__annotations__)
    assert set(HARMLESS_OPTIONS) - set(WORKER_OPTIONS) <= set(inspect.signature(ImageFolderDataLoader).parameters)
    assert {f"data_loader.args.{name}" for name in HARMLESS_OPTIONS} <= set(FREE_ON_RESUME)


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 1, "prefetch_factor": 1},
        {"num_workers": 2, "prefetch_factor": 5},
        {"num_workers": 1, "multiprocessing_context": "fork"},
        {"num_workers": 1, "loader_timeout": 30.0},
        {"loader_timeout": 0.001},  # without workers nothing is waited for
        {"pin_memory": True},
    ],
)
def test_a_worker_option_changes_no_batch(options):
    assert equal(list(Loader(Samples(noise=0.5), **options)), list(Loader(Samples(noise=0.5))))


def test_every_worker_option_reaches_torch_and_the_loader_of_validation():
    options = {
        "num_workers": 2,
        "persistent_workers": True,
        "prefetch_factor": 3,
        "multiprocessing_context": "forkserver",
        "loader_timeout": 12.5,
    }
    loader = Loader(validation_split=5, **options)

    for one in (loader, loader.split_validation()):
        assert (one.num_workers, one.prefetch_factor, one.persistent_workers, one.timeout) == (2, 3, True, 12.5)
        assert one.multiprocessing_context.get_start_method() == "forkserver"
    assert set(loader.worker_options) == {*WORKER_OPTIONS, "collate_fn"}


@pytest.mark.parametrize(
    ("name", "value"), [("persistent_workers", True), ("prefetch_factor", 2), ("multiprocessing_context", "spawn")]
)
def test_what_would_be_ignored_without_workers_is_refused(name, value):
    with pytest.raises(ConfigError) as caught:
        Loader(**{name: value})

    assert (caught.value.path, caught.value.message) == (f"data_loader.args.{name}", "needs num_workers above 0")
