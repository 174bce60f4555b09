"""A disk that is full or fills up: one clear sentence, and no computed result is lost."""

import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

from adadpo_mini import load_pairs, race, resume
from adadpo_mini.cli.entry import main
from adadpo_mini.store.folder import RunFolder

resource = pytest.importorskip("resource", reason="Windows has no limits on files")
SMALL = {"steps": 6, "batch_size": 4, "eval_pairs": 2, "measure_every": 0, "seed": 5}


@pytest.fixture(scope="module")
def rows():
    return list(load_pairs("swap")[:14])


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a disk of the given size in megabytes; needs root."""
    place = tmp_path / "disk"
    place.mkdir()

    def make(size):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(place)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
        return place

    yield make
    subprocess.run(["umount", str(place)], capture_output=True)


@contextmanager
def usual_limits():
    """Restore the largest allowed file size, whatever a listener sets."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def unclocked(events):
    return {
        method: [{k: v for k, v in e.items() if k not in ("time", "own_time")} for e in log]
        for method, log in events.items()
    }


def weights(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")
    }


class Stop(Exception):
    """Simulates a kill."""


def test_a_disk_too_small_for_the_models_is_found_out_before_training(small_disk, capsys):
    disk = small_disk(3)
    assert main(["race", "--steps", "1", "--out", str(disk / "run")]) == 2
    said = capsys.readouterr().err
    assert "7.5 MB will be written" in said and "only 3.1 MB left" in said
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "snapshots", "state"), [(9, 0, False), (40, 2, False), (60, 3, True)]
)
def test_the_state_and_the_snapshots_leave_room_for_the_models(size, snapshots, state, small_disk):
    out = small_disk(size) / "run"

    def listen(method, event):
        if event["step"] == 1:
            time.sleep(1.2)  # of both methods more than the time after which a state is kept
        if event["step"] == 3:
            raise Stop

    with pytest.raises(Stop):
        race(steps=4, batch_size=4, eval_pairs=2, snapshot_every=1, out=out, on_event=listen)
    assert (out / "state.safetensors").exists() == state
    result = resume(out)
    assert result.summary["status"] == "finished", result.summary["problem"]
    assert len(RunFolder(out).snapshots("dpo")) == snapshots


@pytest.mark.parametrize("limit", [4_000, 12_000, 60_000])
def test_a_disk_that_becomes_full_leaves_whole_lines_and_the_race_can_go_on(
    limit, rows, tiny, tmp_path
):
    """The limits stop it at an event, at a later event, and at a model."""
    whole = race(rows, model=str(tiny), out=tmp_path / "whole", **SMALL, snapshot_every=2)
    out = tmp_path / "run"
    with usual_limits() as hard:

        def fill(method, event):
            """A file that may not grow looks like a full disk to the program."""
            if (method, event["step"]) == ("dpo", 1):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))

        result = race(rows, model=str(tiny), out=out, on_event=fill, **SMALL, snapshot_every=2)
    assert result.summary["status"] == "failed"
    problem = result.summary["problem"]
    assert str(out) in problem and "size limit" in problem
    assert f"adadpo-mini resume {out}" in problem and "\n" not in problem
    for log in RunFolder(out).events().values():
        assert [event["step"] for event in log] == list(range(len(log)))
    assert list(out.rglob("*.partial")) == []
    again = resume(out)
    assert again.summary["status"] == "finished"
    assert unclocked(again.events) == unclocked(whole.events)
    assert weights(out) == weights(tmp_path / "whole")
