"""The discriminator's side of a round: its updates, each on its own draw of the labelled traces."""

from __future__ import annotations

from functools import partial

from rairl_lightning.algorithms.labelled import Draw, LabelledTraces
from rairl_lightning.algorithms.losses import Objective, discriminator_losses
from rairl_lightning.algorithms.nonfinite import culprits
from rairl_lightning.algorithms.players import PlayersModule
from rairl_lightning.algorithms.seen import SeenByDiscriminator


def update_discriminator(
    module: PlayersModule, objective: Objective, draw: Draw, labelled: LabelledTraces, updates: int
) -> None:
    """Update k times; the figures logged are those of the first draw, before it was learnt, if it could be.

    Args:
        module: whose discriminator moves.
        objective: what it is trained for.
        draw: which traces an update sees.
        labelled: all of the round.
        updates: k, >= 0.
    """
    module.log("discriminator/updates", float(updates))
    if updates and objective.critic.needs_logprobs:
        labelled = labelled.with_logprobs(module.policy_logprobs(labelled.tokens))
    generator, noise = module.generator("discriminator"), module.generator("penalty")
    for number in range(updates):
        drawn = draw(labelled, generator, objective.loss.compares_traces)
        seen = SeenByDiscriminator()
        losses = discriminator_losses(
            module.models.discriminator, objective, drawn, module.max_tokens_per_microbatch, seen, noise
        )
        with module.stopwatch("discriminator", int(drawn.tokens.attention_mask.sum())):
            update = module.update_player("discriminator", losses, partial(_unscored, module, drawn))
        module.clock.discriminator_updates += 1
        if number == 0:
            module.log_update("discriminator", update)
            module.log("discriminator/perturbed_share", drawn.perturbed_share)
            if not update.skipped:  # scores may be what was not finite, and there is nothing to rank
                module.log_dict({f"discriminator/{name}": value for name, value in seen.statistics().items()})


def _unscored(module: PlayersModule, drawn: LabelledTraces) -> str:
    """Which traces the discriminator gives an output that is not finite."""
    tokens = drawn.tokens
    outputs = module.models.discriminator.score(tokens, module.max_tokens_per_microbatch)
    sums_NT = outputs.reshape(*tokens.input_ids.shape, -1).sum(dim=2)  # of all outputs of a head
    return culprits("discriminator's output", sums_NT, tokens, module.codec)
