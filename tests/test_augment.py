"""Batch transforms in training: by key, in their order, on the device, and the same in a run that is continued."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train
from base.base_batch_transform import BatchTransform, KeyedBatch
from data_loader.batch_transforms import RandomCrop, RandomErasing, RandomHorizontalFlip
from data_loader.data_loaders import ImageFolderDataLoader
from data_loader.mixing import CutMix, MixUp
from data_loader.samplers import RandomSampler
from tests.test_trainer import MEAN, SEED, STD, Loader, make, perceptron
from tools import replay
from trainer.augment import Augmentation, shares_of_classes
from trainer.finite import FiniteGuard
from trainer.pixels import PixelsToInput
from trainer.trainer import Trainer
from utils.checkpoint import load_checkpoint
from utils.draws import draws_for, key_array
from utils.errors import ConfigError, DataError
from utils.stop import RunStopped

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]
CPU = torch.device("cpu")
# Each image by itself, and all of them with mixing at the end.
ALONE = [
    {"type": "RandomCrop", "args": {"size": None, "padding": 2, "padding_mode": "reflect"}},
    {"type": "RandomHorizontalFlip", "args": {"alternating": True}},
    "RandomErasing",
]
ALL = [*ALONE[:2], {"type": "CutMix", "args": {"p": 0.5}}, *ALONE[2:], {"type": "MixUp", "args": {"alpha": 0.4}}]


def alone() -> list[BatchTransform]:
    return [RandomCrop(None, padding=1), RandomHorizontalFlip(), RandomErasing(p=0.7)]


def mixing() -> list[BatchTransform]:
    return [*alone(), CutMix(), MixUp(p=0.6)]


def augmentation(transforms, *, num_classes=3, layout=torch.contiguous_format, seed=SEED):
    return Augmentation(PixelsToInput(MEAN, STD, CPU, layout), transforms, seed, num_classes)


def batch_of(num_images=6, first=0, *, epoch=2):
    images = torch.randint(256, (20, 3, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    keys = key_array([(epoch, index) for index in range(first, first + num_images)])
    chosen = slice(first, first + num_images)
    return KeyedBatch((images[chosen], (torch.arange(20) % 3)[chosen]), keys)


def epochs_of(loader, *epochs):
    """All inputs and targets of some epochs, by (epoch, index)."""
    augment, found = Augmentation(PixelsToInput(MEAN, STD, CPU), loader.batch_transform, loader.seed, 3), {}
    for epoch in epochs:
        loader.set_epoch(epoch)
        for batch in loader:
            planned = augment.plan(batch)
            for key, image, target in zip(batch.keys_N3.tolist(), planned.inputs(), planned.targets, strict=True):
                found[tuple(key)] = (image, target)
    return found


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(a, b) for key in first for a, b in zip(first[key], second[key], strict=True))


# --- order and arithmetic -----------------------------------------------------------------------------------------


def test_without_transforms_a_batch_is_what_the_loader_gave():
    images, targets = batch_of()

    planned = augmentation([]).plan((images, targets))  # without keys too

    assert torch.equal(planned.inputs(), PixelsToInput(MEAN, STD, CPU)(images))
    assert planned.targets is planned.classes_N is targets


def test_transforms_follow_each_other_with_draws_of_their_own_and_normalising_where_it_belongs():
    batch, to_input = batch_of(), PixelsToInput(MEAN, STD, CPU)
    transforms = [RandomCrop(4, padding=1), RandomHorizontalFlip(), RandomHorizontalFlip(), MixUp(), CutMix()]

    planned = augmentation(transforms).plan(batch)

    images, targets_NK, shape = batch[0], torch.eye(3)[batch[1]], (3, 6, 6)
    for transform, draws in zip(transforms, draws_for(SEED, batch.keys_N3, 5), strict=True):
        rows = torch.from_numpy(transform.draw(draws, shape).astype(np.float32))
        shape = (3, 4, 4)
        images = to_input(images) if isinstance(transform, MixUp) else images
        images, targets_NK = transform.apply(images, rows), transform.mix(targets_NK, rows)
    assert torch.equal(planned.inputs(), images)
    assert torch.equal(planned.targets, targets_NK)
    assert torch.equal(planned.classes_N, targets_NK.argmax(1))
    assert torch.allclose(planned.targets.sum(1), torch.ones(6))
    assert torch.equal(planned.inputs(), planned.inputs())


def test_the_larger_share_is_the_class_that_metrics_judge():
    class Third(MixUp):
        def draw(self, draws, shape_CHW):
            return np.array([[0.3, 0.7, 1.0]])

    planned = augmentation([Third()]).plan(batch_of(3))  # of the classes 0, 1, 2

    assert torch.allclose(planned.targets, torch.tensor([[0.3, 0, 0.7], [0.3, 0.7, 0], [0, 0, 1]]))
    assert planned.classes_N.tolist() == [2, 1, 2]


def test_floats_are_augmented_as_they_are_and_not_normalised():
    images, targets = batch_of()
    floats = KeyedBatch((images.double() / 255, targets), batch_of().keys_N3)

    inputs = augmentation([RandomHorizontalFlip(1.0), RandomErasing(p=0.0)]).plan(floats).inputs()

    assert inputs.dtype == torch.float32
    assert torch.equal(inputs, (images.double() / 255).float().flip(3))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("as_floats", [False, True])
@pytest.mark.parametrize("transforms", [[], alone(), mixing(), [*mixing(), *alone()]], ids=len)
def test_inputs_lie_in_memory_as_the_network_asks(transforms, as_floats, layout):
    images, targets = batch_of()
    images = images.float().contiguous(memory_format=layout) if as_floats else images

    inputs = augmentation(transforms, layout=layout).plan(KeyedBatch((images, targets), batch_of().keys_N3)).inputs()

    assert inputs.is_contiguous(memory_format=layout)
    assert inputs.dtype == torch.float32
    usual = augmentation(transforms).plan(KeyedBatch((images, targets), batch_of().keys_N3)).inputs()
    assert torch.equal(inputs, usual)


def test_targets_that_are_shares_already_are_mixed_too():
    targets_NK = torch.tensor([[0.5, 0.5], [0.0, 1.0]])

    assert torch.equal(shares_of_classes(targets_NK, 2), targets_NK)
    assert torch.equal(shares_of_classes(torch.tensor([1, 0]), 3), torch.tensor([[0.0, 1, 0], [1, 0, 0]]))


# --- by key -------------------------------------------------------------------------------------------------------


def test_an_image_comes_out_the_same_in_batches_of_any_size():
    whole = augmentation(alone()).plan(batch_of(12)).inputs()
    parts = [augmentation(alone()).plan(batch_of(size, first)).inputs() for first, size in ((0, 5), (5, 1), (6, 6))]

    assert torch.equal(whole, torch.cat(parts))


def test_other_epochs_and_other_seeds_give_other_images():
    images = augmentation(alone()).plan(batch_of()).inputs()

    assert not torch.equal(images, augmentation(alone()).plan(batch_of(epoch=3)).inputs())
    assert not torch.equal(images, augmentation(alone(), seed=SEED + 1).plan(batch_of()).inputs())


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_change_nothing_in_any_epoch(persistent):
    expected = epochs_of(Loader(batch_transform=mixing()), 0, 1, 2)
    worked = Loader(batch_transform=mixing(), num_workers=2, persistent_workers=persistent, prefetch_factor=3)

    try:
        assert_equal(epochs_of(worked, 0, 1, 2), expected)
    finally:
        worked.close()
    assert len(expected) == 90


def test_keys_are_those_of_the_batch_when_an_epoch_is_entered_in_its_middle():
    loader = Loader(batch_transform=alone(), num_workers=1)
    loader.set_epoch(1)
    whole = [(batch.keys_N3.tolist(), batch[0][:, 0, 0, 0].tolist()) for batch in loader]
    loader.set_epoch(1, 2)
    loader.names_of_batch(0, 1)
    loader.set_epoch(1, 2)

    rest = [(batch.keys_N3.tolist(), batch[0][:, 0, 0, 0].tolist()) for batch in loader]

    assert rest == whole[2:]
    assert all([key[1] for key in keys] == numbers for keys, numbers in whole)


def test_a_sample_that_comes_twice_in_an_epoch_has_draws_of_its_own_each_time():
    keys = list(epochs_of(Loader(batch_transform=alone(), sampler=RandomSampler(replacement=True)), 0))

    assert len(set(keys)) == len(keys) == 30
    assert {key[2] for key in keys} > {0}


def test_only_training_sees_them():
    loader = Loader(batch_transform=mixing(), validation_split=0.2)
    valid = loader.split_validation()

    assert valid.batch_transform == []
    assert all(not isinstance(batch, KeyedBatch) for batch in valid)
    assert all(isinstance(batch, KeyedBatch) for batch in loader)
    assert all(not isinstance(batch, KeyedBatch) for batch in Loader())


def test_a_test_does_not_see_them(shapes_dir: Path) -> None:
    options: dict[str, Any] = {"transform": [], "eval_transform": [], "batch_transform": mixing()}
    loader = ImageFolderDataLoader(shapes_dir, training=False, **options)

    assert loader.batch_transform == []
    assert not any(isinstance(batch, KeyedBatch) for batch in loader)


# --- the trainer --------------------------------------------------------------------------------------------------


def test_a_step_is_that_of_a_plain_loop_on_the_augmented_batches():
    loader, model = Loader(batch_transform=mixing(), batch_size=10), perceptron()
    trainer = make(model, loader, accumulate_steps=2, epochs=1)
    expected, augment = perceptron(), augmentation(mixing())
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)

    scores = trainer._train_epoch(1)

    plain = Loader(batch_transform=mixing(), batch_size=10)
    plain.set_epoch(0)
    planned = [augment.plan(batch) for batch in plain]
    losses, right = [], 0
    for group in (planned[:2], planned[2:]):
        inputs, targets = torch.cat([one.inputs() for one in group]), torch.cat([one.targets for one in group])
        logits = expected(inputs)
        loss_N = -(targets * logits.log_softmax(1)).sum(1)
        optimizer.zero_grad()
        loss_N.mean().backward()
        optimizer.step()
        losses.append(loss_N.detach())
        right += int((logits.argmax(1) == torch.cat([one.classes_N for one in group])).sum())
    for name, value in model.state_dict().items():
        assert torch.allclose(value, expected.state_dict()[name], atol=1e-6), name
    assert scores["loss"] == pytest.approx(float(torch.cat(losses).mean()), abs=1e-5)
    assert scores["accuracy"] == pytest.approx(right / 30)


# --- errors -------------------------------------------------------------------------------------------------------


class Wrong(BatchTransform):
    """Does what it is told."""

    def __init__(self, rows=None, change=None):
        self.rows, self.change = rows, change

    def draw(self, draws, shape_CHW):
        return np.zeros((1, len(draws.keys_N3))) if self.rows is None else self.rows

    def apply(self, images_NCHW, drawn_RN):
        return self.change(images_NCHW)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Wrong(rows=np.zeros(6)), r"draw must give \(rows, 6\) numbers, gave \(6,\)"),
        (Wrong(change=lambda images: images[:2]), r"\(6, 3, 6, 6\) of uint8 became \(2, 3, 6, 6\) of uint8"),
        (Wrong(change=lambda images: images[0]), r"became \(3, 6, 6\) of uint8"),
        (Wrong(change=lambda images: images / 255), "of uint8 became .* of float32; as many of the same type"),
        (RandomCrop(7), "RandomCrop says: images of 6x6 with a padding of 0 are smaller than the window of 7x7"),
    ],
)
def test_a_transform_that_does_what_it_must_not_is_named_by_its_place(wrong, message):
    with pytest.raises(ConfigError, match=message) as raised:
        augmentation([RandomHorizontalFlip(), wrong]).plan(batch_of()).inputs()

    assert raised.value.path == "data_loader.args.batch_transform.1"


def test_what_ones_own_code_raises_keeps_its_traceback_and_gets_a_note():
    def broken(images):
        return images.nothing

    with pytest.raises(AttributeError) as raised:
        augmentation([Wrong(change=broken)]).plan(batch_of()).inputs()

    assert raised.value.__notes__ == ["This came of data_loader.args.batch_transform.0 'Wrong'"]


@pytest.mark.parametrize("keys", [None, key_array([(0, 1)])])
def test_batches_that_are_not_the_loaders_are_refused(keys):
    images, targets = batch_of()
    batch = (images, targets) if keys is None else KeyedBatch((images, targets), keys)

    with pytest.raises(ConfigError, match=r"6 images came with (no|1) keys: batches must be those of the loader"):
        augmentation(alone()).plan(batch)


# --- from a config ------------------------------------------------------------------------------------------------


@pytest.fixture
def config(small_config: Config) -> dict[str, Any]:
    config = small_config()
    config["data_loader"]["args"] |= {"transform": ["RandomHorizontalFlip"], "batch_transform": ALL}
    config["trainer"] |= {"keep_checkpoints": None, "epochs": 2}
    return config


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    done = Trainer._step_done

    def stop(self: Trainer) -> None:
        if self.steps_done == step:
            self.stop.signal_name = "SIGTERM"
        done(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step_done", stop)
        with pytest.raises(RunStopped):
            train.main(words)


@pytest.mark.parametrize(
    ("of_trainer", "step"),
    [({}, 1), ({}, 10), ({"accumulate_steps": 3}, 2), ({"len_epoch": 5}, 8)],
    ids=["first", "second epoch", "accumulate", "len_epoch"],
)
def test_a_run_that_is_stopped_within_an_epoch_ends_as_one_that_was_not(
    config: dict[str, Any],
    config_file: ConfigFile,
    monkeypatch: pytest.MonkeyPatch,
    of_trainer: dict[str, int],
    step: int,
) -> None:
    config["trainer"] |= of_trainer
    path = str(config_file(config))
    whole: Any = train.main(["-c", path])
    last = str(Path(config["trainer"]["save_dir"]) / "models" / "last.pth")

    stopped_at(step, monkeypatch, ["-c", path])
    state = load_checkpoint(Path(last))
    continued: Any = train.main(["-r", last, "data_loader.args.num_workers=1"])

    assert state["steps_done"] == step
    assert state["progress"]["batches_done"] > 0
    assert continued.steps_done == whole.steps_done == 2 * whole.steps_per_epoch
    assert continued.digests() == whole.digests()


def test_a_run_without_batch_transforms_is_another_one(config: dict[str, Any], config_file: ConfigFile) -> None:
    config["trainer"]["epochs"] = 1
    path = str(config_file(config))
    digests = [
        train.main(["-c", path, *words]).digests()  # type: ignore[union-attr]
        for words in ([], ["data_loader.args.batch_transform=null"], ["data_loader.args.batch_transform=[]"])
    ]

    assert digests[0]["model"] != digests[1]["model"]
    assert digests[1] == digests[2]


def test_a_replayed_step_has_the_bits_of_the_run(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, look = {}, FiniteGuard.look

    def noted(guard: Any, losses: Any, norm: Any, facts: Any) -> None:
        seen[facts["step"]] = ([float(loss.detach()) for loss in losses], float(norm))
        look(guard, losses, norm, facts)

    with monkeypatch.context() as patch:
        patch.setattr(FiniteGuard, "look", noted)
        run: Any = train.main(["-c", str(config_file(config))])

    found = replay.main(["-r", str(run.models_dir / "checkpoint-epoch1.pth"), "--step", "11"])

    losses, norm = seen[11]
    assert found["loss"] == f"{losses[0]:.17g}"
    assert found["gradient"] == f"norm {norm:.17g}"


def test_a_check_tries_them_and_keeps_nothing(
    config: dict[str, Any], config_file: ConfigFile, capsys: pytest.CaptureFixture
) -> None:
    config["data_loader"]["args"]["batch_transform"][0]["args"]["size"] = 12
    path = str(config_file(config))

    assert train.main(["-c", path, "--check"]) is None

    assert capsys.readouterr().out.endswith("this config trains; nothing was kept\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data_loader.args.batch_transform.0.args.size=30"], r"batch_transform\.0: RandomCrop says: images of 16x16"),
        (["data_loader.args.batch_transform.1=ColorJitter"], "'ColorJitter' is not a batch transform"),
        (["data_loader.args.batch_transform.1=Normalize"], "mean and std do that with every batch"),
        (["data_loader.args.batch_transform.1.args.p=0.3"], r"RandomHorizontalFlip says: alternating .* got 0\.3"),
        (["data_loader.args.batch_transform.1.args.p=2"], r"args\.p=2: should be less than or equal to 1, got 2"),
        (["data_loader.args.batch_transform.4.args.alpha=0"], r"args\.alpha=0: should be greater than 0"),
        (["data_loader.args.batch_transform=RandomErasing"], "expected a list"),
        (["data_loader.args.transform=[\"MixUp\"]"], "put it into batch_transform"),
        (["loss=MultiMarginLoss"], "MultiMarginLoss cannot judge mixed targets .*; cross_entropy can"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_before_a_folder_is_made(
    config: dict[str, Any], config_file: ConfigFile, tmp_path: Path, changes: list[str], message: str
) -> None:
    path = str(config_file(config))

    with pytest.raises((ConfigError, DataError), match=message):
        train.main(["-c", path, *changes])

    assert not (tmp_path / "saved").exists()


def test_losses_of_class_indices_and_all_metrics_work_without_mixing(
    config: dict[str, Any], config_file: ConfigFile
) -> None:
    config["data_loader"]["args"]["batch_transform"] = ALONE
    config |= {"loss": "MultiMarginLoss", "metrics": ["accuracy", "top_k_acc"]}
    config["trainer"]["epochs"] = 1

    assert train.main(["-c", str(config_file(config))]) is not None


def test_the_first_batch_is_shown_as_the_network_got_it():
    got, loader = [], Loader(batch_transform=mixing())
    trainer = make(perceptron(), loader)
    trainer.network.register_forward_pre_hook(lambda module, inputs: got.append(inputs[0].detach().clone()))

    trainer._train_epoch(1)

    (_, images, targets), network_input = trainer.recorder.shown[0], got[0]
    assert images.dtype == torch.uint8
    assert np.shape(targets) == (len(network_input), 3)
    back = PixelsToInput(MEAN, STD, CPU)(images)
    half_a_level = 0.5 / 255 / min(STD)
    inside = (network_input == network_input.clamp(back.min(), back.max())).float().mean()
    assert inside > 0.9  # what erasing fills in may be no colour
    assert ((back - network_input).abs()[(images > 0) & (images < 255)] <= 1.01 * half_a_level).all()


@pytest.mark.parametrize("transforms", [[], [CutMix()], [MixUp(alpha=0.4)]])
def test_training_metrics_are_of_true_classes_whatever_the_loss_is_given(transforms):
    """With soft targets, whether by mixing or by smoothing, a metric is asked about class indices."""
    smooth = torch.nn.CrossEntropyLoss(label_smoothing=0.3)
    trainer = make(perceptron(), Loader(batch_transform=transforms), criterion=smooth)
    asked, right, count = [], 0, 0
    metrics = trainer.learner.train_metrics
    update = metrics.update
    metrics.update = lambda logits_NK, classes_N: (asked.append((logits_NK, classes_N)), update(logits_NK, classes_N))

    scores = trainer._train_epoch(1)

    for position, (logits_NK, classes_N) in enumerate(asked):
        batch = trainer_batch(trainer, position)
        images, labels = batch
        assert classes_N.dtype == torch.int64
        assert classes_N.shape == labels.shape
        if transforms:  # of two images the one that has more of the picture
            planned = trainer.augmentation.plan(batch)
            shares = planned.targets.gather(1, classes_N[:, None]).squeeze(1)
            assert (shares >= 0.5).all()
        else:
            assert torch.equal(classes_N, labels)
        right += int((logits_NK.argmax(1) == classes_N).sum())
        count += len(images)
    assert scores["accuracy"] == pytest.approx(right / count, abs=1e-12)


def trainer_batch(trainer, position):
    """A batch of the first epoch as its loader gives it."""
    trainer.train_loader.set_epoch(0)
    return list(trainer.train_loader)[position]
