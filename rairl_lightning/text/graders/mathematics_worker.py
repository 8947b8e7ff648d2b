"""The process that math-verify runs in: reads ``[gold, answer]`` lines, writes one JSON value for each.

Run as a script by :mod:`rairl_lightning.text.graders.mathematics_process`, never imported by the package. ``true`` and
``false`` say whether the two are equal; ``null`` that the first of them cannot be read or compared.
"""

import json
import signal
import sys

MEMORY = 4 * 2**30
"""Bytes that the process may take."""


def main(seconds: int) -> None:
    """Serve until the input ends.

    Args:
        seconds: after which the process ends itself, should nobody be left to do it.
    """
    _limit_memory()
    from math_verify import LatexExtractionConfig, parse, verify

    rules = [LatexExtractionConfig()]
    alarm = getattr(signal, "alarm", lambda seconds: None)

    def read(text: str) -> list[object]:
        # Their own time limits are off: they cannot interrupt all of sympy, and ours can.
        return parse(
            rf"\boxed{{{text}}}",
            extraction_config=rules,
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,
            raise_on_error=True,
        )

    def equal(gold: str, answer: str) -> bool | None:
        try:
            expected, got = read(gold), read(answer)
            return verify(expected, got, timeout_seconds=None, raise_on_error=True) if expected else None
        except Exception:  # noqa: BLE001  # whatever sympy and the parser raise on hostile text
            return None

    print("ready", flush=True)
    for line in sys.stdin:
        alarm(seconds)
        answer = equal(*json.loads(line))
        alarm(0)
        print(json.dumps(answer), flush=True)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard), hard))


if __name__ == "__main__":
    main(int(sys.argv[1]))
