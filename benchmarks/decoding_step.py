"""A decoding step by how the weights are held: ``Native``, ``Packed``, ``InPlace``, ``DynamicInt8``, in turns.

    python benchmarks/decoding_step.py [--model FOLDER] [--rows 16] [--steps 24] [--repetitions 5]

One process, one prompt for every four rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from markdown_table import markdown
from speed_machine import cores, middle
from speed_options import SMOLLM2
from speed_parts import pair
from speed_work import Work

from rairl_lightning.models import Policy
from rairl_lightning.models.decoding import DynamicInt8, HeldWeights, InPlace, Native, Packed, Session, lean_decoder

WAYS: tuple[HeldWeights, ...] = (Native(), Packed(), InPlace(), DynamicInt8())
GROUP = 4


def seconds_of(work: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def one_turn(policy: Policy, weights: HeldWeights, rows: int, steps: int, prompt: int) -> tuple[float, float]:
    """Seconds to hold the weights, and of a step, the mean of the second half of them."""
    began = time.perf_counter()
    decoder = lean_decoder(policy, weights)
    held = time.perf_counter() - began
    assert decoder is not None, "a model of another shape"
    vocabulary = policy.causal_lm.config.vocab_size
    prompts = torch.randint(vocabulary, (max(1, rows // GROUP), prompt)).tolist()
    session = Session(decoder, prompts, rows // len(prompts), 0, policy.device)
    ids = torch.randint(vocabulary, (steps, len(session.rows)))
    taken = [seconds_of(lambda row=row: session.append(row)) for row in ids]
    return held, sum(taken[steps // 2 :]) / (steps - steps // 2)


@torch.inference_mode()
def measure(model: str, rows: int, steps: int, repetitions: int, prompt: int) -> list[list[str]]:
    """A row for each way: milliseconds to hold the weights at first and later, and of a step, medians and the least."""
    policy = pair(Work("sampling", model, [])).build("cpu", with_discriminator=False).policy.eval()
    lean_decoder(policy, InPlace())  # the first of a model is compared with transformers
    turns: list[Sequence[tuple[float, float]]] = [
        [one_turn(policy, weights, rows, steps, prompt) for weights in WAYS] for _ in range(repetitions)
    ]
    table = []
    for number, weights in enumerate(WAYS):
        held, step = ([1e3 * turn[number][which] for turn in turns] for which in (0, 1))
        figures = [held[0], middle(held[1:] or held), middle(step), min(step)]
        table.append([type(weights).__name__, *(f"{figure:.1f}" for figure in figures)])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(SMOLLM2), help="folder (%(default)s)")
    parser.add_argument("--rows", type=int, default=16, help="of a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=24, help="of a turn; the second half is timed (%(default)s)")
    parser.add_argument("--prompt", type=int, default=160, help="tokens of a prompt (%(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each way (%(default)s)")
    given = parser.parse_args(arguments)
    if given.rows > GROUP and given.rows % GROUP:
        parser.error(f"--rows above {GROUP} are a multiple of it: each prompt has {GROUP}")
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    try:
        rows = measure(given.model, given.rows, given.steps, given.repetitions, given.prompt)
    finally:
        torch.set_num_threads(before)
    print(markdown(["weights", "first copy, ms", "later copies, ms", "step, ms", "least step, ms"], rows))


if __name__ == "__main__":
    main()
