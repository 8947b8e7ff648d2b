"""What the pages tell to do is done, and gives what they show."""

from __future__ import annotations

from pathlib import Path

import page_commands as pages
import pytest

EXECUTED = (
    "tutorial.md",
    "how-to/data-set.md",
    "how-to/discriminator-loss.md",
    "how-to/sampler.md",
    "how-to/single-gpu.md",
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", EXECUTED)
def test_a_page_does_what_it_says(name: str, root: Path, tmp_path: Path) -> None:
    done = pages.run((root / "docs" / name).read_text(), tmp_path, root)
    assert done, "the page has commands"


def test_every_page_with_commands_to_run_is_run(root: Path) -> None:
    found = {
        str(file.relative_to(root / "docs"))
        for file in (root / "docs").rglob("*.md")
        if any(isinstance(step, pages.Command) for step in pages.steps(file.read_text()))
    }
    assert found == set(EXECUTED)


PAGE = """
```python title="say.py"
print("1 row, loss 0.25")
print("| a  | 3.5 (1.0–2.0) |")
```

```console
$ python say.py \\
      --quietly
1 row, loss 0.99
…
$ echo a; echo b
b
```
"""


def test_files_and_commands_are_found() -> None:
    file, say, echo = pages.steps(PAGE)
    assert isinstance(file, pages.File) and file.name == "say.py" and file.text.count("\n") == 2
    assert isinstance(say, pages.Command) and say.line == "python say.py \\\n      --quietly"
    assert say.shown == ["1 row, loss 0.99", "…"] and isinstance(echo, pages.Command) and echo.shown == ["b"]


def test_a_page_is_run_and_what_it_shows_is_compared(root: Path, tmp_path: Path) -> None:
    for name in ("right", "wrong", "failing"):
        (tmp_path / name).mkdir()
    (_, said), _ = pages.run(PAGE, tmp_path / "right", root)
    assert "loss 0.25" in said
    with pytest.raises(AssertionError, match="The page also shows: 2 rows"):  # controls
        pages.run(PAGE.replace("1 row, loss 0.99", "2 rows, loss 0.25"), tmp_path / "wrong", root)
    with pytest.raises(AssertionError, match="echo a"):
        pages.run(PAGE.replace("echo b", "false"), tmp_path / "failing", root)


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        (["AUROC 0.9"], "AUROC -1.25", True),
        (["AUROC 0.9"], "AUROC 9", False),
        (["3 rows"], "4 rows", False),
        (["┡━━╇━┩", "│ a │ 1 │"], "┡━━━━╇━━┩\n│ a    │ 1  │", True),
        (["a", "b"], "b\na", False),
        (["a … c"], "a b c", True),
        (["a"], "a b", False),
    ],
)
def test_lines_are_compared_by_all_but_decimals_and_widths(shown: list[str], output: str, same: bool) -> None:
    assert (pages.unmatched(shown, output) is None) == same
