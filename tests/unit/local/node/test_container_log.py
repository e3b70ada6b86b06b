"""Log files of containers."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_local.node import container_log
from diffusion_local.node.container_log import (
    LONGEST_LINE,
    LogReader,
    LogWriter,
    log_tail,
    remove_log,
    shown,
    since,
    whole_lines,
)


def write(path: Path, *chunks: bytes) -> list[bytes]:
    writer = LogWriter(path)
    for chunk in chunks:
        writer.feed(chunk)
    writer.close()
    return whole_lines(path.read_bytes())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab\n", max_size=8).map(str.encode), max_size=6))
def test_what_was_written_is_shown(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    lines = write(tmp_path_factory.mktemp("log") / "0.log", *chunks)
    assert b"".join(shown(line, timestamps=False) for line in lines) == b"".join(chunks)


def test_lines_are_stamped(tmp_path: Path) -> None:
    (line,) = write(tmp_path / "0.log", b"one ", b"line\n")
    stamp, rest = shown(line, timestamps=True).split(b" ", 1)
    assert stamp.endswith(b"Z")
    assert rest == b"one line\n"
    assert line.split(b" ")[1:3] == [b"stdout", b"F"]


def test_very_long_lines_are_split_and_come_back_whole(tmp_path: Path) -> None:
    text = b"x" * (3 * LONGEST_LINE + 5)
    lines = write(tmp_path / "0.log", text + b"\n", text)
    assert b"".join(shown(line, timestamps=False) for line in lines) == text + b"\n" + text


def test_old_lines_are_left_out() -> None:
    lines = [b"2026-01-01T00:00:00.000001Z stdout F old", b"2026-01-01T00:00:09.5Z stdout F new"]
    assert list(since(lines, None)) == lines
    assert list(since(lines, 1767225605.0)) == lines[1:]


def test_the_tail_is_short(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    assert log_tail(path) == ""
    write(path, b"".join(b"line %d\n" % number for number in range(500)))
    assert log_tail(path).splitlines()[0] == "line 420"
    write(path, b"y" * 5000)
    assert log_tail(path) == "y" * 2048


def test_a_full_file_gives_way_and_who_follows_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_log, "LARGEST_FILE", 500)
    path = tmp_path / "0.log"
    writer, heard = LogWriter(path), []
    reader = LogReader(path)
    for number in range(100):
        writer.feed(b"line %d\nand" % number)
        if number % 3 == 0:
            heard += reader.lines()
    writer.close()
    heard += reader.lines()
    text = b"".join(shown(line, timestamps=False) for line in heard)
    assert text == b"and".join(b"line %d\n" % number for number in range(100)) + b"and"
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * 500
    newest = whole_lines(path.read_bytes())
    assert heard[-len(newest) :] == newest
    remove_log(path)
    assert reader.lines() == []
    reader.close()
    assert not any(tmp_path.iterdir())
