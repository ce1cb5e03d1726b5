"""Folders, files, logs and the lock, in a quiet process; tests/faults/ holds what happens in a storm."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cutaway import store
from cutaway.errors import (
    CheckpointSaveError,
    FileFormatError,
    InputMissingError,
    OutputExistsError,
    RunLockedError,
    SaveError,
)
from cutaway.store import disk, files

PARTS = {"model.bin": bytes(range(256)) * 9, "deep/er/index.json": b'{"a": 1}\n', "empty": b""}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(disk, "RETRY_SECONDS", (0.0, 0.0, 0.0))


def fill(folder: Path) -> None:
    for name, data in PARTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def failing(times: int, number: int = errno.EIO):
    """A `fill` that fails a number of times, half-way, before it succeeds."""
    calls = []

    def fill_or_fail(folder: Path) -> None:
        calls.append(folder)
        (folder / "half").write_bytes(b"half")
        if len(calls) <= times:
            raise OSError(number, os.strerror(number))

    fill_or_fail.calls = calls
    return fill_or_fail


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# folders


def test_a_folder_holds_what_was_filled_in_and_its_manifest(tmp_path):
    target = tmp_path / "a/b/step-10"
    store.write_folder(target, fill, need=2_000)
    assert {name: (target / name).read_bytes() for name in PARTS} == PARTS
    record = json.loads((target / "manifest.json").read_text())
    assert record["format"] == 1 and record["files"].keys() == PARTS.keys()
    assert record["files"]["model.bin"]["size"] == 2_304
    assert names(target.parent) == ["step-10"]
    store.verify_folder(target)
    store.verify_sizes(target)


@pytest.mark.parametrize("there", ["full folder", "empty folder", "file", "dangling link"])
def test_what_is_there_is_never_replaced(tmp_path, there):
    target = tmp_path / "step-10"
    match there:
        case "full folder":
            store.write_folder(target, fill)
        case "empty folder":
            target.mkdir()
        case "file":
            target.write_bytes(b"x")
        case "dangling link":
            target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError, match="already exists"):
        store.write_folder(target, lambda folder: pytest.fail("nothing may be written"))
    assert names(tmp_path) == ["step-10"]


def test_a_target_that_appears_meanwhile_is_left_alone(tmp_path):
    def fill_slowly(folder: Path) -> None:
        (tmp_path / "step-10").mkdir()
        (tmp_path / "step-10/theirs").touch()

    with pytest.raises(OutputExistsError):
        store.write_folder(tmp_path / "step-10", fill_slowly)
    assert names(tmp_path) == ["step-10"] and names(tmp_path / "step-10") == ["theirs"]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_passing_fault_is_tried_again_in_a_fresh_folder(tmp_path, times):
    fill_or_fail = failing(times)
    store.write_folder(tmp_path / "step-10", fill_or_fail)
    assert len(set(fill_or_fail.calls)) == times + 1
    store.verify_folder(tmp_path / "step-10")
    assert names(tmp_path) == ["step-10"]


def test_a_lasting_fault_ends_after_three_retries_with_nothing_left(tmp_path):
    store.write_folder(tmp_path / "step-10", fill)
    fill_or_fail = failing(99, errno.ENOSPC)
    with pytest.raises(CheckpointSaveError) as caught:
        store.write_folder(tmp_path / "step-20", fill_or_fail, need=1_000, failure=CheckpointSaveError)
    assert len(fill_or_fail.calls) == 4 and caught.value.exit_code == 74
    assert "need 1,000 bytes" in str(caught.value) and "No space left" in str(caught.value)
    assert "step-20" in str(caught.value) and "\n" not in str(caught.value)
    assert names(tmp_path) == ["step-10"]
    store.verify_folder(tmp_path / "step-10")


def test_a_fault_that_waiting_cannot_mend_is_not_tried_again(tmp_path):
    fill_or_fail = failing(99, errno.EROFS)
    with pytest.raises(SaveError, match="Read-only"):
        store.write_folder(tmp_path / "step-10", fill_or_fail)
    assert len(fill_or_fail.calls) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_other_errors_pass_through_with_nothing_left(tmp_path, error):
    def fill_and_break(folder: Path) -> None:
        fill(folder)
        raise error

    with pytest.raises(error):
        store.write_folder(tmp_path / "step-10", fill_and_break)
    assert names(tmp_path) == []


def test_too_little_room_is_found_before_anything_is_written(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(SaveError, match="No space left"):
        store.write_folder(tmp_path / "step-10", lambda folder: pytest.fail("written"), need=free)
    store.write_folder(tmp_path / "step-10", fill, need=free // 2)


def mutate(folder: Path, draw: random.Random) -> str:
    """One random damage to a folder; returns what was done."""
    everything = [path for path in folder.rglob("*") if path.is_file()]
    path = draw.choice(everything)
    data = bytearray(path.read_bytes())
    match draw.choice(["flip", "flip", "byte", "cut", "grow", "delete", "extra", "rename", "swap"]):
        case "flip" if data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        case "byte" if data:
            place = draw.randrange(len(data))
            data[place] = (data[place] + draw.randrange(1, 256)) % 256
        case "cut" if data:
            del data[draw.randrange(len(data)) :]
        case "delete":
            path.unlink()
            return f"delete {path.name}"
        case "extra":
            (path.parent / f"extra{draw.randrange(99)}").write_bytes(b"x" * draw.randrange(3))
            return "extra"
        case "rename":
            path.rename(path.with_name("other"))
            return f"rename {path.name}"
        case "swap":
            path, other = everything[0], everything[-1]
            data, swapped = bytearray(other.read_bytes()), path.read_bytes()
            other.write_bytes(swapped)
        case _:
            data.insert(draw.randrange(len(data) + 1), draw.randrange(256))
    path.write_bytes(data)
    return f"change {path.name}"


def restore(folder: Path, contents: dict[Path, bytes]) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in contents]:
        path.unlink()
    for path, data in contents.items():
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutations_are_all_detected(tmp_path, count):
    """reliability T5: flips, cuts, additions, deletions, renamings of any file, the manifest among them."""
    folder = tmp_path / "step-10"
    store.write_folder(folder, fill)
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    draw, missed = random.Random(count), []
    for _ in range(count):
        done = mutate(folder, draw)
        try:
            store.verify_folder(folder)
            missed.append(done)
        except FileFormatError:
            restore(folder, contents)
            store.verify_sizes(folder)
    assert not missed


def test_the_right_file_is_named(tmp_path):
    target = tmp_path / "step-10"
    store.write_folder(target, fill)
    store.verify_folder(target)  # negative control: undamaged, it passes
    model = target / "model.bin"
    data = model.read_bytes()
    model.write_bytes(data[:-1] + b"!")
    store.verify_sizes(target)
    with pytest.raises(FileFormatError, match=r"model\.bin: SHA-256"):
        store.verify_folder(target)
    model.write_bytes(data[:-1])
    with pytest.raises(FileFormatError, match=r"model\.bin: 2,303 bytes, but manifest\.json says 2,304"):
        store.verify_sizes(target)
    model.unlink()
    with pytest.raises(FileFormatError, match=r"model\.bin: missing"):
        store.verify_sizes(target)
    model.symlink_to(target / "empty")
    with pytest.raises(FileFormatError, match=r"model\.bin: not a plain file"):
        store.verify_sizes(target)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"format": 1, "files": []}',
        b'{"format": 1, "files": {"a": 1}}',
    ],
)
def test_a_manifest_that_is_none(tmp_path, manifest):
    (tmp_path / "manifest.json").write_bytes(manifest)
    with pytest.raises(FileFormatError, match=r"manifest\.json"):
        store.verify_folder(tmp_path)


def test_unknown_formats_and_missing_folders(tmp_path):
    store.write_folder(tmp_path / "a", fill)
    manifest = tmp_path / "a/manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(FileFormatError, match="format 2, but this cutaway reads 1"):
        store.verify_folder(tmp_path / "a")
    with pytest.raises(InputMissingError, match="no such folder"):
        store.verify_folder(tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(FileFormatError, match="incomplete"):
        store.verify_folder(tmp_path / "c")


def test_sweeping_takes_what_dead_processes_left_and_nothing_else(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host = disk.host_name()
    dead = tmp_path / f".step-10.tmp-{host}-{child.pid}-0123abcd"
    dead_file = tmp_path / f".notes.txt.tmp-{host}-{child.pid}-0123abcd"
    kept = [
        f".step-10.tmp-{host}-{os.getpid()}-0123abcd",
        f".step-10.tmp-elsewhere-{child.pid}-0123abcd",
        ".mine.tmp-x",
        "step-9",
    ]
    for path in (dead, *(tmp_path / name for name in kept)):
        path.mkdir()
        (path / "half").touch()
    dead_file.touch()
    assert store.sweep(tmp_path) == sorted([dead, dead_file])
    assert names(tmp_path) == sorted(kept)


# files


def test_a_file_is_replaced_whole(tmp_path):
    target = tmp_path / "runs/spec.json"
    for data in (b"old", b"new" * 1_000, b""):
        store.write_file(target, data)
        assert target.read_bytes() == data and names(target.parent) == ["spec.json"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    target = tmp_path / "spec.json"
    store.write_file(target, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(SaveError, match=r"spec\.json: not saved: No space left"):
        store.write_file(target, b"new")
    assert target.read_bytes() == b"old" and names(tmp_path) == ["spec.json"]


def test_lines_come_back_as_they_were(tmp_path):
    log = tmp_path / "metrics.jsonl"
    assert store.read_lines(log) == []
    lines = ['{"step": 1}', "", "ünïcode \u2028 \x0b \r and more", "x" * 200_000]
    for line in lines:
        store.append_line(log, line)
    store.sync_file(log)
    assert store.read_lines(log) == lines
    with pytest.raises(ValueError, match="newline"):
        store.append_line(log, "two\nlines")


@pytest.mark.parametrize("torn", ["{", "ü".encode()[:1].decode("latin-1"), "x" * 100_000])
def test_a_torn_last_line_is_left_out_and_then_overwritten(tmp_path, torn):
    log = tmp_path / "metrics.jsonl"
    store.append_line(log, "first")
    with open(log, "ab") as file:
        file.write(torn.encode("latin-1"))
    assert store.read_lines(log) == ["first"]
    store.append_line(log, "second")
    assert log.read_bytes() == b"first\nsecond\n"


def test_a_log_that_is_one_torn_line(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b"{")
    assert store.read_lines(log) == []
    store.append_line(log, "first")
    assert log.read_bytes() == b"first\n"


def test_keeping_the_lines_up_to_a_step(tmp_path):
    log = tmp_path / "metrics.jsonl"
    for step in range(9):
        store.append_line(log, json.dumps({"step": step}))
    with open(log, "ab") as file:
        file.write(b'{"step": 9')
    store.keep_lines(log, lambda line: json.loads(line)["step"] <= 5)
    assert log.read_text() == "".join(f'{{"step": {step}}}\n' for step in range(6))
    before = log.stat().st_ino
    store.keep_lines(log, lambda line: True)
    assert log.stat().st_ino == before
    store.keep_lines(tmp_path / "none.jsonl", lambda line: True)
    assert names(tmp_path) == ["metrics.jsonl"]


def test_a_log_that_is_not_text(tmp_path):
    (tmp_path / "log").write_bytes(b"ok\n\xff\n")
    with pytest.raises(FileFormatError, match="byte 3"):
        store.read_lines(tmp_path / "log")


# lock


def test_a_second_holder_is_told_of_the_first_at_once(tmp_path):
    with store.DirectoryLock(tmp_path / "run"):
        started = time.perf_counter()
        with pytest.raises(RunLockedError) as caught, store.DirectoryLock(tmp_path / "run"):
            pass
        assert time.perf_counter() - started < 1
        assert f"process {os.getpid()} on {disk.host_name()}, started 2" in str(caught.value)
        assert caught.value.exit_code == 73
        with store.DirectoryLock(tmp_path / "other run"):
            pass
    with store.DirectoryLock(tmp_path / "run"):
        pass


def test_a_forked_child_does_not_keep_its_parents_lock(tmp_path):
    """A data-loading worker that outlives a killed trainer must not keep the directory."""
    script = (
        "import os, time\nfrom cutaway.store import DirectoryLock\n"
        f"lock = DirectoryLock({str(tmp_path)!r}).__enter__()\n"
        "if os.fork() == 0: print(os.getpid(), flush=True)\n"  # the worker tells, so it runs already
        "time.sleep(60)\n"
    )
    trainer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    worker = int(trainer.stdout.readline())
    try:
        with pytest.raises(RunLockedError), store.DirectoryLock(tmp_path):
            pass
        trainer.kill()
        trainer.wait()
        os.kill(worker, 0)  # it is still there
        with store.DirectoryLock(tmp_path):
            pass
    finally:
        os.kill(worker, 9)
        trainer.stdout.close()


def test_a_place_that_cannot_be_locked(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="cannot be made"), store.DirectoryLock(tmp_path / "file/run"):
        pass


def test_what_an_unreadable_lock_file_says(tmp_path):
    with store.DirectoryLock(tmp_path):
        (tmp_path / "lock").write_bytes(b"{")
        with pytest.raises(RunLockedError, match="another process"), store.DirectoryLock(tmp_path):
            pass


def test_a_lock_takes_back_what_it_made_where_nothing_came_of_it(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes").touch()
    for folder in ("a/b/c", "there", "there/new"):
        with pytest.raises(KeyError), store.DirectoryLock(tmp_path / folder):
            assert (tmp_path / folder / "lock").exists()
            raise KeyError
    assert names(tmp_path) == ["there"] and names(tmp_path / "there") == ["notes"]


def test_a_lock_takes_nothing_back_that_somebody_may_want(tmp_path):
    with pytest.raises(KeyError), store.DirectoryLock(tmp_path / "run"):
        (tmp_path / "run" / "metrics.jsonl").touch()
        raise KeyError
    assert names(tmp_path / "run") == ["lock", "metrics.jsonl"]
    with store.DirectoryLock(tmp_path / "done"):
        pass
    with pytest.raises(KeyError), store.DirectoryLock(tmp_path / "done"):
        raise KeyError
    assert names(tmp_path / "done") == ["lock"], "it was there before"


def test_a_lock_that_was_taken_back_while_another_opened_it_is_none(tmp_path, monkeypatch):
    """Between open and flock the file may go: a lock on a file without a name keeps nobody out."""
    from fcntl import flock

    calls = []

    def gone(handle, how):
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / "run" / "lock").unlink()
            (tmp_path / "run").rmdir()
        return flock(handle, how)

    monkeypatch.setattr("cutaway.store.lock.fcntl.flock", gone)
    with store.DirectoryLock(tmp_path / "run"):
        assert len(calls) == 2
        with pytest.raises(RunLockedError), store.DirectoryLock(tmp_path / "run"):
            pass


# reading what others wrote


def test_a_file_is_read_up_to_its_bound(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert store.read_file(tmp_path / "x", 5, "recipe") == b"12345"
    with pytest.raises(FileFormatError, match=r"x: more than 4 bytes, which no recipe has; name another"):
        store.read_file(tmp_path / "x", 4, "recipe")
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputMissingError, match="cannot be read"):
            store.read_file(path, 5, "recipe")


REFUSED_JSON = {
    "[1]": "holds [1] where an object belongs",
    '{"a": 1, "a": 2}': "key 'a' stands twice",
    '{"a": NaN}': "NaN is not a number of JSON",
    '{"a": ["\\ud800"]}': "not valid Unicode",
    '{"\\udfff": 1}': "not valid Unicode",
    '{"a": ' + "[" * 16 + "]" * 16 + "}": "nested more than 16 deep",
    '{"a": ' + "9" * 5_000 + "}": "a number is too long",
    '{"a": 1': "not valid JSON",
}


@pytest.mark.parametrize("text", REFUSED_JSON, ids=lambda text: text[:24])
def test_json_is_read_strictly(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(FileFormatError) as refused:
        store.read_object(path)
    assert str(refused.value).startswith(str(path)) and REFUSED_JSON[text] in str(refused.value)


def test_right_json_is_read(tmp_path):
    told = {"a": ["\U0001f642", "\\ud800", "[" * 40, 1.5, None], "": {}}
    for ascii_only in (True, False):
        (tmp_path / "x.json").write_text(json.dumps(told, ensure_ascii=ascii_only), encoding="utf-8")
        assert store.read_object(tmp_path / "x.json") == told
        assert store.read_many(tmp_path / "x.json", (tmp_path / "x.json").read_bytes()) == told
    with pytest.raises(FileFormatError, match="nested too deeply"):
        store.read_many(tmp_path / "x.json", b"[" * 10**6)
