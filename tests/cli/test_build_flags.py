"""`microbp --cflags --libs`: words for a C compiler, from the installed package alone."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

import microbp as bp
from microbp.cli import build_flags
from microbp.cli.main import main

HEADERS, LIBRARY = bp.get_include(), bp.get_library_dir()


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert (exit_.value.code, err, out.count("\n")) == (0, "", 1)
    return out.rstrip("\n")


def test_each_option_prints_its_words(capsys):
    assert printed(capsys, "--includes") == printed(capsys, "--cflags") == f"-I{HEADERS}"
    assert printed(capsys, "--libs").split()[:2] == [f"-L{LIBRARY}", "-lmicrobp"]
    assert (Path(printed(capsys, "--cmakedir")) / "microbpConfig.cmake").is_file()


def test_several_options_print_one_line_with_the_flags_first(capsys):
    line = f"{printed(capsys, '--cflags')} {printed(capsys, '--libs')}"
    assert printed(capsys, "--cflags", "--libs") == printed(capsys, "--libs", "--cflags") == line


def test_the_help_explains_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert set(build_flags.OPTIONS) <= set(capsys.readouterr().out.split())


def test_a_moved_package_with_a_blank_in_its_path(capsys, tmp_path, monkeypatch):
    """The words are quoted as a shell reads them."""
    moved = tmp_path / "my programs" / "lib"
    shutil.copytree(Path(LIBRARY, "pkgconfig"), moved / "pkgconfig")
    monkeypatch.setattr(build_flags, "get_library_dir", lambda: str(moved))
    words = shlex.split(printed(capsys, "--cflags", "--libs"))
    assert words[:3] == [f"-I{moved.parent / 'include'}", f"-L{moved}", "-lmicrobp"]
