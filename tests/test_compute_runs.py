"""The options on how to compute, through train.py and test.py: chosen, printed, recorded, and continued bit for bit."""

import importlib.util
import json
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

import train
from model.vgg import VGG
from tools import replay
from trainer.finite import FiniteGuard
from trainer.trainer import Trainer
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import ConfigError, TrainingError
from utils.stop import RunStopped
from wiring import building

SMALL_VGG = {"layers": [8, "M", 8, "M"], "classifier_width": 16, "pool_size": 2, "dropout": 0.4}


@pytest.fixture
def run(small_config, config_file, tmp_path):
    """`run("a", {...})` trains with options in the trainer section, in folders of its own."""

    def trained(name, options=None, *words, batch_norm=True):
        config = small_config(arch={"type": "VGG", "args": {**SMALL_VGG, "batch_norm": batch_norm}})
        config["trainer"] |= {"epochs": 2, "save_dir": str(tmp_path / name), **(options or {})}
        return train.main(["-c", str(config_file(config, f"{name}.json")), *words])

    return trained


@pytest.fixture(scope="module")
def judge():
    """`main` of test.py, loaded under another name: the standard library has a module `test`."""
    spec = importlib.util.spec_from_file_location("test_script", train.ROOT / "test.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def stopped(monkeypatch):
    """Ends a run after so many steps as a signal would, and continues it."""

    def continued(begin, num_steps):
        step_done, folder = Trainer._step_done, []

        def until(self):
            if self.steps_done == num_steps:
                folder.append(self.models_dir)
                self._save()
                raise RunStopped("a test")
            step_done(self)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_step_done", until)
            with pytest.raises(RunStopped):
                begin()
        return train.main(["-r", str(folder[0] / "last.pth")])

    return continued


def memory_for(num_images, monkeypatch, kinds=("training", "evaluation")):
    """From now on a network takes so many images at once, and says on what batches it failed after its first layers."""
    forward, failed = VGG.forward, []

    def limited(self, images_NCHW):
        is_meant = ("training" if self.training else "evaluation") in kinds
        if is_meant and len(images_NCHW) > num_images:
            failed.append(len(images_NCHW))
            self.features(images_NCHW)  # batch norm has counted it
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
        return forward(self, images_NCHW)

    monkeypatch.setattr(VGG, "forward", limited)
    return failed


def log_of(trainer):
    return (trainer.recorder.run.log / "info.log").read_text(encoding="utf-8")


def row_of(text, name):
    return next(line.split(None, 1)[1] for line in text.splitlines() if line.split(None, 1)[0] == name)


def make_fast_in_bf16(monkeypatch):
    flags = MappingProxyType({"amx_bf16": True})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.setitem(building.choose_precision.__globals__["MIN_BATCH_GFLOPS"], "cpu", 0.0)


def test_the_precision_is_chosen_printed_and_recorded(run, monkeypatch):
    make_fast_in_bf16(monkeypatch)
    trainer = run("fast")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    slow = run("slow")

    for one, name in ((trainer, "bf16"), (slow, "fp32")):
        assert row_of(log_of(one), "precision").startswith(f"{name} (auto: this CPU has ")
        last = load_checkpoint(one.models_dir / "last.pth")
        assert last["numerics"]["precision"] == name
        assert "precision" not in last["config"]["trainer"]  # which would be a choice for other machines
    assert trainer.digests()["model"] != slow.digests()["model"]


def test_a_run_in_bf16_is_continued_bit_for_bit(run, stopped):
    whole = run("whole", {"precision": "bf16"})

    again = stopped(lambda: run("parts", {"precision": "bf16"}), 11)

    assert again.digests() == whole.digests()
    assert "the last bits may differ" not in log_of(again)


def test_a_checkpoint_of_before_the_choice_goes_on_in_fp32(run, monkeypatch):
    whole = run("whole")
    part = run("part", {"precision": "fp32"})
    first = part.models_dir / "checkpoint-epoch1.pth"
    state = load_checkpoint(first)
    state["numerics"] = {key: value for key, value in state["numerics"].items() if key not in ("precision", "tf32")}
    del state["compute"]
    save_checkpoint(first, state)
    make_fast_in_bf16(monkeypatch)

    again = train.main(["-r", str(first), "trainer.precision=auto"])

    assert again.digests() == whole.digests()
    assert "precision was" not in log_of(again)


def test_another_precision_is_warned_of(run):
    part = run("part")

    again = train.main(["-r", str(part.models_dir / "last.pth"), "trainer.precision=bf16", "trainer.epochs=3"])

    assert "precision was fp32, is bf16: the last bits may differ" in log_of(again)


def test_fp16_on_a_cpu_is_refused_with_its_key(run, tmp_path):
    with pytest.raises(ConfigError, match=r"trainer.precision: fp16 needs a GPU"):
        run("half", {"precision": "fp16"})

    assert not (tmp_path / "half").exists()


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"compile": {"backend": "eager"}}])
def test_the_test_computes_as_the_validation_did(run, judge, options, shapes_dir, tmp_path):
    torch.compiler.reset()
    trainer = run("a", {"epochs": 1, **options})

    scores = judge(
        [
            "-r",
            str(trainer.models_dir / "last.pth"),
            "--out",
            str(tmp_path),
            f"data_loader.args.data_dir={shapes_dir / 'val'}",
        ]
    )

    last = trainer.recorder.history.last_row()
    assert scores["loss"] == last["val/loss"]
    assert scores["accuracy"] == last["val/accuracy"]


def test_compiled_checkpoints_have_the_models_own_keys(run):
    torch.compiler.reset()
    plain = run("plain", {"epochs": 1})

    compiled = run("compiled", {"compile": {"backend": "eager"}, "epochs": 1})

    assert compiled.network.compiled is not None
    state = load_checkpoint(compiled.models_dir / "best.pth")["model"]
    assert list(state) == list(plain.learner.model.state_dict())
    for name, value in plain.learner.model.state_dict().items():
        torch.testing.assert_close(compiled.learner.model.state_dict()[name], value)


def test_channels_last_can_be_asked_for_and_forbidden(run):
    layouts = [run(str(asked), {"channels_last": asked, "epochs": 1}).context.layout for asked in (True, False)]

    assert layouts == [torch.channels_last, torch.contiguous_format]


def test_a_step_that_does_not_fit_is_done_in_pieces(run, monkeypatch):
    whole = run("whole", {"epochs": 1}, "arch.args.dropout=0", batch_norm=False)
    failed = memory_for(3, monkeypatch)

    cut = run("cut", {"epochs": 1}, "arch.args.dropout=0", batch_norm=False)

    # 10 images: five do not fit, then three do. Said and found once; the evaluation finds its own number.
    assert failed == [10, 5, 10, 5]
    assert log_of(cut).count("out of memory with 10 images at once; from now on training takes 3 at most") == 1
    assert log_of(cut).count("from now on evaluation takes 3 at most") == 1
    # Eight steps of float32, whose sums are taken in another order.
    for name, value in whole.learner.model.state_dict().items():
        torch.testing.assert_close(cut.learner.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    one, other = (trainer.recorder.history.last_row() for trainer in (whole, cut))
    for key in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
        assert other[key] == pytest.approx(one[key], rel=1e-4)


def test_batches_of_a_group_are_cut_and_counted_once(run, monkeypatch):
    words = ("arch.args.dropout=0", "trainer.accumulate_steps=3")
    whole = run("whole", {"epochs": 1}, *words, batch_norm=False)
    memory_for(4, monkeypatch, ("training",))

    cut = run("cut", {"epochs": 1}, *words, batch_norm=False)

    for name, value in whole.learner.model.state_dict().items():
        torch.testing.assert_close(cut.learner.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert cut.learner.train_metrics.compute() == whole.learner.train_metrics.compute()


def test_batch_norm_does_not_count_an_attempt_that_failed(run, monkeypatch):
    memory_for(5, monkeypatch, ("training",))

    cut = run("cut", {"epochs": 1})

    # 72 images: seven batches of 10 in two pieces each, and one of 2.
    counts = [value for name, value in cut.learner.model.state_dict().items() if name.endswith("num_batches_tracked")]
    assert [int(count) for count in counts] == [15, 15]


@pytest.mark.parametrize("num_steps", [3, 11])
def test_a_run_that_was_cut_is_continued_bit_for_bit(run, stopped, monkeypatch, num_steps):
    memory_for(5, monkeypatch)
    whole = run("whole")

    failed = memory_for(5, monkeypatch)
    again = stopped(lambda: run("parts"), num_steps)

    assert again.digests() == whole.digests()
    assert failed == [10, 10]  # once in training and once in evaluation, by which process ever
    assert load_checkpoint(again.models_dir / "last.pth")["compute"]["images_at_once"] == [5, 5]


def test_a_step_in_pieces_is_replayed_to_the_last_digit(run, monkeypatch):
    memory_for(5, monkeypatch)
    seen, look = {}, FiniteGuard.look

    def noted(guard, losses, norm, facts):
        seen[facts["step"]] = [float(loss) for loss in losses], float(norm)
        look(guard, losses, norm, facts)

    monkeypatch.setattr(FiniteGuard, "look", noted)
    trainer = run("a", {"precision": "bf16", "keep_checkpoints": None})
    losses, norm = seen[13]

    found = replay.main(["-r", str(trainer.models_dir / "checkpoint-epoch1.pth"), "--step", "13"])

    assert len(losses) == 2
    assert found["loss"] == ", ".join(f"{loss:.17g}" for loss in losses)
    assert found["gradient"] == f"norm {norm:.17g}"


def test_where_not_one_image_fits_the_run_ends_in_a_line(run, monkeypatch):
    memory_for(0, monkeypatch, ("training",))
    monkeypatch.setattr("wiring.building.check_batch_of_one", lambda *args: None)

    with pytest.raises(
        TrainingError, match=r"^out of memory with batches of 10 images: CUDA out of memory\. A smaller"
    ):
        run("a")


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_the_optimizer_is_fused_and_an_unfused_checkpoint_goes_on_as_it_was(run, name):
    words = (f"optimizer={json.dumps({'type': name, 'args': {'lr': 0.01}})}", "trainer.max_grad_norm=0.5")
    fused = run("fused", None, *words)
    unfused = run("unfused", None, *words, "optimizer.args.fused=false")
    first = unfused.models_dir / "checkpoint-epoch1.pth"
    state = load_checkpoint(first)
    del state["config"]["optimizer"]["args"]["fused"]  # as it was written before there was a choice
    save_checkpoint(first, state)

    again = train.main(["-r", str(first)])

    assert fused.learner.optimizer.param_groups[0]["fused"] is True
    assert again.learner.optimizer.param_groups[0]["fused"] is False
    assert again.digests()["model"] == unfused.digests()["model"]
    for key, value in unfused.learner.model.state_dict().items():
        # 16 steps of other roundings.
        torch.testing.assert_close(fused.learner.model.state_dict()[key], value, rtol=1e-2, atol=1e-3)


def test_new_settings_on_an_unfused_checkpoint_train_on(run):
    words = ('optimizer={"type": "Adam", "args": {"lr": 0.01}}',)
    unfused = run("unfused", {"epochs": 1}, *words, "optimizer.args.fused=false")

    last = unfused.models_dir / "last.pth"
    again = train.main(["-r", str(last), "trainer.epochs=2", "optimizer.args.fused=true", "optimizer.args.lr=0.02"])

    assert again.learner.optimizer.param_groups[0]["fused"] is True
    assert again.steps_done == 16


def test_evaluation_takes_batches_of_its_own_size(run):
    trainer = run("a", None, "data_loader.args.eval_batch_size=12")
    plain = run("b")

    assert [len(targets) for _, targets in trainer.valid_loader] == [12, 12]
    assert [len(targets) for _, targets in trainer.train_loader][:2] == [10, 10]
    one, other = (run.recorder.history.last_row() for run in (trainer, plain))
    assert {key: value for key, value in one.items() if key.startswith("val/")} == pytest.approx(
        {key: value for key, value in other.items() if key.startswith("val/")}, rel=1e-6
    )


@pytest.mark.parametrize("compile_", [{"mode": "reduce-overhead"}, {"modus": "default"}, "yes"])
def test_options_of_the_compiler_are_held_against_what_there_is(run, compile_):
    with pytest.raises(ConfigError, match=r"trainer\.compile"):
        run("a", {"compile": compile_})


def test_the_saved_config_alone_makes_the_same_choice(run, monkeypatch):
    make_fast_in_bf16(monkeypatch)
    first = run("a")

    again = train.main(["-c", str(Path(first.models_dir) / "config.json"), "name=again"])

    assert again.digests() == first.digests()
