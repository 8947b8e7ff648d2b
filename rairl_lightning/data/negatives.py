"""Perturbed demonstrations: expert traces corrupted at a known place, negatives for the discriminator."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.text.perturbations import Corruption, Perturbation, corrupt
from rairl_lightning.types import Demonstration, Perturbed, TokenBatch, TraceIds

MOST_OTHERS = 16
"""Demonstrations that a perturbation gets to see besides the one it corrupts."""


class PerturbedDemonstrations:
    """Corrupts demonstrations and counts what could not be corrupted.

    What becomes of a demonstration depends on its id, the state of the generator and which others come with it, not on
    the order they come in.

    Args:
        perturbations: the kinds to draw from; each demonstration tries them in a random order.
        codec: turns text into ids.
    """

    def __init__(self, perturbations: Sequence[Perturbation], codec: TraceCodec) -> None:
        self.perturbations = tuple(perturbations)
        self.codec = codec
        self.rejected: Counter[str] = Counter()

    def __call__(self, demonstrations: Sequence[Demonstration], copies: int, rng: random.Random) -> Perturbed:
        """Corrupt each demonstration ``copies`` times, fewer where every kind was rejected.

        Args:
            demonstrations: B of them; each may borrow from a few of those with another prompt.
            copies: corruptions of each, >= 0.
            rng: the only source of randomness; drawn from once.

        Returns:
            At most ``B · copies`` corrupted traces with the changed characters.
        """
        drawn: list[tuple[int, Corruption]] = []
        seed = rng.getrandbits(64)
        pool = sorted(demonstrations, key=lambda other: (other.id, other.prompt))
        for source, demonstration in enumerate(demonstrations):
            for copy in range(copies if self.perturbations else 0):
                own = random.Random(f"{seed} {demonstration.id} {copy}")
                near = own.sample(pool, min(len(pool), MOST_OTHERS))
                others = [other for other in near if other.prompt != demonstration.prompt]
                corruption, rejected = corrupt(demonstration, self.perturbations, own, others)
                self.rejected.update(rejected)
                if corruption is not None:
                    drawn.append((source, corruption))
        return Perturbed(
            tokens=TokenBatch.from_traces([self._encode(demonstrations[s], c) for s, c in drawn], self.codec.pad_id),
            spans=torch.tensor([c.span for _, c in drawn], dtype=torch.int32).reshape(-1, 2),
            sources=torch.tensor([source for source, _ in drawn], dtype=torch.int64),
            kinds=tuple(c.kind for _, c in drawn),
        )

    def _encode(self, demonstration: Demonstration, corruption: Corruption) -> TraceIds:
        changed = replace(demonstration, reasoning=corruption.reasoning, answer=corruption.answer)
        return self.codec.encode_demonstration(changed)
