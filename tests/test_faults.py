"""Runs are killed, stopped and starved, and end as the run that was left in peace: to the last bit.

The numbers in brackets are those of docs/reliability.md.
"""

import random
import re
import signal
import tempfile
import time
from pathlib import Path

import pytest

from base.checkpoints import Checkpoints
from tests import fault_hooks, faults
from tests.faults import Run, at_random, forking_server, newest_run, result, shared_memory, trials, until_done
from utils.checkpoint import load_checkpoint
from utils.errors import CheckpointError

STEPS = 36  # 72 images in batches of 6 are 12 steps an epoch, three epochs


@pytest.fixture(scope="module")
def server():
    before = shared_memory()
    with forking_server() as context:
        yield context
    assert shared_memory() - before == set()


@pytest.fixture
def place(request, tmp_path):
    """Where runs are saved: in memory where that can be, as a disk takes most of the time; F10 asks for the disk."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or "other_disk" in request.keywords:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="faults-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def config(small_config, place):
    config = small_config(
        lr_scheduler={"type": "OneCycleLR", "interval": "step"}, metrics=["accuracy", "MulticlassF1Score"]
    )
    config["arch"]["args"]["dropout"] = 0.3
    config["data_loader"]["args"] |= {"batch_size": 6, "loader_timeout": 20}
    config["trainer"] |= {"save_dir": str(place / "saved")}
    config["trainer"] |= {"monitor": "max val_accuracy", "save_every_steps": 4, "tensorboard": True, "verbosity": 1}
    return config


@pytest.fixture
def start(server, config, config_file, place):
    """`start(*words, fault=None, *arguments)`: a process of train.py on the config."""
    path = str(config_file(config))

    def begin(*words, fault=None, arguments=()):
        words = words if "-r" in words else ("-c", path, *words)
        return Run(server, list(words), place / f"screen-{time.monotonic_ns()}.txt", fault, *arguments)

    begin.keywords = {"path": path}
    return begin


@pytest.fixture(scope="module")
def results():
    """Of runs that were left in peace, by what they were."""
    return {}


@pytest.fixture
def undisturbed(start, place, results):
    """The result of the run that was left in peace, and how long it took; it is made once."""
    if not results:
        run = start("name=whole")
        code, screen = run.wait()
        assert code == 0, screen
        results["whole"] = result(newest_run(place / "saved", "whole")), time.monotonic() - run.begun_s
    return results["whole"]


def repeated(server, config_file, config, folder, interrupt, name, **options):
    """Repeats the run under a name, with interruptions, until it is done; the ends of its processes, and its result."""
    words = ["-c", str(config_file(config)), f"name={name}"]
    screens = folder / f"screens-{name}"
    screens.mkdir()
    ends = until_done(server, words, screens, interrupt, **options)
    return ends, result(newest_run(folder / "saved", name))


@pytest.mark.parametrize("seed", range(trials(2, 100)))
def test_killed_at_any_instant_any_number_of_times(seed, server, config, config_file, place, undisturbed, fault):
    expected, took_s = undisturbed
    config["data_loader"]["args"]["num_workers"] = seed % 2 * 2
    fault("F1", f"seed {seed}")

    interrupt = at_random(seed, took_s)
    ends, found = repeated(server, config_file, config, place, interrupt, "killed")

    assert found == expected
    assert {code for code, _ in ends} <= {0, -signal.SIGKILL}


@pytest.mark.parametrize("seed", range(trials(1, 50)))
def test_killed_while_it_saves(seed, server, config, config_file, place, undisturbed, fault):
    expected, _ = undisturbed
    chance = random.Random(seed)
    words = ["-c", str(config_file(config)), "name=saving", "-r", "auto"]
    fault("F2", f"seed {seed}")

    for number in range(4):
        where = chance.choice(["save", "fsync", "replace", "link"]), chance.randrange(1, 9)
        run = Run(server, words, place / f"screen-{number}.txt", fault_hooks.killed_in_save, *where)
        code, screen = run.wait()
        assert code in (0, -signal.SIGKILL), screen
        assert number or code == -signal.SIGKILL
    code, screen = Run(server, words, place / "screen-last.txt").wait()

    assert code == 0, screen
    models = newest_run(place / "saved", "saving")
    assert result(models) == expected
    assert list(models.glob(".*.tmp")) == []


@pytest.mark.other_disk
@pytest.mark.parametrize("seed", range(trials(1, 40)))
def test_a_temporary_folder_on_another_disk_changes_nothing(
    seed, server, config, config_file, place, undisturbed, monkeypatch, fault
):
    expected, took_s = undisturbed
    fault("F10", f"seed {seed}")

    elsewhere = [(fault_hooks.temporary_folder, "/dev/shm")]
    interrupt = at_random(1000 + seed, took_s)
    _, found = repeated(
        server, config_file, config, place, interrupt, "elsewhere", fault=fault_hooks.all_of, arguments=elsewhere
    )

    assert found == expected


SIGNALS = trials(
    [("SIGTERM", "group", 1), ("SIGINT", "group", 1), ("SIGUSR1", "process", 1)],
    [("SIGTERM", "process", 50), ("SIGTERM", "group", 20), ("SIGINT", "group", 20), ("SIGUSR1", "process", 10)],
)


@pytest.mark.parametrize(
    ("number", "to", "seed"), [(number, to, seed) for number, to, count in SIGNALS for seed in range(trials(1, count))]
)
def test_stopped_by_a_signal_at_any_instant(number, to, seed, server, config, config_file, place, undisturbed, fault):
    expected, took_s = undisturbed
    fault("F12" if to == "group" else {"SIGTERM": "F11", "SIGUSR1": "F14"}[number], f"seed {seed}")
    config["data_loader"]["args"]["num_workers"] = 2

    interrupt = at_random(2000 + seed, took_s, getattr(signal, number), group=to == "group")
    ends, found = repeated(server, config_file, config, place, interrupt, "stopped")

    assert {key: value for key, value in found.items() if key != "numbered"} == {
        key: value for key, value in expected.items() if key != "numbered"
    }
    for code, screen in ends:
        assert code in (0, 75), screen
        assert "Traceback" not in screen
        assert "error" not in screen.lower()


@pytest.mark.parametrize("seed", range(trials(1, 20)))
def test_killed_soon_after_it_was_asked_to_stop(seed, server, config, config_file, place, undisturbed, fault):
    expected, took_s = undisturbed
    chance = random.Random(seed)
    fault("F16", f"seed {seed}")

    def interrupt(run):
        run.process.join(chance.uniform(0, took_s))
        run.kill(signal.SIGTERM)
        run.process.join(chance.uniform(0, 0.05))
        run.kill()

    _, found = repeated(server, config_file, config, place, interrupt, "grace")

    assert {**found, "numbered": 0} == {**expected, "numbered": 0}


def wait_for_steps(run, models, steps):
    """Until so many steps are saved; the folder of the checkpoints."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        for last in models.glob("*/last.pth"):
            if load_checkpoint(last)["steps_done"] >= steps:
                return last.parent
        assert run.alive(), run.text()
        time.sleep(0.01)
    raise AssertionError(run.text())


@pytest.mark.parametrize("seed", range(trials(1, 10)))
def test_a_second_interrupt_ends_at_once_and_leaves_the_last_checkpoint(seed, start, place, undisturbed, fault):
    expected, _ = undisturbed
    fault("F13", f"seed {seed}")
    run = start("name=twice", fault=fault_hooks.slow_steps, arguments=(0.5,))
    models = wait_for_steps(run, place / "saved" / "models" / "twice", 4 + 4 * (seed % 2))

    run.kill(signal.SIGINT)
    time.sleep(0.05)
    asked_s = time.monotonic()
    run.kill(signal.SIGINT)
    code, screen = run.wait()
    ended_s = time.monotonic() - asked_s
    continued, _ = start("-r", str(models / "last.pth")).wait()

    assert code == 130, screen
    assert ended_s < 5
    assert continued == 0
    assert {**result(models), "numbered": 0} == {**expected, "numbered": 0}


FAILURES = {
    "SIGKILL": r"data loader worker .*was killed .*SIGKILL|Killed",
    "SIGSEGV": r"crashed \(SIGSEGV\)|Segmentation",
    "SIGBUS": r"shared memory \(/dev/shm\) is full",
    "exit": r"ended by itself",
    "raise": r"KeyError in a data loader worker: .*fault_hooks\.py:\d+",
    "hang": r"no batch came for 2 seconds: a data loader worker hangs.*loader_timeout",
    "shm": r"shared memory \(/dev/shm\) is full: fewer data_loader\.args\.num_workers",
}


FEW = ("SIGBUS", "exit", "shm")


@pytest.mark.parametrize(
    ("how", "seed"),
    trials(
        [("SIGKILL", 0), ("hang", 1), ("raise", 2)],
        [(how, seed) for how in FAILURES for seed in range(trials(1, 5 if how in FEW else 20))],
    ),
)
def test_a_worker_that_fails_is_one_line_and_the_run_can_go_on(how, seed, start, place, undisturbed, fault):
    expected, _ = undisturbed
    fault(f"F20, {how}" if how != "shm" else "F35", f"image {seed}")
    run = start(
        "name=failed",
        "data_loader.args.num_workers=2",
        "data_loader.args.loader_timeout=2",
        fault=fault_hooks.worker_fault,
        arguments=(how, 3 * seed),
    )

    code, screen = run.wait()
    left = run.left_behind()
    models = newest_run(place / "saved", "failed")
    continued, _ = start("-r", str(models / "last.pth")).wait()

    assert code == 1, screen
    assert_line(screen, FAILURES[how])
    assert left == []
    assert continued == 0
    assert {**result(models), "numbered": 0} == {**expected, "numbered": 0}


def assert_line(screen, pattern):
    """One line says it, without a traceback."""
    lines = [line for line in screen.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, screen
    assert re.search(pattern, lines[0]), lines[0]
    assert "Traceback" not in screen


@pytest.mark.parametrize("seed", range(trials(1, 40)))
def test_a_trainer_that_is_killed_leaves_no_process_behind(seed, start, fault):
    chance = random.Random(seed)
    fault("F21", f"seed {seed}")
    run = start("name=orphans", "data_loader.args.num_workers=2", fault=fault_hooks.slow_steps, arguments=(0.02,))
    began_s = time.monotonic()
    while run.alive() and len(faults.processes_of(run.pid)) < 2 and time.monotonic() < began_s + 60:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.05))

    run.kill()
    run.wait()

    assert run.left_behind(15) == []


@pytest.mark.parametrize("what", trials(["loss", "buffer"], ["loss", "gradient", "buffer"]))
@pytest.mark.parametrize("seed", range(trials(1, 17)))
def test_a_number_that_is_not_finite_ends_the_run_before_it_is_saved(what, seed, start, place, undisturbed, fault):
    expected, _ = undisturbed
    step = random.Random(seed).randrange(1, STEPS + 1)
    fault(f"F22, {what}", f"step {step}")

    code, screen = start("name=nan", fault=fault_hooks.bad_number, arguments=(what, step)).wait()
    models = newest_run(place / "saved", "nan")
    saved = load_checkpoint(models / "last.pth")
    continued, _ = start("-r", str(models / "last.pth")).wait()

    assert code == 1
    said = {"loss": f"step {step} .*the loss is nan", "gradient": f"step {step} .*gradient's norm is (inf|nan)"}
    assert_line(screen, said.get(what, r"model\.\S+running_mean holds a number that is not finite"))
    if what != "buffer":
        assert saved["steps_done"] == (step - 1) // 4 * 4 or saved["epochs_done"] == (step - 1) // 12
        assert "shapes/train/" in screen
        assert f"--step {step}" in screen
    assert continued == 0
    assert {**result(models), "numbered": 0} == {**expected, "numbered": 0}


def test_a_score_that_is_not_finite_is_never_the_best_and_patience_counts_it(start, place, fault):
    fault("F22, metric", "epochs 2 to 5")
    words = ("name=scores", "trainer.monitor=min val_loss", "trainer.epochs=9", "trainer.early_stop=4")

    code, screen = start(*words, fault=fault_hooks.bad_scores, arguments=(range(2, 10),)).wait()
    models = newest_run(place / "saved", "scores")

    assert code == 0
    assert "stopped early" in screen
    assert load_checkpoint(models / "best.pth")["epochs_done"] == 1
    assert load_checkpoint(models / "last.pth")["epochs_done"] == 5


@pytest.mark.parametrize("step", [1, 7, 20][: trials(1, 3)])
def test_memory_that_is_used_up_is_one_line(step, start, place, undisturbed, fault):
    expected, _ = undisturbed
    fault("F23", f"step {step}")

    code, screen = start("name=memory", fault=fault_hooks.out_of_memory, arguments=(step,)).wait()
    models = newest_run(place / "saved", "memory")
    start("-r", str(models / "last.pth")).wait()

    assert code == 1
    assert_line(screen, r"out of memory with batches of 6 images: CUDA out of memory.*accumulate_steps")
    assert {**result(models), "numbered": 0} == {**expected, "numbered": 0}


@pytest.mark.parametrize("kind", trials(["ValueError"], ["ValueError", "KeyboardInterrupt"]))
@pytest.mark.parametrize("epoch", [2, 1, 3][: trials(1, 3)])
def test_a_mistake_in_validation_leaves_the_last_checkpoint(kind, epoch, start, place, undisturbed, fault):
    expected, _ = undisturbed
    fault("F34", f"{kind}, epoch {epoch}")

    code, _ = start("name=mistake", fault=fault_hooks.mistake_in_validation, arguments=(epoch, kind)).wait()
    models = newest_run(place / "saved", "mistake")
    continued, _ = start("-r", str(models / "last.pth")).wait()

    assert code == (130 if kind == "KeyboardInterrupt" else 1)
    log = next((place / "saved" / "log" / "mistake").glob("*/info.log")).read_text()
    assert kind == "KeyboardInterrupt" or ("in faulty" in log and "ValueError: a mistake" in log)
    assert continued == 0
    assert {**result(models), "numbered": 0} == {**expected, "numbered": 0}


@pytest.mark.parametrize("seed", range(trials(1, 20)))
def test_workers_that_change_at_each_start_change_nothing(seed, server, config, config_file, place, undisturbed, fault):
    expected, took_s = undisturbed
    chance = random.Random(seed)
    fault("F25", f"seed {seed}")
    options = [
        {"num_workers": 1},
        {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 5},
        {"num_workers": 2, "multiprocessing_context": "fork"},
        {"num_workers": 0},
    ]
    path = config_file(config, "changing.json")

    def interrupt(run):
        run.process.join(chance.uniform(0, took_s))
        run.kill()
        changed = config | {"data_loader": {**config["data_loader"]}}
        changed["data_loader"]["args"] = config["data_loader"]["args"] | chance.choice(options)
        config_file(changed, "changing.json")

    screens = place / "screens"
    screens.mkdir()
    until_done(server, ["-c", str(path), "name=changing"], screens, interrupt)

    assert result(newest_run(place / "saved", "changing")) == expected


@pytest.mark.parametrize("seed", range(trials(1, 20)))
def test_tensorboard_has_every_epoch_once_however_often_the_run_was_killed(
    seed, server, config, config_file, place, undisturbed, fault
):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, took_s = undisturbed
    fault("F29", f"seed {seed}")

    repeated(server, config_file, config, place, at_random(3000 + seed, took_s), "events")
    run_id = newest_run(place / "saved", "events").name
    events = EventAccumulator(str(place / "saved" / "log" / "events" / run_id / "valid")).Reload()

    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]


@pytest.mark.parametrize("trial", range(trials(1, 10)))
def test_a_run_belongs_to_one_process_until_that_ends(trial, start, place, fault):
    fault("F32", f"trial {trial}")
    first = start("name=shared", fault=fault_hooks.slow_steps, arguments=(1.0,))
    models = wait_for_steps(first, place / "saved" / "models" / "shared", 4)

    code, screen = start("-r", str(models / "last.pth")).wait()
    was_alive = first.alive()
    first.kill()
    first.wait()
    after, _ = start("-r", str(models / "last.pth")).wait()

    assert was_alive
    assert code == 2
    assert f"in use by process {first.pid}" in screen
    assert after == 0


@pytest.mark.parametrize("to", trials(["a pipe that is closed"], ["a pipe that is closed", "/dev/full"]))
def test_a_screen_that_takes_nothing_more_does_not_end_the_run(to, start, place, undisturbed, fault):
    expected, _ = undisturbed
    fault("F33", to)

    code, _ = start("name=screen", fault=fault_hooks.broken_screen, arguments=(to,)).wait()

    assert code == 0
    assert result(newest_run(place / "saved", "screen")) == expected


def damaged(path, chance):
    """The file with one bit flipped in its middle, or cut; not a bit of the padding, which says nothing."""
    whole = path.read_bytes()
    while True:
        content = bytearray(whole)
        if chance.random() < 0.5:
            content[chance.randrange(len(content) // 4, len(content) // 2)] ^= 1 << chance.randrange(8)
        else:
            del content[chance.randrange(len(content)) :]
        # A new file: the names of one checkpoint are links to the same bytes.
        path.unlink()
        path.write_bytes(content)
        try:
            load_checkpoint(path)
        except CheckpointError:
            return


@pytest.mark.parametrize("trial", range(trials(1, 10)))
def test_damaged_checkpoints_are_passed_over_and_none_at_all_is_no_fresh_start(trial, start, config, place, fault):
    fault("F8", f"seed {trial}")
    chance = random.Random(trial)
    run = start("name=damaged", "trainer.keep_checkpoints=null", fault=fault_hooks.slow_steps, arguments=(0.02,))
    models = wait_for_steps(run, place / "saved" / "models" / "damaged", 28)
    run.kill()
    run.wait()
    newest_first = ["last.pth", "checkpoint-epoch3-step32.pth", "checkpoint-epoch3-step28.pth", "checkpoint-epoch2.pth"]
    there = [name for name in newest_first if (models / name).exists()]
    bad = there[: chance.randrange(1, len(there))]
    for name in bad:
        damaged(models / name, chance)

    whole = Checkpoints(models).newest_valid()
    path = str(start.keywords["path"])
    code, screen = start("-c", path, "-r", "auto", "name=damaged", "trainer.keep_checkpoints=null").wait()
    for checkpoint in models.glob("*.pth"):
        checkpoint.write_bytes(b"damaged")
    after, nothing = start("-c", path, "-r", "auto", "name=damaged", "trainer.epochs=9").wait()

    assert whole[0].name not in bad
    assert code == 0, screen
    assert all(f"{name}" in screen for name in bad)
    assert screen.count("passed over") == len(whole[2])
    assert after == 2
    assert "no checkpoint that can be used" in nothing
    assert len(list(models.parent.iterdir())) == 1


@pytest.mark.parametrize("trial", range(trials(1, 5)))
def test_a_damaged_checkpoint_that_was_named_is_refused(trial, start, place, fault):
    fault("F9", f"seed {trial}")
    start("name=named").wait()
    models = newest_run(place / "saved", "named")
    damaged(models / "last.pth", random.Random(trial))
    before = sorted(path.name for path in models.iterdir())

    code, screen = start("-r", str(models / "last.pth"), "trainer.epochs=5").wait()

    assert code == 2
    assert_line(screen, r"last\.pth: (damaged|truncated)")
    assert sorted(path.name for path in models.iterdir()) == before
