"""Writes are atomic, after a kill between any two calls, and damage is detected."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from nashward.errors import CorruptFileError
from nashward.llm.store import files
from nashward.llm.store.files import (
    append_jsonl,
    atomic_folder,
    atomic_write,
    read_jsonl,
    read_shard,
    recover,
    shards,
    verify_checksums,
    write_checksums,
    write_shard,
)

PROMPTS = [f"Say {i} things{'!' * (i % 4)}" for i in range(10)]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("before", [None, "old"])
def test_a_folder_is_the_old_or_the_new_one_after_a_kill_at_any_call(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.rename
    seen = set()
    for at in (1, 2):
        for when in ("before", "after"):
            home = tmp_path / f"{at} {when}"
            if before is not None:
                (home / "thing").mkdir(parents=True)
                (home / "thing" / "a").write_text(before)
            calls = 0

            def rename(path: Path, target: Any, at: int = at, when: str = when) -> Any:
                nonlocal calls
                calls += 1
                if calls == at and when == "before":
                    raise Killed
                result = real(path, target)
                if calls == at:
                    raise Killed
                return result

            with monkeypatch.context() as patch:
                patch.setattr(Path, "rename", rename)
                patch.setattr(files, "recover", lambda *given: None)  # a dead process does not
                try:
                    with atomic_folder(home / "thing") as unfinished:
                        (unfinished / "a").write_text("new")
                except Killed:
                    pass
            recover(home)
            content = (home / "thing" / "a").read_text() if (home / "thing").exists() else None
            assert content in (before, "new")
            seen.add(content)
            assert [entry.name for entry in home.iterdir()] == (["thing"] if content else [])
    assert seen == {before, "new"}


def test_the_content_and_the_name_are_on_the_disk_before_the_next_thing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{handle}"))
        calls.append(f"sync {'folder' if name.is_dir() else 'file'}")
        fsync(handle)

    def replaced(path: Path, target: Any) -> Path:
        calls.append("rename")
        return replace(path, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("tells what is synced through /proc")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_shard(tmp_path, "start", 0, [{"a": 1}])
    assert calls == ["sync file", "rename", "sync folder"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    """As root a rename would put a file in the place of ``/dev/null``."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with atomic_write(pipe) as unfinished:
        unfinished.write_bytes(b"content")
    reader.join(timeout=10)
    assert read == [b"content"]
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_replaced(there: bool, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("file", "folder"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    if there:
        (tmp_path / "disk" / "file").write_text("old")
        (tmp_path / "disk" / "folder").mkdir()
    with atomic_write(tmp_path / "file") as unfinished:
        unfinished.write_text("new")
    with atomic_folder(tmp_path / "folder") as unfinished:
        (unfinished / "inside").write_text("new")
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert (tmp_path / "disk" / "file").read_text() == (tmp_path / "disk" / "folder" / "inside").read_text() == "new"
    assert sorted(os.listdir(tmp_path / "disk")) == ["file", "folder"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_every_file_of_a_folder_has_the_mode_that_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "folder") as unfinished:
            (unfinished / "inside").touch(0o600)  # as safetensors writes
    finally:
        os.umask(before)
    assert (tmp_path / "folder" / "inside").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_damage_of_any_kind_is_seen(damage: str, tmp_path: Path) -> None:
    file = write_shard(tmp_path, "start", 3, [{"a": k, "b": "x" * k} for k in range(50)])
    assert file.name.startswith("start.00003.")
    assert read_shard(file, ["a"]) == [{"a": k} for k in range(50)]
    assert shards(tmp_path, "start") == [file] == shards(tmp_path, "*", 3)
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        file.write_bytes(content[:place] if damage == "cut" else changed)
        with pytest.raises(CorruptFileError, match="was altered or cut"):
            read_shard(file)


def test_checksums_are_those_that_sha256sum_reads(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    write_checksums(tmp_path)
    verify_checksums(tmp_path)
    if shutil.which("sha256sum"):
        subprocess.run(
            ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True
        )
    sums = (tmp_path / "SHA256SUMS").read_text()
    for name, content in (("a", "3"), ("SHA256SUMS", ""), ("SHA256SUMS", sums[:40]), ("SHA256SUMS", sums[:-3])):
        original = (tmp_path / name).read_text()
        (tmp_path / name).write_text(content)
        with pytest.raises(CorruptFileError):
            verify_checksums(tmp_path)
        (tmp_path / name).write_text(original)
    (tmp_path / "b").unlink()
    with pytest.raises(CorruptFileError, match="is incomplete"):
        verify_checksums(tmp_path)


def test_an_incomplete_line_costs_that_line_alone(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    append_jsonl(file, {"a": "one\u2028line"})
    with file.open("a") as handle:
        handle.write('{"a": "tw')
    append_jsonl(file, {"a": "three"})
    assert read_jsonl(file) == [{"a": "one\u2028line"}, {"a": "three"}]
