"""Nothing that computes goes without a test that holds it to its equation."""

import ast
import inspect
import re
from abc import ABC
from pathlib import Path

import pytest
from registry import REDUCTIONS, REFERENCES

from rairl_lightning import components, functional

TESTS = Path(__file__).parents[1]
INDEPENDENT = re.compile(r"^(import|from) (numpy|sklearn|reference)", re.MULTILINE)
TABLES = (REFERENCES, REDUCTIONS)
REGISTERED = {name: test for table in TABLES for test, names in table.items() for name in names.split()}
HEADS = TESTS.parent / "rairl_lightning" / "models" / "heads.py"


def computing() -> set[str]:
    """Public functions of ``functional``, concrete components, and heads; data and roles compute nothing."""
    functions = {name for name in functional.__all__ if inspect.isfunction(getattr(functional, name))}
    swappable = [getattr(components, name) for name in components.__all__]
    parts = {c.__name__ for c in swappable if issubclass(c, ABC) and not inspect.isabstract(c)}
    classes = [node for node in ast.parse(HEADS.read_text()).body if isinstance(node, ast.ClassDef)]
    return functions | parts | {c.name for c in classes if "HeadSpec" in {getattr(b, "id", "") for b in c.bases}}


def unregistered(names: set[str]) -> set[str]:
    return names - REGISTERED.keys()


def reached(source: str, test: str) -> tuple[set[str], str]:
    """The names that a test reads, through the fixtures, helpers and tables of its file, and the source of all that.

    Raises:
        KeyError: the file has no such test.
    """
    definitions: dict[str, ast.stmt] = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            definitions[statement.name] = statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            definitions |= {alias.asname or alias.name: statement for alias in statement.names}
        elif isinstance(statement, ast.Assign):
            targets = [node for target in statement.targets for node in ast.walk(target)]
            definitions |= {node.id: statement for node in targets if isinstance(node, ast.Name)}
    lines, names = source.splitlines(), set()
    text, waiting, seen = "", [definitions[test]], []
    while waiting:
        statement = waiting.pop()
        if statement in seen:
            continue
        seen.append(statement)
        text += "\n".join(["", *lines[statement.lineno - 1 : statement.end_lineno]])  # with the comments
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue  # the source of an import tells what is independent; what else it imports is not read
        nodes = list(ast.walk(statement))
        own = {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}
        own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
        names |= own
        waiting += [definitions[name] for name in sorted(own & definitions.keys())]
    return names, text


def tells_apart(check: ast.Assert | ast.With) -> bool:
    """Whether a check wants something to fail, to differ, or to be the only one of several that agrees."""
    parts = [check.test] if isinstance(check, ast.Assert) else [item.context_expr for item in check.items]
    for node in (node for part in parts for node in ast.walk(part)):
        match node:
            case ast.Compare(ops=[ast.NotEq() | ast.Lt() | ast.Gt(), *_]):
                return True
            case ast.Compare(ops=[ast.Eq()], comparators=[ast.List(elts=[_])]):
                return True
            case ast.UnaryOp(op=ast.Not()) | ast.Attribute(attr="raises"):
                return True
    return False


def has_control(text: str) -> bool:
    """Whether a check that is called a control, on it or up to two lines above, tells something apart."""
    said = [number for number, line in enumerate(text.splitlines(), 1) if "control" in line]
    checks = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assert | ast.With)]
    near = [one for one in checks for at in said if one.lineno - 2 <= at <= (one.end_lineno or one.lineno)]
    return any(tells_apart(one) for one in near)


def faults(test: str, claimed: str, needs_reference: bool) -> list[str]:
    """What is wrong with one entry of the registry."""
    file, _, name = test.partition("::")
    try:
        names, text = reached((TESTS / file).read_text(), name)
    except (OSError, KeyError) as error:
        return [f"{test} is not there: {error!r}"]
    found = [f"{test} does not read {one}" for one in claimed.split() if one not in names]
    if needs_reference:
        found += [] if INDEPENDENT.search(text) else [f"{test} has no reference"]
        found += [] if has_control(text) else [f"{test} has no negative control"]
    return found


def test_everything_that_computes_has_a_test():
    assert not unregistered(computing()), "name the test that holds it to its equation in tests/reference/registry.py"
    assert unregistered({"kl_k4", "kl_k3"}) == {"kl_k4"}  # control
    assert len(computing()) > 100


def test_nothing_is_registered_that_is_gone():
    assert not REGISTERED.keys() - computing()
    assert sum(len(names.split()) for table in TABLES for names in table.values()) == len(REGISTERED)


@pytest.mark.parametrize("table", TABLES)
def test_the_registered_tests_are_what_they_are_said_to_be(table):
    assert not [fault for test, names in table.items() for fault in faults(test, names, table is REFERENCES)]


def test_a_wrong_entry_is_found():
    """Controls of the gate itself."""
    tokens = "components/test_policy_equations.py::test_tokens_agree_with_the_equations"
    assert faults(tokens, "clipped_surrogate", True) == []
    assert faults(tokens, "pass_at_k", True) == [f"{tokens} does not read pass_at_k"]
    assert "is not there" in faults(f"{tokens}_at_all", "clipped_surrogate", True)[0]
    weak = "components/test_critics.py::test_terms_add_up"
    assert faults(weak, "TwoHead", False) == []
    assert faults(weak, "TwoHead", True) == [f"{weak} has no negative control"]
    plain = "components/test_labelling.py::test_experts_only"
    assert faults(plain, "ExpertsOnly", True)[0] == f"{plain} has no reference"
    imported = "import numpy as np\nfrom ours import f\n\ndef test_it():\n    # control\n    assert np.ones(1)\n"
    assert "f" not in reached(imported, "test_it")[0], "an import is not a use"


@pytest.mark.parametrize(
    ("lines", "is_one"),
    [
        ("assert f(1) != 2  # control", True),
        ("assert not f(1), 'control'", True),
        ("with pytest.raises(AssertionError):  # control\n        check(f)", True),
        ("assert [k for k, v in given if f(k) == v] == [name]  # controls", True),
        ("# control: the wrong one\n    wrong = f(2)\n    assert f(1) != wrong", True),
        ("# control\n    assert f(1) == 1", False),
        ("control = f(1)\n    assert control == 1", False),
        ("assert f(1) != 2", False),
        ("assert f(1) != 2\n    assert f(1) == 1\n    assert f(3) == 3  # control", False),
        ("with torch.no_grad():  # control\n        f(1)", False),
    ],
)
def test_a_control_is_a_check_and_not_a_word(lines, is_one):
    assert has_control(f"def test_it():\n    {lines}\n") is is_one


def test_the_references_import_nothing_of_ours():
    files = sorted(Path(__file__).parent.glob("reference_*.py"))
    assert len(files) > 10
    for file in files:
        roots = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                roots.add((node.module or "").partition(".")[0])
        assert roots <= {"numpy", "math", "itertools", "collections", "fractions"}, file.name
