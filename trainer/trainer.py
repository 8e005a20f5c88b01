"""One epoch and one step of training, whole and visible. The outer loop is base/base_trainer.py."""

import logging
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import torch

from base.base_trainer import BaseTrainer, Learner, RunContext, TrainerOptions
from base.scores import score_names
from logger.pictures import MAX_IMAGES
from logger.predictions import Predictions
from logger.progress import Progress
from logger.recorder import EpochRecord
from trainer.advice import Waiting, advice_on
from trainer.augment import augmentation_of
from trainer.closing import judged_again
from trainer.compute import MAX_SKIPS, Compute, network_for
from trainer.ema import Ema
from trainer.evaluate import Evaluation, MeanLoss, Observer, evaluate
from trainer.finite import FiniteGuard, gradient_norm, not_finite_in_words, unfinite_tensors
from trainer.lookahead import Lookahead
from trainer.micro_batches import BufferCopy, largest
from trainer.pixels import PixelsToInput
from trainer.prefetch import ahead
from trainer.views import seen
from utils.errors import CheckpointError, TrainingError, some
from utils.seed import global_rng_state, restore_global_rng, seed_step
from utils.stop import RunStopped

log = logging.getLogger("run")
Batch = tuple[torch.Tensor, torch.Tensor]


class Part(NamedTuple):
    """What came of a batch, or of a piece of one that did not fit into memory as a whole."""

    loss: torch.Tensor
    weight: int | torch.Tensor
    logits_NK: torch.Tensor
    classes_N: torch.Tensor


class Trainer(BaseTrainer):
    """Trains a classifier on batches of (images_NCHW, targets_N).

    To change how a batch becomes a loss, override `_loss`; to change what an epoch is, `_train_epoch`.

    Args:
        learner: model, criterion, metrics, optimizer, schedule.
        loaders: of the training images and, or None, of the validation images.
        options: the `trainer` section of the config.
        context: devices, seed, folders.
    """

    def __init__(self, learner: Learner, loaders: tuple[Any, Any | None], options: TrainerOptions, context: RunContext):
        self.train_loader, self.valid_loader = loaders
        super().__init__(
            learner, options, context, score_names(learner.train_metrics.names, has_validation=loaders[1] is not None)
        )
        self.len_epoch = options.len_epoch or len(self.train_loader)
        self.to_input = PixelsToInput(self.train_loader.mean, self.train_loader.std, self.device, context.layout)
        self.augmentation = augmentation_of(self.train_loader, self.to_input)
        model = learner.model.to(device=self.device, memory_format=context.layout)  # type: ignore[call-overload]
        self.network = network_for(model, context.devices, context.precision, options.compile)
        self.compute = Compute(self.device, context.precision)
        self.buffers_before = BufferCopy(model)
        self.parameters = list(model.parameters())  # to look for them takes longer than many an operation on them
        for part in (learner.criterion, learner.train_metrics, learner.valid_metrics):
            part.to(self.device)
        self.last_evaluation: Evaluation | None = None
        self.closing_remarks: list[str] = []
        self.said_at_last: Predictions | None = None  # what the best checkpoint says of the validation images
        self.batches_done = self.batches_before = 0  # of the running epoch; before: in another process
        self.batches_to_skip = 0  # of the epoch that is continued
        self.train_loss = MeanLoss(self.device)
        self.ema = Ema(model, options.ema) if options.ema is not None else None
        judged = self.network
        if self.ema is not None:
            judged = network_for(self.ema.averaged, context.devices, context.precision, options.compile)
        self.judged = seen(judged, options.test_time_views)
        self.lookahead = None
        if options.lookahead is not None:
            self.lookahead = Lookahead(model, options.lookahead, options.epochs * self.steps_per_epoch)
        skips = MAX_SKIPS if context.precision == "fp16" else 0
        self.guard = FiniteGuard(self.device, self._why_not_finite, skips_allowed=skips)
        self.never_finite = set(unfinite_tensors(model, learner.optimizer))  # such as a mask of infinities
        self.waiting = Waiting()
        self.epochs_here, self.is_advised = 0, False  # in this process

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self.network.train()
        metrics, loss = self.learner.train_metrics, self.train_loss
        self.waiting = Waiting()
        self.batches_done = self.batches_before = self.batches_to_skip
        self.batches_to_skip = 0
        if not self.batches_done:
            loss.reset()
            metrics.reset()
        progress = Progress(self.len_epoch - self.batches_done, f"epoch {epoch}/{self.options.epochs}")
        # Closed here, because the traceback of what ends an epoch early would keep the loader's workers alive.
        with closing(self._batches(epoch, self.batches_done)) as loaded, closing(ahead(loaded, self.device)) as batches:
            while group := list(islice(batches, self.options.accumulate_steps)):
                self._step(group, loss, metrics)
                self.batches_done += len(group)
                for _ in group:
                    progress.step(lambda: self._running(loss, progress))
                self._step_done()
                if self.steps_done == 1:
                    self._show_first(group[0])
        progress.close()
        self.guard.settle()
        self.waiting.end()
        self.epochs_here += 1
        return {"loss": loss.compute(), **metrics.compute()}

    def _step(self, group: list[Batch], loss_mean: MeanLoss, metrics: Any) -> None:
        """One step of the optimizer on the mean gradient over all images of the group, however its batches are cut."""
        learner = self.learner
        parts, norm = self._gradient(group, self.options.max_grad_norm)
        losses = []
        for loss, weight, logits_NK, classes_N in parts:
            # A batch of ignored targets only (weight 0) has a loss of NaN and a gradient of zeros.
            if isinstance(weight, torch.Tensor):
                losses.append(torch.where(weight > 0, loss, 0.0))
            else:
                losses.append(loss if weight else torch.zeros_like(loss))
            loss_mean.update(loss, weight)
            metrics.update(logits_NK, classes_N)
        self.guard.look(losses, norm, self._facts(len(group)))
        self.compute.step(learner.optimizer)
        learner.optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        if self.lookahead is not None:
            self.lookahead.step_done(self.steps_done)
        if self.ema is not None:
            self.ema.step_done(self.steps_done)
        learner.schedule.step_done()

    def _gradient(self, group: list[Batch], max_norm: float | None) -> tuple[list[Part], torch.Tensor]:
        """Leaves the gradient of a step at the weights; gives what came of its batches, and the gradient's norm."""
        self.buffers_before.keep()
        parts = self.compute.training.fitting(lambda: self._forward_and_back(group), largest(group), self._forget)
        self.compute.unscale(self.learner.optimizer)
        return parts, gradient_norm(self.parameters, max_norm)

    def _forward_and_back(self, group: list[Batch]) -> list[Part]:
        """Adds up the gradient of the mean loss over all images of the group."""
        criterion, parts = self.learner.criterion, []
        seed_step(self.context.seed, self.steps_done, self.device)
        planned = [self.augmentation.plan(batch) for batch in group]
        weights = [criterion.weight(batch.targets) for batch in planned]
        whole = sum(weights)
        whole = max(whole, 1) if isinstance(whole, int) else whole
        for batch, of_batch in zip(planned, weights, strict=True):
            pieces = list(self.compute.training.cut(batch.inputs(), batch.targets, batch.classes_N))
            for inputs, targets, classes_N in pieces:
                loss, logits_NK = self._loss(inputs, targets)
                weight = of_batch if len(pieces) == 1 else criterion.weight(targets)
                # The share of a piece that is alone is 1, and need not be multiplied by.
                shared = loss if len(planned) == len(pieces) == 1 else loss * (weight / whole)
                self.compute.scaler.scale(shared).backward()
                parts.append(Part(loss.detach(), weight, logits_NK.detach(), classes_N))
        return parts

    def _show_first(self, batch: Batch) -> None:
        """Draws the run's first batch as the network gets it; drawn anew, by the same chance as in its step."""
        before = global_rng_state(self.context.devices)
        seed_step(self.context.seed, 0, self.device)
        planned = self.augmentation.plan(batch)
        inputs = planned.inputs()[:MAX_IMAGES]
        images = self.to_input.pixels(inputs) if batch[0].dtype == torch.uint8 else inputs
        self.recorder.train_batch(images, planned.targets, self.train_loader.classes)
        restore_global_rng(before, self.context.devices)

    def _forget(self) -> None:
        """What a step that did not fit into memory leaves behind."""
        self.learner.optimizer.zero_grad(set_to_none=True)
        self.buffers_before.put_back()

    def _facts(self, num_batches: int) -> dict[str, Any]:
        """What `_why_not_finite` needs to know of the step that is running."""
        epoch = self.epochs_done + 1
        position = (epoch - 1) * self.len_epoch + self.batches_done
        lr = self.learner.optimizer.param_groups[0]["lr"]
        return {"step": self.steps_done + 1, "epoch": epoch, "lr": lr, "first": position, "num_batches": num_batches}

    def _names_of_step(self, facts: dict[str, Any]) -> list[str]:
        positions = range(facts["first"], facts["first"] + facts["num_batches"])
        of_pass = len(self.train_loader)
        return [name for at in positions for name in self.train_loader.names_of_batch(*divmod(at, of_pass))]

    def _why_not_finite(self, facts: dict[str, Any], what: str) -> str:
        return not_finite_in_words(facts, what, self._names_of_step(facts), self.checkpoints.last)

    def _require_finite(self) -> None:
        self.guard.settle()
        bad = set(unfinite_tensors(self.learner.model, self.learner.optimizer)) - self.never_finite
        if bad:
            raise TrainingError(
                f"after step {self.steps_done} (epoch {self.epochs_done + 1}): {some(sorted(bad), 3)} holds a number "
                f"that is not finite; this state is not saved"
            )

    def _loss(self, inputs_NCHW: torch.Tensor, targets_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean loss of a batch, and its logits_NK; with MixUp or CutMix the targets are shares (N, K)."""
        logits_NK = self.network(inputs_NCHW)
        return self.learner.criterion(logits_NK, targets_N), logits_NK

    def _valid_epoch(self, epoch: int) -> dict[str, float]:
        if self.valid_loader is None:
            return {}
        self.last_evaluation = self._evaluated(lambda logits_NK, targets_N: self._stop_if_asked())
        self.recorder.validation(epoch, self.last_evaluation, self.train_loader.classes)
        return self.last_evaluation.scores

    def _evaluated(self, observer: Observer) -> Evaluation:
        return evaluate(
            self.judged,
            self.valid_loader,
            self.learner.criterion,
            self.learner.valid_metrics,
            to_input=self.to_input,
            pieces=self.compute.evaluation,
            observer=observer,
        )

    def _judge_again(self) -> str:
        if self.valid_loader is None:
            return ""
        epoch, path = self.monitor.best_epoch, self.checkpoints.best
        if epoch is None or not path.exists():
            epoch, path = self.epochs_done, self.checkpoints.last
        model, row = self.stateful()["model"], self.recorder.history.last_row(epoch)
        said = Predictions(self.train_loader.classes)

        def observe(logits_NK: torch.Tensor, targets_N: torch.Tensor) -> None:
            self._end_if_asked()
            said.add(logits_NK, targets_N)

        again = judged_again(path, model, lambda: self._evaluated(observe), row, self.device)
        self.closing_remarks = again.remarks
        if again.evaluation is not None:
            self.last_evaluation, self.said_at_last = again.evaluation, said
            self.recorder.last_validation(again.evaluation, self.train_loader.classes)
        return again.words

    def _end_if_asked(self) -> None:
        if self.stop.reason is not None:
            raise RunStopped(self.stop.reason)

    def closing_warnings(self) -> list[str]:
        """On the last evaluation, which at the end of a run is that of the best checkpoint."""
        last = self.last_evaluation
        return self.closing_remarks + (last.warnings(self.train_loader.classes) if last is not None else [])

    def stateful(self) -> dict[str, Any]:
        """And how it is computed, as far as only the steps so far tell; and the other copy of the weights, if any.

        "model" is what is judged, and so what a test or another run takes out of a checkpoint: the average, where there
        is one.
        """
        parts = {**super().stateful(), "compute": self.compute}
        if self.lookahead is not None:
            parts["lookahead"] = self.lookahead
        if self.ema is not None:
            parts |= {"model": self.ema.averaged, "trained_model": self.learner.model}
        return parts

    def resume(self, state: Mapping[str, Any], changed: list[str] | None = None, *, has_new_data: bool = False) -> None:
        """As `BaseTrainer.resume`; how many images fit at once is found anew on another device.

        Raises:
            CheckpointError: an average is asked for that the checkpoint does not have; or as there.
        """
        before, now = (one.get("numerics", {}).get("device") for one in (state, self.context.passport))
        compute = state.get("compute", {}) if before == now else {}
        if self.ema is None and "trained_model" in state:  # trainer.ema was taken out of the config
            state = {**state, "model": state["trained_model"]}
        elif self.ema is not None and "trained_model" not in state:
            raise CheckpointError("trainer.ema: the checkpoint knows of no average; leave it out, or begin a new run")
        super().resume({**state, "compute": compute}, changed, has_new_data=has_new_data)

    def progress(self) -> dict[str, Any] | None:
        """How many batches of the epoch are done, and the sums of loss and metrics over them."""
        done = self.batches_done or self.batches_to_skip  # the latter before the epoch goes on
        if done == 0:
            return None
        sums = {"loss": self.train_loss.state_dict(), "metrics": self.learner.train_metrics.state_dict()}
        return {"batches_done": done, **sums}

    def load_progress(self, progress: dict[str, Any] | None) -> None:
        """Puts them back; None for none."""
        self.batches_done = 0
        if progress is not None:
            self.batches_to_skip = progress["batches_done"]
            self.train_loss.load_state_dict(progress["loss"])
            self.learner.train_metrics.load_state_dict(progress["metrics"])

    def _batches(self, epoch: int, batches_done: int = 0) -> Generator[Batch]:
        """`len_epoch` batches but those that are done: the images are gone through again and again, without a seam."""
        position, end = (epoch - 1) * self.len_epoch + batches_done, epoch * self.len_epoch
        while position < end:
            passes_done, in_pass = divmod(position, len(self.train_loader))
            self.train_loader.set_epoch(passes_done, in_pass)
            wanted = min(end - position, len(self.train_loader) - in_pass)
            batches = iter(self.train_loader)
            for number in range(wanted):
                asked_s = time.perf_counter()
                batch = next(batches)
                self.waiting.since(asked_s, is_first=number == 0)
                position += 1
                yield batch

    @property
    def steps_per_epoch(self) -> int:
        """A last group of fewer batches is a step too."""
        return -(-self.len_epoch // self.options.accumulate_steps)

    @property
    def images_trained(self) -> float:
        """In the last epoch, by this process; with `len_epoch` all batches count as full."""
        images = self.len_epoch * self.train_loader.images_per_batch
        if self.options.len_epoch is None:
            images = self.train_loader.num_samples
        return images * (1 - self.batches_before / self.len_epoch)

    def _running(self, loss: MeanLoss, progress: Progress) -> dict[str, Any]:
        images = progress.bar.n * self.train_loader.images_per_batch
        return {"loss": f"{loss.compute():.4g}", **self.waiting.running(images)}

    def _speed_remark(self) -> str:
        return f", {self.waiting.share:.0%} waiting for data"

    def _line(self, record: EpochRecord, best_before: float | None, *, improved: bool) -> str:
        line = super()._line(record, best_before, improved=improved)
        is_first = self.epochs_here == 1
        hint = None if self.is_advised else advice_on(self.waiting, self.train_loader, is_first_epoch=is_first)
        self.is_advised |= hint is not None
        return line if hint is None else f"{line}\nhint: {hint}"
