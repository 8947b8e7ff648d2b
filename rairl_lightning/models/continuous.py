"""Continuous batching of transformers: requests come and go in every step, over a paged cache of keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, PreTrainedModel

from rairl_lightning.errors import ConfigError, ModelError
from rairl_lightning.models.wanted import Wanted

MINUTE = 60.0
LEAST = "5.23"  # of transformers: the first that this was run with
NEEDED = ("return_logprobs", "seed", "page_size", "num_blocks", "max_batch_tokens", "auto_switch_to_flash")


@dataclass(frozen=True)
class Paging:
    """What continuous batching may take.

    Attributes:
        attention: of transformers, used meanwhile.
        page_tokens: of a page of the cache.
        cache_tokens: keys and values held at once.
        step_tokens: read in one step, prompts and new tokens together.
    """

    attention: str
    page_tokens: int
    cache_tokens: int
    step_tokens: int


def require_continuous_batching() -> None:
    """Refuse a transformers that cannot do it, or cannot say the log-probabilities.

    Raises:
        ConfigError: naming the version that can.
    """
    config = getattr(transformers, "ContinuousBatchingConfig", None)
    known = inspect.signature(config).parameters if config is not None else {}
    if lacking := [name for name in NEEDED if name not in known]:
        raise ConfigError(
            "This transformers has no continuous batching that returns log-probabilities.",
            expected=f"transformers >= {LEAST}",
            got=f"{transformers.__version__}, without {', '.join(lacking)}",
            remedy=f"pip install 'transformers>={LEAST}', or sample with SharedPrefixSampler",
        )


@torch.no_grad()  # its cache is written from a thread of its own: inference mode would not reach there
def generate_continuously(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], wanted: Wanted, paging: Paging, seed: int
) -> list[tuple[list[int], list[float]]]:
    """Completions with the log-probabilities of the distribution they were drawn from.

    Args:
        model: in evaluation mode; left as it was.
        prompts: B of them, as ids.
        wanted: how many of each, how long and how hot.
        paging: how much memory it takes.
        seed: of torch's generators, which are left as they were.

    Returns:
        ``B · count`` of them, those of a prompt side by side.

    Raises:
        ModelError: a request failed, or the thread of transformers ended.
    """
    batching = transformers.ContinuousBatchingConfig(
        return_logprobs=True,
        seed=seed,
        page_size=paging.page_tokens,
        num_blocks=-(-paging.cache_tokens // paging.page_tokens),
        max_batch_tokens=paging.step_tokens,
        auto_switch_to_flash=False,  # it would ask the hub for kernels
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _attention(model, paging.attention):
        manager = model.init_continuous_batching(_config(wanted), batching)
        try:
            # All are there before the first step: who is batched with whom, and so every draw, depends on no clock.
            names = manager.add_requests([list(prompt) for prompt in prompts], max_new_tokens=wanted.max_new_tokens)
            if model.device.type == "cuda":
                manager.warmup()
            manager.start()
            outputs = _results(manager, len(prompts) * wanted.count)
        except MemoryError as error:  # in the thread of transformers it is an answer; here warming up met it
            raise _failed(error) from error
        finally:
            manager.stop(block=True, timeout=MINUTE)
            manager.destroy()
    return [outputs[name + child] for name in names for child in ("", *_children(wanted.count - 1))]


def _config(wanted: Wanted) -> GenerationConfig:
    """The same for transformers, without its hidden top-k."""
    sampled = {"do_sample": True, "temperature": wanted.temperature, "top_p": wanted.top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=wanted.max_new_tokens,
        num_return_sequences=wanted.count,
        eos_token_id=wanted.eos_id,
        **(sampled if wanted.temperature else {"do_sample": False}),
    )


def _children(count: int) -> list[str]:
    """What transformers adds to a request's name for the other completions of its prompt."""
    return [f"__child#{number}" for number in range(count)]


def _results(manager: Any, count: int) -> dict[str, tuple[list[int], list[float]]]:
    found: dict[str, tuple[list[int], list[float]]] = {}
    while len(found) < count:
        output = manager.get_result(timeout=1)
        if output is None and not manager.is_running():
            raise _failed(f"{count - len(found)} of {count} requests were not answered")
        if output is not None and output.error is not None:
            raise _failed(output.error)
        if output is not None and output.is_finished():
            found[output.request_id] = output.generated_tokens, output.logprobs
    return found


def _failed(got: object) -> ModelError:
    return ModelError(
        "Continuous batching failed.",
        got=got,
        remedy="set cache_tokens to what a few rows need and memory has room for; or sample with SharedPrefixSampler",
    )


@contextmanager
def _attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Another attention for a while: continuous batching knows some by name."""
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"This model has no attention {name!r} here.",
            expected="sdpa, or a flash attention that is installed",
            got=str(error).partition("\n")[0],
            remedy="set sampler.attention: sdpa",
        ) from error
    try:
        yield
    finally:
        model.set_attn_implementation(before)
