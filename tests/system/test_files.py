"""Files that a kill, a full disk or a second writer cannot spoil."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import torch

import adadpo_mini
from adadpo_mini import InputError
from adadpo_mini.errors import WriteError
from adadpo_mini.system.cache import keep_tensors, kept_tensors, scratch_folder
from adadpo_mini.system.files import (
    TAIL,
    append_text,
    check_can_write,
    drop_torn_end,
    in_words,
    is_locked,
    locked,
    remove_partials,
    replace_text,
    replaced_file,
    replaced_folder,
    to_disk,
    user_path,
)

resource = pytest.importorskip("resource", reason="files are limited and killed as on Unix")
OLD, NEW = "old\n" * 3000, "new\n" * 3000


@contextmanager
def largest_file(size):
    """Files cannot grow beyond so many bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


START = f"""
import os, signal, sys, types
from pathlib import Path

package = types.ModuleType("adadpo_mini")  # without torch, which takes a second
package.__path__ = {adadpo_mini.__path__!r}
sys.modules["adadpo_mini"] = package
from adadpo_mini.system.files import *
"""


def python(code, *arguments):
    """A process that runs this code with the functions of files.py imported."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", START + code, *map(str, arguments)]
    return subprocess.Popen(command, text=True, **pipes)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def file(tmp_path):
    """A file that holds OLD, alone in its folder."""
    path = tmp_path / "folder" / "file.txt"
    path.parent.mkdir()
    path.write_text(OLD)
    return path


def test_a_reader_sees_the_old_content_until_the_new_is_whole(file):
    with replaced_file(file) as partial:
        partial.write_text(NEW[:100])
        assert file.read_text() == OLD
        partial.write_text(NEW)
    assert file.read_text() == NEW and names(file.parent) == ["file.txt"]


def test_an_error_on_the_way_changes_nothing_and_is_raised_as_it_is(file):
    with pytest.raises(ZeroDivisionError), replaced_file(file) as partial:
        partial.write_text(NEW)
        1 / 0  # noqa: B018
    assert file.read_text() == OLD and names(file.parent) == ["file.txt"]


def test_text_is_written_as_utf8_with_the_line_ends_it_has(tmp_path):
    replace_text(tmp_path / "a" / "b.txt", "ρ\n\r\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\xcf\x81\n\r\n"


KILLED = """
with replaced_file(sys.argv[1]) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("clean", [lambda file: replace_text(file, NEW), None])
def test_a_writer_that_is_killed_leaves_the_old_content_and_its_rest_is_removed(file, clean):
    process = python(KILLED, file)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert file.read_text() == OLD and len(names(file.parent)) == 2
    clean(file) if clean else remove_partials(file.parents[1])
    assert file.read_text() == (NEW if clean else OLD) and names(file.parent) == ["file.txt"]


WAITING = """
with replaced_file(sys.argv[1]) as partial:
    partial.write_text("theirs")
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_may_write_one_file_and_each_writes_it_whole(file):
    other = python(WAITING, file)
    assert other.stdout.readline() == "ready\n"
    replace_text(file, NEW)
    remove_partials(file.parent)
    assert file.read_text() == NEW and len(names(file.parent)) == 2, "theirs is still there"
    assert other.communicate("\n") == ("", "") and other.returncode == 0
    assert file.read_text() == "theirs" and names(file.parent) == ["file.txt"]


def test_two_threads_may_write_one_file_and_each_writes_it_whole(file):
    problems = []

    def write(text):
        try:
            for _ in range(50):
                replace_text(file, text)
                assert file.read_text() in (OLD, NEW)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=write, args=(text,)) for text in (OLD, NEW)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [] and names(file.parent) == ["file.txt"]


def test_a_leftover_with_the_number_of_this_process_is_removed_too(file):
    """In a container every run may have the same number."""
    process = python(KILLED, file)
    process.communicate()
    (left,) = (f for f in file.parent.iterdir() if f != file)
    # Another number than this process will use next, or the rest would only be overwritten.
    own = left.name.replace(f"-0-{process.pid}.", f"-999-{os.getpid()}.")
    left.rename(left.with_name(own))
    replace_text(file, NEW)
    assert names(file.parent) == ["file.txt"]


def test_a_full_disk_is_reported_and_the_old_content_stays(file):
    with largest_file(5000), pytest.raises(WriteError, match=r"file\.txt.*size limit"):
        replace_text(file, NEW)
    assert file.read_text() == OLD and names(file.parent) == ["file.txt"]


def test_a_write_that_does_not_reach_the_disk_replaces_nothing(file, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError, match="Input/output error"):
        replace_text(file, NEW)
    with pytest.raises(WriteError), replaced_folder(file.parent):
        pass
    with pytest.raises(WriteError):
        to_disk(file)
    assert file.read_text() == OLD and names(file.parent) == ["file.txt"]


def test_a_full_disk_is_reported_whichever_library_writes(toy, tmp_path):
    model, tokenizer = toy
    for saved in (model, tokenizer):
        with largest_file(20_000), pytest.raises(WriteError, match="size limit"):  # noqa: SIM117
            with replaced_folder(tmp_path / "model") as partial:
                saved.save_pretrained(partial)
        assert names(tmp_path) == []


def test_a_new_file_gets_the_usual_permissions_and_an_old_one_keeps_its_own(file):
    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)

    def write(path):
        with replaced_file(path) as partial:
            partial.touch(mode=0o600)

    before = os.umask(0o027)
    try:
        file.chmod(0o604)
        write(file)
        write(file.with_name("new.txt"))
        with replaced_folder(file.with_name("folder")) as partial:
            (partial / "weights").touch(mode=0o600)
    finally:
        os.umask(before)
    assert mode(file) == 0o604 and mode(file.with_name("new.txt")) == 0o640
    assert mode(file.parent / "folder" / "weights") == 0o640


def test_a_link_stays_and_what_it_points_at_is_replaced(file, tmp_path):
    link, folder_link = tmp_path / "link", tmp_path / "folder link"
    link.symlink_to(file)
    replace_text(link, NEW)
    assert link.is_symlink() and file.read_text() == NEW
    folder_link.symlink_to(file.parent)
    with replaced_folder(folder_link) as partial:
        (partial / "a").touch()
    assert folder_link.is_symlink() and names(file.parent) == ["a"]


def test_the_standard_output_can_be_written_even_if_it_is_a_pipe():
    code = "check_can_write(Path('/dev/stdout')); replace_text('/dev/stdout', 'here')"
    assert python(code).communicate() == ("here", "")


def test_a_file_never_replaces_a_folder_nor_a_folder_a_file(file):
    with pytest.raises(WriteError, match="folder"), replaced_file(file.parent):
        pytest.fail("this is told before any work")
    with pytest.raises(WriteError, match="in the way"), replaced_folder(file):
        pytest.fail("this, too")
    with pytest.raises(WriteError, match="in the way"):
        replace_text(file / "b.txt", NEW)
    assert file.read_text() == OLD


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(file):
    with pytest.raises(ZeroDivisionError), replaced_folder(file.parent) as partial:
        (partial / "new.txt").write_text(NEW)
        1 / 0  # noqa: B018
    assert names(file.parent) == ["file.txt"]
    with replaced_folder(file.parent) as partial:
        (partial / "new.txt").write_text(NEW)
        assert names(file.parent) == ["file.txt"]
    assert names(file.parent) == ["new.txt"] and names(file.parents[1]) == ["folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is away for a moment")
def test_at_no_moment_is_a_folder_that_is_replaced_away(file):
    watch = "while os.stat(sys.argv[1]) and not os.path.exists(sys.argv[2]): pass"
    done = file.parents[1] / "done"
    watcher = python("print(flush=True)\n" + watch, file.parent / "file.txt", done)
    watcher.stdout.readline()
    for _ in range(300):
        with replaced_folder(file.parent) as partial:
            (partial / "file.txt").touch()
    done.touch()
    assert watcher.communicate() == ("", "")


def test_appending_adds_all_of_a_text_or_none_of_it(file):
    append_text(file, "ρ\n")
    before = file.read_bytes()
    assert before == OLD.encode() + b"\xcf\x81\n"
    with largest_file(len(before) + 100), pytest.raises(WriteError, match="size limit"):
        append_text(file, NEW)
    assert file.read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")  # noqa: PTH110
def test_the_message_says_that_the_disk_is_full():
    with pytest.raises(WriteError, match="/dev/full.*the disk is full; free some space"):
        append_text(user_path("/dev/full"), "a")


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", 0),
        (b"a\n", 2),
        (b"a\nb", 2),
        (b"abc", 0),
        (b"a\n" + b"x" * (TAIL - 1), 2),
        (b"a\n" + b"x" * TAIL, 2),
        (b"a\n" + b"x" * (3 * TAIL), 2),
        (b"x" * TAIL + b"\n", TAIL + 1),
    ],
)
def test_a_last_line_without_its_end_is_cut_off_in_place(file, content, kept):
    file.write_bytes(content)
    inode = file.stat().st_ino
    assert drop_torn_end(file) == len(content) - kept
    assert file.read_bytes() == content[:kept] and file.stat().st_ino == inode


def test_a_missing_file_has_no_torn_line_and_is_not_on_the_disk(tmp_path):
    assert drop_torn_end(tmp_path / "none") == 0
    with pytest.raises(WriteError):
        to_disk(tmp_path / "none")


HOLDING = """
with locked(Path(sys.argv[1]), "held"):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_lock_is_held_by_one_process_and_ends_with_it_however_it_ends(tmp_path):
    lock = tmp_path / "new" / "lock"
    assert not is_locked(lock) and names(tmp_path) == []
    other = python(HOLDING, lock)
    assert other.stdout.readline() == "ready\n"
    assert is_locked(lock)
    with pytest.raises(InputError, match="^taken$"), locked(lock, "taken"):
        pass
    other.kill()
    other.communicate()
    with locked(lock, "taken"):
        assert is_locked(lock)
        with pytest.raises(InputError, match="^taken$"), locked(lock, "taken"):
            pass
    assert not is_locked(lock)


def test_a_check_leaves_nothing_and_makes_nothing(file):
    check_can_write(file.parent / "a" / "b.txt")
    check_can_write(file)
    check_can_write(file.parent)
    assert names(file.parent) == ["file.txt"] and file.read_text() == OLD


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("folder/file.txt/b.txt", "not a folder"),
        (f"{'n' * 300}.txt", "too long"),
        ("link/b.txt", "not a folder"),
    ],
)
def test_a_check_reports_what_writing_would_report(file, path, reason):
    (file.parents[1] / "link").symlink_to(file)
    with pytest.raises(WriteError, match=reason):
        check_can_write(file.parents[1] / path)


def test_a_check_finds_the_disk_too_small_or_full(file):
    with pytest.raises(WriteError, match=r"about 1000000000\.0 GB will be written"):
        check_can_write(file, needed=10**18)
    with largest_file(100), pytest.raises(WriteError, match="size limit"):
        check_can_write(file)
    assert names(file.parent) == ["file.txt"] and in_words(12_345_678) == "12.3 MB"


def test_ordinary_files_are_not_taken_for_leftovers(file):
    for name in (".note.partial", ".a-1-x.partial", "b.partial", ".hidden"):
        (file.parent / name).touch()
    remove_partials(file.parents[1])
    assert len(names(file.parent)) == 5


def test_a_path_may_begin_with_the_home_and_must_be_text(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(user_path("~/a")) == "/home/me/a"
    for path, said in (
        ("", "empty"), ("a\0b", "null"), ("a\udcff", "UTF-8"), ("~nobody-at-all/a", "no such user"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            user_path(path)


KILL_AT_RANDOM = """
for n in range(10**6):
    append_text(Path(sys.argv[1]) / "log", f"{n}\\n" * 2000)
    replace_text(Path(sys.argv[1]) / "text", f"{n}\\n" * 2000)
    with replaced_folder(Path(sys.argv[1]) / "folder") as partial:
        for name in "ab":
            (partial / name).write_text(f"{n}")
    print(n, flush=True)
"""


@pytest.mark.parametrize("after", [0.0, 0.013, 0.031])
def test_a_kill_at_any_moment_leaves_all_that_was_written_before(tmp_path, after):
    process = python(KILL_AT_RANDOM, tmp_path)
    process.stdout.readline()
    time.sleep(after)
    process.kill()
    done = max([0, *map(int, process.communicate()[0].split())])
    drop_torn_end(tmp_path / "log")
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[: 2000 * (done + 1)] == [f"{n}" for n in range(done + 1) for _ in range(2000)]
    text = (tmp_path / "text").read_text().splitlines()
    assert len(text) == 2000 and len(set(text)) == 1 and int(text[0]) >= done
    pair = {(tmp_path / "folder" / name).read_text() for name in "ab"}
    assert len(pair) == 1 and int(*pair) >= done


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def test_leftovers_of_a_killed_process_go_from_the_cache_and_the_rest_stays(kept):
    process = python(KILLED, kept / "other.safetensors")
    process.communicate()
    assert len(names(kept)) == 1
    keep_tensors("mine", {"x": torch.zeros(3)})
    assert names(kept) == ["mine.safetensors"]


def test_a_full_disk_keeps_the_cache_silent_and_what_it_has(kept):
    keep_tensors("mine", {"x": torch.zeros(3)})
    with largest_file(5000):
        keep_tensors("mine", {"x": torch.ones(9000)})
        keep_tensors("new", {"x": torch.ones(9000)})
    assert names(kept) == ["mine.safetensors"]
    assert kept_tensors("mine", lambda tensors: True)["x"].sum() == 0


def test_scratch_folders_of_processes_that_are_gone_go_and_others_stay(kept):
    gone = python("")
    gone.communicate()
    mine = scratch_folder()
    for number in (gone.pid, os.getpid(), os.getppid()):
        (kept / f"tmp-{number}-abc" / "inner").mkdir(parents=True)
    (kept / "tmp-mine-notes").mkdir()
    with scratch_folder() as new:
        left = {name for name in names(kept) if name.endswith("-abc")}
        assert left == {f"tmp-{os.getppid()}-abc"}
        assert os.path.isdir(new) and os.path.isdir(mine.name)  # noqa: PTH112
        assert "tmp-mine-notes" in names(kept)
    mine.cleanup()
    assert names(kept) == [f"tmp-{os.getppid()}-abc", "tmp-mine-notes"]


def test_the_bench_keeps_earlier_measurements_and_refuses_a_file_of_something_else(
    file, tmp_path, monkeypatch
):
    from tests.bench import __main__ as bench

    out = tmp_path / "bench.json"
    monkeypatch.setattr(bench, "machine", dict)
    monkeypatch.setattr(bench, "measure", lambda part, repeats: [part, repeats])
    bench.run(["speed"], 1, out)
    bench.run(["growth"], 2, out)
    found = json.loads(out.read_text())
    assert found["speed"] == ["speed", 1] and found["growth"] == ["growth", 2]
    before = out.read_bytes()
    monkeypatch.setattr(bench, "measure", lambda part, repeats: {1, 2})  # is no JSON
    with pytest.raises(TypeError):
        bench.run(["speed"], 1, out)
    assert out.read_bytes() == before and len(names(tmp_path)) == 2
    monkeypatch.setattr(bench, "machine", lambda: pytest.fail("this is told before any work"))
    for content in ("notes", '["machine"]', "{}"):
        file.write_text(content)
        with pytest.raises(InputError, match=r"file\.txt (cannot be|does not contain)"):
            bench.run(["speed"], 1, file)
        assert file.read_text() == content
    with pytest.raises(WriteError, match="not a folder"):
        bench.run(["speed"], 1, file / "bench.json")
