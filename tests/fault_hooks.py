"""What goes wrong in a training process, on purpose. Each is called in that process before it trains."""

import io
import os
import signal
import time
from types import SimpleNamespace

import torch
from torch.utils.data import get_worker_info

from base.base_trainer import BaseTrainer
from data_loader.dataset import ImageFiles
from trainer.trainer import Trainer
from utils import durable_file


def worker_fault(how, at=20):
    """The worker that opens the file with this number is killed, crashes, hangs, raises or exits."""
    pixels = ImageFiles.pixels

    def faulty(self, index):
        if index == at and get_worker_info() is not None:
            {
                "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
                "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
                "SIGBUS": lambda: os.kill(os.getpid(), signal.SIGBUS),
                "exit": lambda: os._exit(3),
                "hang": lambda: time.sleep(10_000),
                "raise": lambda: {}["a mistake in somebody's code"],
                "shm": lambda: _no_space(),
            }[how]()
        return pixels(self, index)

    ImageFiles.pixels = faulty


def killed_in_save(operation, number):
    """The process is killed as it begins this operation on the disk for the so-manieth time; half is written before."""
    left = [number]
    real = getattr(durable_file.os, operation, None)

    def dying(*arguments, **settings):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **settings)

    if operation != "save":
        durable_file.os = SimpleNamespace(**{**vars(os), operation: dying})
        return
    save = torch.save

    def half(state, file):
        left[0] -= 1
        if left[0] == 0:
            content = io.BytesIO()
            save(state, content)
            file.write(content.getvalue()[: content.tell() // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(state, file)

    torch.save = half


def _no_space():
    raise OSError(28, "No space left on device", "/dev/shm/torch_1")


class _Infinite(torch.autograd.Function):
    @staticmethod
    def forward(context, loss):
        return loss.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * float("inf")


def bad_number(what, step):
    """At this step the loss is NaN, the gradient infinite, or after it a running mean NaN; once."""
    loss_of, step_done = Trainer._loss, BaseTrainer._step_done

    def faulty(self, inputs_NCHW, targets_N):
        loss, logits_NK = loss_of(self, inputs_NCHW, targets_N)
        if self.steps_done + 1 == step and what == "loss":
            loss = loss * float("nan")
        elif self.steps_done + 1 == step and what == "gradient":
            loss = _Infinite.apply(loss)
        return loss, logits_NK

    def and_a_buffer(self):
        if self.steps_done == step and what == "buffer":
            next(b for b in self.learner.model.buffers() if b.is_floating_point())[0] = float("nan")
        step_done(self)

    Trainer._loss, BaseTrainer._step_done = faulty, and_a_buffer


def out_of_memory(step):
    """The device has no memory left at this step."""
    loss_of = Trainer._loss

    def faulty(self, inputs_NCHW, targets_N):
        if self.steps_done + 1 == step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 8 GiB")
        return loss_of(self, inputs_NCHW, targets_N)

    Trainer._loss = faulty


def mistake_in_validation(epoch, kind):
    """Somebody's code raises while this epoch is validated."""
    valid_epoch = Trainer._valid_epoch

    def faulty(self, number):
        if number == epoch:
            raise {"ValueError": ValueError, "KeyboardInterrupt": KeyboardInterrupt}[kind]("a mistake")
        return valid_epoch(self, number)

    Trainer._valid_epoch = faulty


def bad_scores(epochs):
    """The validation loss of these epochs is NaN."""
    valid_epoch = Trainer._valid_epoch

    def faulty(self, number):
        scores = valid_epoch(self, number)
        return scores | {"loss": float("nan")} if number in epochs else scores

    Trainer._valid_epoch = faulty


def slow_steps(seconds):
    """Each step takes so much longer."""
    step_done = BaseTrainer._step_done

    def slow(self):
        time.sleep(seconds)
        step_done(self)

    BaseTrainer._step_done = slow


def all_of(*faults):
    """Several of them: (function, arguments...) each."""
    for fault, *arguments in faults:
        fault(*arguments)


def temporary_folder(path):
    """The place for temporary files is on another disk than the checkpoints."""
    os.environ["TMPDIR"] = path


def broken_screen(to):
    """What is printed goes to a pipe whose reader has left, as behind `| head -1`, or to a full disk."""
    if to == "/dev/full":
        end = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, end = os.pipe()
        os.close(reader)
    os.dup2(end, 1)
