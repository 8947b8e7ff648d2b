"""The process that math-verify runs in: reads ``[gold, answer, seconds]`` lines, writes one JSON value for each.

Run as a script by :mod:`rairl_lightning.text.graders.mathematics_process`, never imported by the package. ``true`` and
``false`` say whether the two are equal; ``null`` that the first of them cannot be read or compared.
"""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MEMORY = 2 * 2**30
"""Bytes of address space that the process may take; math-verify itself needs a sixth of it."""


def main() -> None:
    """Serve until the input ends; a comparison longer than its seconds ends the process, should nobody else do it."""
    _limit_memory()
    import math_verify  # noqa: F401  # slow, and it may be missing: before anything is promised

    print("ready", flush=True)
    for line in sys.stdin:
        gold, answer, seconds = json.loads(line)
        with _alarm(seconds):
            equal = _equal(gold, answer)
        print(json.dumps(equal), flush=True)


def _equal(gold: str, answer: str) -> bool | None:
    from math_verify import verify

    try:
        expected, got = _read(gold), _read(answer)
        return verify(expected, got, timeout_seconds=None, raise_on_error=True) if expected else None
    except Exception:  # noqa: BLE001  # whatever sympy and the parsers raise for hostile text
        return None


def _read(text: str) -> list[object]:
    from math_verify import LatexExtractionConfig, parse

    return parse(
        rf"\boxed{{{text}}}",
        extraction_config=[LatexExtractionConfig()],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,  # their time limits cannot interrupt all of sympy, and ours can
        raise_on_error=True,
    )


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    if not hasattr(signal, "alarm"):  # not on Windows
        yield
        return
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(ValueError, OSError):  # macOS refuses
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard), hard))


if __name__ == "__main__":
    main()
