"""The loop of benchmarks/loop.py written for other libraries, each as its own documentation shows it.

All train the same network on the same finished floats for two epochs, with the accuracy over the training images and
with the bar and the logging that are their defaults. Their imports are late, since none is needed to train with ours.
"""

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measure import StepClock

BATCH_SIZE, LEARNING_RATE, EPOCHS, NUM_CLASSES = 64, 0.003, 2, 10


def network() -> nn.Sequential:
    """Tutorial 1's."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 1024), nn.Linear(1024, NUM_CLASSES))


def perceptron_config(data_dir: Path, folder: Path, optimizer: dict[str, Any], trainer: dict[str, Any]) -> Path:
    """A config of ours with the same network, on the MNIST files in a folder.

    Args:
        data_dir: where the files are.
        folder: receives the config, and what runs leave behind.
        optimizer: arguments of SGD.
        trainer: of the `trainer` section, besides its folder.
    """
    loader = {"data_dir": str(data_dir), "batch_size": BATCH_SIZE, "validation_split": 0, "download": False}
    settings = {
        "name": "benchmark",
        "n_gpu": 0,
        "arch": {"type": "MLP", "args": {"hidden_widths": [1024], "activation": "Identity"}},
        "data_loader": {"type": "MnistDataLoader", "args": loader},
        "optimizer": {"type": "SGD", "args": optimizer},
        "loss": "CrossEntropyLoss",
        "metrics": ["accuracy"],
        "lr_scheduler": None,
        "trainer": {"save_dir": str(folder / "saved"), **trainer},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def installed(package: str) -> str | None:
    """The version of a distribution, or None where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _loader(images: TensorDataset) -> DataLoader:
    return DataLoader(images, batch_size=BATCH_SIZE, shuffle=True)


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)


def lightning(images: TensorDataset, folder: Path, clock: StepClock) -> None:
    """A LightningModule that logs loss and accuracy to the bar."""
    import lightning
    from torchmetrics.classification import MulticlassAccuracy

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = clock.watch(network())
            self.accuracy = MulticlassAccuracy(NUM_CLASSES, average="micro")

        def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
            inputs_NCHW, targets_N = batch
            logits_NK = self.model(inputs_NCHW)
            loss = nn.functional.cross_entropy(logits_NK, targets_N)
            self.accuracy(logits_NK, targets_N)
            self.log("train_loss", loss, prog_bar=True)
            self.log("train_accuracy", self.accuracy, on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return _sgd(self.model)

    trainer = lightning.Trainer(max_epochs=EPOCHS, accelerator="cpu", default_root_dir=folder / "lightning")
    trainer.fit(Classifier(), _loader(images))


def ignite(images: TensorDataset, folder: Path, clock: StepClock) -> None:
    """A supervised trainer with an accuracy and a bar attached."""
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import ProgressBar
    from ignite.metrics import Accuracy

    model = clock.watch(network())
    trainer = create_supervised_trainer(
        model,
        _sgd(model),
        nn.CrossEntropyLoss(),
        output_transform=lambda x, y, y_pred, loss: {"loss": loss.item(), "y_pred": y_pred, "y": y},
    )
    Accuracy(output_transform=lambda output: (output["y_pred"], output["y"])).attach(trainer, "accuracy")
    ProgressBar().attach(trainer, output_transform=lambda output: {"loss": output["loss"]})
    trainer.run(_loader(images), max_epochs=EPOCHS)


def accelerate(images: TensorDataset, folder: Path, clock: StepClock) -> None:
    """A loop of one's own around `prepare` and `backward`, with torchmetrics and tqdm."""
    from accelerate import Accelerator
    from torchmetrics.classification import MulticlassAccuracy
    from tqdm import tqdm

    accelerator = Accelerator(cpu=True)
    model = clock.watch(network())
    model, optimizer, loader = accelerator.prepare(model, _sgd(model), _loader(images))
    accuracy = MulticlassAccuracy(NUM_CLASSES, average="micro")
    for _ in range(EPOCHS):
        for inputs_NCHW, targets_N in tqdm(loader):
            optimizer.zero_grad()
            logits_NK = model(inputs_NCHW)
            loss = nn.functional.cross_entropy(logits_NK, targets_N)
            accelerator.backward(loss)
            optimizer.step()
            accuracy.update(logits_NK, targets_N)
        accuracy.compute()
        accuracy.reset()


class _ForTransformers(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """A dictionary, as the library's own models give it."""
        logits_NK = self.model(pixel_values)
        return {"loss": nn.functional.cross_entropy(logits_NK, labels), "logits": logits_NK}


class _Named(torch.utils.data.Dataset):
    def __init__(self, images: TensorDataset):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        image_CHW, target = self.images[index]
        return {"pixel_values": image_CHW, "labels": target}


def transformers(images: TensorDataset, folder: Path, clock: StepClock) -> None:
    """Its Trainer, which knows no score over the training images."""
    from transformers import Trainer, TrainingArguments

    model = _ForTransformers(clock.watch(network()))
    arguments = TrainingArguments(
        output_dir=str(folder / "transformers"),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        use_cpu=True,
        lr_scheduler_type="constant",
    )
    Trainer(model, arguments, train_dataset=_Named(images), optimizers=(_sgd(model), None)).train()


def skorch(images: TensorDataset, folder: Path, clock: StepClock) -> None:
    """A classifier in the manner of scikit-learn, with a score over the training images and a bar."""
    from skorch import NeuralNetClassifier
    from skorch.callbacks import EpochScoring, ProgressBar

    inputs_NCHW, targets_N = images.tensors
    NeuralNetClassifier(
        clock.watch(network()),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__fused=True,
        lr=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_epochs=EPOCHS,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[EpochScoring("accuracy", lower_is_better=False, on_train=True), ProgressBar()],
    ).fit(inputs_NCHW.numpy(), targets_N.numpy())


def fastai(images: TensorDataset, folder: Path, clock: StepClock) -> None:
    """A Learner. It scores validation images only, so the accuracy here is a callback of its own kind."""
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader as FastaiLoader
    from fastai.learner import AvgMetric, Learner
    from fastai.metrics import accuracy
    from fastai.optimizer import OptimWrapper

    class TrainAccuracy(Callback):
        def before_epoch(self) -> None:
            self.mean = AvgMetric(accuracy)
            self.mean.reset()

        def after_batch(self) -> None:
            self.mean.accumulate(self.learn)

    loaders = DataLoaders(FastaiLoader(images, bs=BATCH_SIZE, shuffle=True, num_workers=0), [])
    learner = Learner(
        loaders,
        clock.watch(network()),
        loss_func=nn.CrossEntropyLoss(),
        opt_func=lambda params, lr: OptimWrapper(params, torch.optim.SGD, lr=lr, fused=True),
        cbs=[TrainAccuracy()],
        path=folder,
    )
    learner.fit(EPOCHS, LEARNING_RATE)


# The package whose version tells, and the way, by the name in the table.
PEERS: dict[str, tuple[str, Callable[[TensorDataset, Path, StepClock], None]]] = {
    "Lightning": ("lightning", lightning),
    "Ignite": ("pytorch-ignite", ignite),
    "Accelerate": ("accelerate", accelerate),
    "Transformers": ("transformers", transformers),
    "skorch": ("skorch", skorch),
    "fastai": ("fastai", fastai),
}
