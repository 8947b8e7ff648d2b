"""math-verify in a process: right, within its time, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rairl_lightning.errors import ConfigError
from rairl_lightning.text.graders import Grade, Mathematics, mathematics_process
from rairl_lightning.text.graders.mathematics_process import MATHEMATICS, MathematicsProcess
from rairl_lightning.types import Demonstration

HANGS = "9^{9^{9^{9}}}"


def graded(answer: str, gold: str, seconds: float = 20) -> Grade:
    return Mathematics(seconds)(answer, Demonstration("q", "?", "", gold))


def alive(pid: int) -> bool:
    """Whether a process exists, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int) -> bool:
    """Whether a process that is not our child ends soon."""
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    MATHEMATICS.close()
    assert MATHEMATICS.pid is None


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\frac{2}{4}", r"\frac{1}{2}"), ("0.5", r"\frac12"), (r"2\sqrt{2}", r"\sqrt{8}"), ("x^2+2x+1", "(x+1)^2"),
        (r"\{2, 1\}", r"\{1,2\}"), (r"90^\circ", "90"), (r"$\boxed{\frac{\pi}{2}}$", r"\pi/2"), ("x = 5", "5"),
        ("1,000", "1000"),
    ],
)  # fmt: skip
def test_equal_expressions_are_right(answer: str, gold: str) -> None:
    assert graded(answer, gold) is Grade.RIGHT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\sqrt{2}", r"\sqrt{3}"), ("x^2 + 1", "(x+1)^2"), ("[0, 1]", "(0, 1)"), ("(2, 1)", "(1, 2)"), ("hello", "5"),
        (r"$5$ or $\sqrt{36}$", "5"), (r"\boxed{5} \boxed{6}", "5"), (r"5, \sqrt{36}", "5"), ("5 or 6", "5"),
        (r"\frac{1}{2", r"\frac{1}{2}"), ("5} x {", "5"),
    ],
)  # fmt: skip
def test_different_or_several_answers_are_wrong(answer: str, gold: str) -> None:
    assert graded(answer, gold) is Grade.WRONG


def test_numbers_and_equal_texts_never_leave_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics_process, "_asked", None)  # would raise
    assert graded("$1,000.00", "1000") is Grade.RIGHT and graded("999", "1000") is Grade.WRONG
    assert graded("The sky", "the sky") is Grade.RIGHT and graded("1" * 5000, "x") is Grade.UNKNOWN


def test_what_hangs_is_killed_in_time_and_unknown_and_the_next_answer_is_graded() -> None:
    assert graded("x + x", "2x") is Grade.RIGHT
    hung = MATHEMATICS.pid
    started = time.monotonic()
    assert graded(HANGS, "x + 1", seconds=1) is Grade.UNKNOWN
    assert time.monotonic() - started < 30
    assert hung is not None and not alive(hung), "killed, and waited for: not even a zombie"
    assert graded("x + x", "2x") is Grade.RIGHT


def test_one_process_grades_many() -> None:
    assert graded("x + 1", "1 + x") is Grade.RIGHT
    first = MATHEMATICS.pid
    for number in range(200):
        assert graded(f"x + {number}", f"{number} + x") is Grade.RIGHT
    assert MATHEMATICS.pid == first


def test_threads_share_it_and_each_gets_its_own_answer() -> None:
    pairs = [(f"y + {n}", f"{n + n % 2} + y") for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        grades = list(pool.map(lambda pair: graded(*pair), pairs))
    assert grades == [Grade.WRONG if n % 2 else Grade.RIGHT for n in range(40)]


def test_a_process_that_dies_is_replaced() -> None:
    assert graded("x + x", "2x") is Grade.RIGHT
    for _ in range(2):
        assert MATHEMATICS.pid is not None
        os.kill(MATHEMATICS.pid, signal.SIGKILL)
        assert graded("x + x", "2x") is Grade.RIGHT


def test_a_process_that_dies_of_every_question_gives_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("print('ready', flush=True)\ninput()\n")
    monkeypatch.setattr(mathematics_process, "_WORKER", worker)
    assert MathematicsProcess().equal("x", "y", 20) is None


def test_a_process_that_cannot_start_is_an_error_not_a_grade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import no_such_package_as_math_verify\n")
    monkeypatch.setattr(mathematics_process, "_WORKER", worker)
    with pytest.raises(ConfigError, match=r"(?s)math-verify could not be started.*pip install"):
        MathematicsProcess().equal("x", "y", 20)


def test_votes_agree_on_equal_expressions() -> None:
    grader, asked = Mathematics(), Demonstration("q", "?", "", "5")
    assert grader.same("x + x", "2x", asked) and not grader.same("x", "y", asked)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="time limit"):
        Mathematics(seconds)


SCRIPT = """
import os, sys
from rairl_lightning.text.graders.mathematics_process import MATHEMATICS
assert MATHEMATICS.equal("2x", "x + x", 20)
print(MATHEMATICS.pid, flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_it_is_gone_when_python_is_even_without_a_goodbye(then: str) -> None:
    """Without ``if __name__``: nothing imports the script again."""
    run = subprocess.run([sys.executable, "-c", SCRIPT.format(then=then)], capture_output=True, text=True, check=False)
    assert run.stdout, run.stderr
    assert gone(int(run.stdout)) and not run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_has_a_process_of_its_own() -> None:
    then = """
parent, child = MATHEMATICS.pid, os.fork()
if child == 0:
    assert MATHEMATICS.pid is None and MATHEMATICS.equal("2y", "y + y", 20) and MATHEMATICS.pid != parent
    MATHEMATICS.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert MATHEMATICS.equal("2z", "z + z", 20) and MATHEMATICS.pid == parent
"""
    script = SCRIPT.format(then=then)
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0 and not run.stderr, run.stderr


def test_every_question_brings_its_own_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, sys\nprint('ready', flush=True)\nfor line in sys.stdin: print(json.loads(line)[2], flush=True)\n"
    )
    monkeypatch.setattr(mathematics_process, "_WORKER", worker)
    process = MathematicsProcess()
    assert [process.equal("x", "y", seconds) for seconds in (5, 60, 20.5)] == [15, 70, 31]
    process.close()


WORKER = Path(mathematics_process.__file__).with_name("mathematics_worker.py")
GREEDY = f"""
import runpy
worker = runpy.run_path({str(WORKER)!r})
worker["main"].__globals__["_read"] = lambda text: [text, bytearray({{}})][:1]
worker["main"].__globals__["math_verify"] = None
worker["main"]()
"""


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="this system does not tell limits")
def test_its_memory_is_limited() -> None:
    assert graded("x + x", "2x") is Grade.RIGHT
    limits = Path(f"/proc/{MATHEMATICS.pid}/limits").read_text().splitlines()
    (row,) = [line for line in limits if line.startswith("Max address space")]
    assert row.split()[3] == str(2 * 2**30)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is the system's")
@pytest.mark.parametrize(("size", "equal"), [(2**10, True), (3 * 2**30, None)])
def test_what_takes_too_much_memory_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, equal: bool | None
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(GREEDY.format(size))
    monkeypatch.setattr(mathematics_process, "_WORKER", worker)
    process = MathematicsProcess()
    assert process.equal("x", "x", 20) is equal
    pid = process.pid
    assert process.equal("x", "x", 20) is equal and process.pid == pid, "it goes on with the next"
    process.close()
