"""When there is a library, where it is kept, and what is said when there is none."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from rairl_lightning.native import compiling, decoding, library, why_not

ELSE = "int rairl_answer() { return 42; }"


def found(name: str = "decoding"):
    """As in a new process."""
    return compiling._found.__wrapped__(name)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RAIRL_NATIVE", raising=False)
    return tmp_path / "cache" / "rairl_lightning"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a library that compiles in no time."""
    if not decoding.available():
        pytest.skip(f"no compiled code here: {why_not('decoding')}")
    folder = tmp_path / "cpp"
    folder.mkdir()
    (folder / "answer.cpp").write_text(f'extern "C" {ELSE}', encoding="utf-8")
    monkeypatch.setattr(compiling, "SOURCES", folder)
    return folder


def compiler(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_one_library_a_process_and_a_reason_where_there_is_none() -> None:
    assert library("decoding") is library("decoding")
    assert (library("decoding") is None) == bool(why_not("decoding"))


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAIRL_NATIVE", "0")
    assert found() == (None, "RAIRL_NATIVE=0")


def test_without_a_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert found()[0] is None and "no C++ compiler (c++, g++, clang++" in found()[1]


def test_a_compiler_that_fails_is_quoted(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "broken", "echo 'no such architecture' >&2; exit 1"))
    nothing, why = found()
    assert nothing is None and "no such architecture" in why and list(cache.iterdir()) == []


def test_a_compiler_that_never_ends(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "SECONDS", 0.5)
    monkeypatch.setenv("CXX", compiler(tmp_path / "slow", '[ "$1" = --version ] || exec sleep 60'))
    nothing, why = found()
    assert nothing is None and "timed out" in why


def test_it_is_compiled_once(cache: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = compiling._compiler(), tmp_path / "calls"
    monkeypatch.setenv("CXX", compiler(tmp_path / "counted", f'echo "$1" >> {calls}; exec {real} "$@"'))
    for _ in range(2):
        made, why = found("answer")
        assert made is not None and made.rairl_answer() == 42, why
    compiled = [line for line in calls.read_text().splitlines() if line != "--version"]
    assert len(compiled) == 1 and len(list(cache.iterdir())) == 1
    (sources / "answer.cpp").write_text(f'extern "C" {ELSE.replace("42", "43")}', encoding="utf-8")
    assert found("answer")[0].rairl_answer() == 43, "other sources, another library"
    assert len(list(cache.iterdir())) == 2


def test_processes_that_start_together(cache: Path, sources: Path) -> None:
    code = (
        "from pathlib import Path; from rairl_lightning.native import compiling\n"
        f"compiling.SOURCES = Path({str(sources)!r})\n"
        "print(compiling.library('answer').rairl_answer())"
    )
    command = [os.sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [one.communicate(timeout=120)[0].strip() for one in running] == ["42"] * 3
    assert len(list(cache.iterdir())) == 1


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files here")
def test_a_folder_that_others_may_write_to_holds_no_code_of_ours(cache: Path, sources: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert compiling.cache_folder() is None
    assert found("answer")[0].rairl_answer() == 42 and list(cache.iterdir()) == []
    cache.chmod(0o755)
    assert compiling.cache_folder() == cache
    found("answer")
    assert len(list(cache.iterdir())) == 1


def test_a_new_folder_is_its_owners(cache: Path) -> None:
    assert compiling.cache_folder() == cache and stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_a_home_that_cannot_be_written_to(cache: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.write_text("no folder", encoding="utf-8")
    assert compiling.cache_folder() is None and found("answer")[0].rairl_answer() == 42


def test_another_cpu_compiles_anew(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = compiling._digest(compiling._compiler())
    assert here == compiling._digest(compiling._compiler())
    monkeypatch.setattr(compiling, "_processor", lambda: "another")
    assert compiling._digest(compiling._compiler()) != here


def test_it_compiles_without_warnings_for_other_cpus(tmp_path: Path) -> None:
    if not decoding.available():
        pytest.skip(f"no compiled code here: {why_not('decoding')}")
    for source in sorted(compiling.SOURCES.glob("*.cpp")):
        for target in ("-mavx512f -mfma -mf16c", "-mavx2 -mfma", "-msse2 -Wno-psabi"):
            flags = [flag for flag in compiling.FLAGS if flag != "-march=native" and flag != "-shared"]
            command = [compiling._compiler(), *flags, *target.split(), "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
            done = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=120, check=False)
            if "unrecognized command" in done.stderr or "unsupported option" in done.stderr:
                pytest.skip("not an x86 compiler")
            assert done.returncode == 0, done.stderr


def test_a_file_that_was_cut_short_is_made_again(cache: Path, sources: Path) -> None:
    kept = cache / f"answer-{compiling._digest(compiling._compiler())}.so"
    cache.mkdir(parents=True, mode=0o700)
    kept.write_bytes(b"\x7fELF and no more")
    assert found("answer")[0].rairl_answer() == 42 and list(cache.iterdir()) == [kept]
    assert kept.stat().st_size > 100


def test_a_folder_that_is_read_only_gives_what_it_has(
    cache: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found("answer")
    (kept,) = cache.iterdir()

    def refused(*arguments: object) -> Path:
        raise PermissionError("read-only")

    monkeypatch.setattr(compiling, "_compiled", refused)
    assert found("answer")[0].rairl_answer() == 42
    kept.unlink()
    assert found("answer") == (None, "read-only")


def test_without_a_home(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert compiling.cache_folder() is None and found("answer")[0].rairl_answer() == 42
