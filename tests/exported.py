"""Rewards to be exported, and a process that has only transformers to read them with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gates
import torch

from rairl_lightning.components import (
    ClippedLogit,
    Dense,
    Interval,
    Last,
    MeanOverGrid,
    Minimum,
    Product,
    ReadF,
    ReadMixed,
    RewardReader,
    SingleHead,
    Sparse,
    Step,
    TokenWeighted,
    TwoHead,
)
from rairl_lightning.components.description import FORMAT, REWARD_FILE, described
from rairl_lightning.models import BackboneSpec, FullFineTuning, LinearHead, SharedBase, TwoBackbones, TwoHeads

Export = Callable[..., int]
"""``rairl export`` of a run, with more arguments; its exit code."""
WAY = "<think>\n1 + 2 = 3\ngo left\n</think>\n<answer>\nleft\n</answer>"
CUT = "<think>\n1 + 2 = 3\ngo right\ngo"
TEXTS = (("gate 17", WAY.replace("left", "right"), True), ("gate 5", CUT, False))


@dataclass(frozen=True)
class Case:
    """One kind of reward, and how it is exported."""

    spec: Callable[[Path], Any]
    reader: RewardReader
    merged: bool


def shared(base: Path, head: Any = LinearHead(), **settings: Any) -> SharedBase:
    return replace(gates.shared(base, **settings), head=head)


def two_backbones(base: Path) -> TwoBackbones:
    lora = gates.shared(base).policy_lora
    heads = TwoHeads(LinearHead(), LinearHead())
    return TwoBackbones(BackboneSpec(str(base)), BackboneSpec(str(base)), lora, lora, heads, "Say where.")


INTERVAL = RewardReader(SingleHead(), Interval(3), ClippedLogit(), TokenWeighted())
CASES = {
    "interval": Case(shared, INTERVAL, merged=False),
    "interval merged": Case(shared, INTERVAL, merged=True),
    "f, step": Case(
        lambda base: shared(base, TwoHeads()),
        RewardReader(TwoHead(0.9, read_out=ReadF()), Step(), ClippedLogit(2.0, 0.4), Minimum()),
        merged=False,
    ),
    "all weights, dense": Case(
        lambda base: FullFineTuning(BackboneSpec(str(base)), LinearHead(), "Say where."),
        RewardReader(SingleHead(), Dense(), ClippedLogit(0.5, 2.0), Product()),
        merged=False,
    ),
    "nf4, sparse": Case(
        lambda base: shared(base, quantisation="nf4"),
        RewardReader(SingleHead(), Sparse(), ClippedLogit(), Last()),
        merged=False,
    ),
    "mixed merged": Case(
        two_backbones,
        RewardReader(TwoHead(shaping_clip=0.3, read_out=ReadMixed(0.7)), Interval(4), ClippedLogit(), MeanOverGrid()),
        merged=True,
    ),
}


def save_random(spec: Any, reader: RewardReader, run: Path, scale: float = 0.1) -> Path:
    """A run's folder whose adapters, heads included, are random."""
    pair = spec.build()
    generator = torch.Generator().manual_seed(0)
    for player in pair.players:
        for parameter in pair.trainable_parameters(player):
            with torch.no_grad():
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    pair.save_adapters(run / "adapters")
    record = {
        "format": FORMAT,
        "version": "0.0.1",
        "commit": "abc",
        "base": pair.base_fingerprint,
        "codec": pair.codec.fingerprint,
        "pair": described(spec),
        "reader": described(reader),
    }
    (run / "adapters" / REWARD_FILE).write_text(json.dumps(record))
    return run


def usage(card: str) -> str:
    """The Python of a card."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    return block


def asking(code: str, question: str, completion: str, finished: bool) -> str:
    """The same about another trace."""
    line = f"question, completion, finished = {question!r}, {completion!r}, {finished}"
    changed, count = re.subn(r"^question, completion, finished = .*$", lambda _: line, code, flags=re.MULTILINE)
    assert count == 1
    return changed


STRANGER = """
import json, os, runpy, sys
sys.modules["rairl_lightning"] = None  # importing it is an error now
found = []
for folder, script in json.loads(sys.argv[1]):
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.modules.pop("steps", None)
    names = runpy.run_path(script)
    found.append({k: names[k].tolist() for k in ("trace", "tokens", "ids") if hasattr(names.get(k), "tolist")})
    sys.path.remove(folder)
assert not [name for name in sys.modules if name.startswith("rairl_lightning.")]
print("\\n" + json.dumps(found))
"""


def without_us(scripts: Sequence[tuple[Path, Path]]) -> list[dict[str, Any]]:
    """Run scripts, each in its folder, in one process that cannot import this package; some of their names."""
    given = json.dumps([[str(folder), str(script)] for folder, script in scripts])
    environment = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, given], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
