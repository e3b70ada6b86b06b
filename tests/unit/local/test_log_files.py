"""Reading logs from their end, and on."""

from pathlib import Path

import pytest

from diffusion_local.log_files import read_log


@pytest.mark.parametrize(("lines", "expected"), [(None, "a\nb\nc"), (0, ""), (1, "c"), (2, "b\nc"), (9, "a\nb\nc")])
def test_the_tail_of_a_log(tmp_path: Path, lines: int | None, expected: str) -> None:
    file = tmp_path / "log"
    file.write_text("a\nb\nc")
    shown: list[str] = []
    read_log(file, lines, shown.append, follow=False)
    assert shown == [expected]


def test_what_comes_while_the_end_is_shown_is_shown_too_and_following_ends_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("old\nlast\n")
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        if text == "new\n":
            file.unlink()
        else:
            with file.open("a") as stream:
                stream.write("new\n")

    read_log(file, 1, show, follow=True)
    assert shown == ["last\n", "new\n"]


def test_what_was_written_just_before_the_file_went_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log"
    file.write_text("")
    shown: list[str] = []

    def end(_: float) -> None:
        file.write_text("the last words\n")
        file.unlink()

    monkeypatch.setattr("time.sleep", end)
    read_log(file, 0, shown.append, follow=True)
    assert "".join(shown) == "the last words\n"
