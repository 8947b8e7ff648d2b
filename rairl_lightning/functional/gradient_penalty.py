"""Penalties on how steeply a trace's score changes with its input embeddings.

A trace's score is the mean logit over its scored positions. Only completion tokens move: the prompt is given. All
randomness comes from one seed a trace, so a micro-batch split changes nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.masking import masked_mean, masked_sum

LogitsOf = Callable[[Tensor], Tensor]
_TINY = 1e-12  # keeps the norm's own gradient finite where the score does not depend on the input


def squared_gradients(logits_of: LogitsOf, embeddings: Tensor, completion_mask: Tensor, grid: Tensor) -> Tensor:
    """Squared norm of each score's gradient with respect to its completion's embeddings.

    ``‖∇_{e_n} s_n‖²``, differentiable in the discriminator's parameters. It differentiates twice, which fused
    attention kernels do not support: :func:`directional_squares` asks for values alone.

    Args:
        logits_of: maps input embeddings ``[N, T, H]`` to logits ``[N, T]``.
        embeddings: ``[N, T, H]``.
        completion_mask: ``[N, T]`` bool.
        grid: ``[N, T]`` bool, scored positions.

    Returns:
        ``[N]``.

    Raises:
        DataError: the shapes differ.

    >>> ones = torch.ones(1, 2, dtype=torch.bool)
    >>> squared_gradients(lambda e: 3 * e.sum(-1), torch.zeros(1, 2, 1), ones, ones)  # s = 3 (e_1 + e_2) / 2
    tensor([4.5000])
    """
    check_same_shape(grid=grid, completion_mask=completion_mask, embeddings=embeddings[..., 0])
    leaf = embeddings.detach().requires_grad_()
    with torch.enable_grad():
        scores = masked_mean(logits_of(leaf), grid, dim=1).sum()  # traces do not see each other
    (gradients,) = torch.autograd.grad(scores, leaf, create_graph=True)
    return masked_sum(gradients.square().sum(dim=-1), completion_mask, dim=1)


def directional_squares(
    logits_of: LogitsOf, embeddings: Tensor, completion_mask: Tensor, grid: Tensor, seeds: Tensor, step: float
) -> Tensor:
    """One random estimate of :func:`squared_gradients` from two evaluations, with no second derivative.

    ``((s(e + σv) - s(e - σv)) / 2σ)²``, ``v ~ N(0, I)``, whose mean is ``‖∇s‖²`` up to ``O(σ²)``; a symmetric
    form of the approximate R1 of arXiv 2501.08316.

    Args:
        logits_of: maps input embeddings ``[N, T, H]`` to logits ``[N, T]``.
        embeddings: ``[N, T, H]``.
        completion_mask: ``[N, T]`` bool.
        grid: ``[N, T]`` bool, scored positions.
        seeds: ``[N]`` int64, of each trace's direction.
        step: > 0; σ is this share of the root mean square of a trace's completion embeddings.

    Returns:
        ``[N]``.

    Raises:
        ConfigError: the step is out of range.
        DataError: the shapes differ.
    """
    check_number("step", step, above=0)
    check_same_shape(grid=grid, completion_mask=completion_mask, embeddings=embeddings[..., 0])
    still = embeddings.detach()
    sizes_N = masked_mean(still.square().mean(dim=-1), completion_mask, dim=1).sqrt()
    sigma_N = step * sizes_N.clamp(min=_TINY)
    moves = sigma_N[:, None, None] * row_noise(seeds, completion_mask, still)
    up, down = (masked_mean(logits_of(still + sign * moves), grid, dim=1) for sign in (1, -1))
    return ((up - down) / (2 * sigma_N)).square()


def row_noise(seeds: Tensor, completion_mask: Tensor, like: Tensor) -> Tensor:
    """Standard normal noise on the completion tokens, each trace from its own seed; 0 elsewhere.

    Args:
        seeds: ``[N]`` int64.
        completion_mask: ``[N, T]`` bool.
        like: ``[N, T, H]``, whose dtype and device the result takes.

    Returns:
        ``[N, T, H]``; a trace's noise depends neither on its batch nor on its padding.
    """
    noise = torch.zeros_like(like)
    for row, seed in enumerate(seeds.tolist()):
        shape = (int(completion_mask[row].sum()), like.shape[-1])
        noise[row, completion_mask[row]] = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(noise)
    return noise


def row_shares(seeds: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), ``[N]`` float32 on the CPU, each from its trace's own seed ``[N]`` int64."""
    draws = [torch.rand((), generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()]
    return torch.stack(draws) if draws else torch.zeros(0)


def aligned_completions(values: Tensor, completion_mask: Tensor, target_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move completions to the columns where those of other traces lie, first token to first token.

    Args:
        values: ``[N, S, H]`` of the traces to be moved.
        completion_mask: ``[N, S]`` bool, theirs.
        target_mask: ``[N, T]`` bool of the traces they are laid over.

    Returns:
        ``[N, T, H]`` moved values, and ``[N, T]`` bool, True where both have a completion token; 0 elsewhere.

    Raises:
        DataError: the shapes differ.
    """
    check_same_shape(completion_mask=completion_mask, values=values[..., 0])
    check_same_shape(target=target_mask[:, 0], completion_mask=completion_mask[:, 0])
    order = target_mask.long().cumsum(dim=1) - 1
    both = target_mask & (order < completion_mask.sum(dim=1, keepdim=True))
    start = completion_mask.long().argmax(dim=1, keepdim=True)
    columns = torch.where(both, start + order, 0).unsqueeze(-1).expand(-1, -1, values.shape[-1])
    return torch.where(both.unsqueeze(-1), values.gather(1, columns), 0.0), both


def mixed_embeddings(embeddings: Tensor, partners: Tensor, both: Tensor, shares: Tensor) -> Tensor:
    """Points between traces and their partners: ``u e + (1 - u) e'`` where both have a token (arXiv 1704.00028).

    Args:
        embeddings: ``[N, T, H]``.
        partners: ``[N, T, H]`` from :func:`aligned_completions`.
        both: ``[N, T]`` bool, likewise; elsewhere a trace keeps its own embedding.
        shares: ``[N]`` u in [0, 1].

    Returns:
        ``[N, T, H]``.

    Raises:
        DataError: the shapes differ.
    """
    check_same_shape(embeddings=embeddings, partners=partners)
    keep = shares.to(embeddings)[:, None, None]
    return torch.where(both.unsqueeze(-1), keep * embeddings + (1 - keep) * partners, embeddings)


def norm_from_squares(squares: Tensor) -> Tensor:
    """``√(x + 1e-12)``: a norm whose gradient is finite at 0."""
    return (squares + _TINY).sqrt()


def opposite_rows(labels_expert_is_one: Tensor, generator: torch.Generator) -> Tensor:
    """For each trace a random one of the other class; itself where that class is absent.

    Args:
        labels_expert_is_one: ``[N]`` bool.
        generator: on the labels' device.

    Returns:
        ``[N]`` int64.
    """
    is_expert = labels_expert_is_one.bool()
    rows = torch.arange(len(is_expert), device=is_expert.device)
    partners = rows.clone()
    for own in (is_expert, ~is_expert):
        others = rows[~own]
        if len(others):
            draw = torch.randint(len(others), (int(own.sum()),), generator=generator, device=rows.device)
            partners[own] = others[draw]
    return partners
