"""The part of vLLM that is used here, and which adapter it has."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.errors import ConfigError, ModelError
from rairl_lightning.models import Policy
from rairl_lightning.models.exports import adapter_rank, save_adapter
from rairl_lightning.models.wanted import Wanted

IN_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of random name is made in it
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has kernels for


class VLLMEngine:
    """vLLM over the policy's frozen base, with the policy's adapter as it was last handed over.

    Args:
        policy: an adapter over a base that vLLM loads from the same place.
        arguments: of ``vllm.LLM``; they take precedence over ours.
        sleeps: whether its memory is given back when it is not awake.
        adapters: folder for adapters; None takes one in memory where there is one.

    Attributes:
        version: of the policy whose adapter it has; None before the first.
        number: of adapters so far.

    Raises:
        ConfigError: the policy has no adapter, or one that vLLM has no kernel for.
        ModelError: vLLM does not start.
    """

    def __init__(self, policy: Policy, arguments: Mapping[str, Any], sleeps: bool, adapters: str | None) -> None:
        arguments = {**_of_policy(policy), "enable_sleep_mode": sleeps, **arguments}
        self.sleeps, self.number = sleeps, 0
        self.version: str | None = None
        where = Path(adapters) if adapters else IN_MEMORY if IN_MEMORY.is_dir() else None
        self._folder = Path(tempfile.mkdtemp(prefix="rairl-adapters-", dir=where))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        try:
            import vllm
            from vllm.lora.request import LoRARequest

            self._llm = vllm.LLM(**arguments)
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                "vLLM did not start.",
                expected="vllm >= 0.19.1, and a GPU with memory for the base a second time",
                got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                remedy="lower sampler.gpu_memory_utilization, look at sampler.engine, or sample with "
                "SharedPrefixSampler",
            ) from error
        self._params, self._request = vllm.SamplingParams, LoRARequest
        self._asleep = False

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Take the memory for a while; what was cached of texts is gone afterwards."""
        if self._asleep:
            self._llm.wake_up()
            self._asleep = False
        try:
            yield
        finally:
            if self.sleeps:
                self._llm.sleep(level=1)  # the base's weights wait on the host
                self._asleep = True

    def take(self, policy: Policy, version: str) -> None:
        """Hand over the policy's adapter: the only weights that ever go to vLLM.

        Args:
            policy: that this engine was made for.
            version: of its weights.
        """
        before, self.number = self._adapter_folder(), self.number + 1
        save_adapter(policy, self._adapter_folder())
        self.version = version
        if before.is_dir():
            shutil.rmtree(before)  # vLLM holds it in memory, or has let it go

    def generate(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], wanted: Wanted
    ) -> list[tuple[list[int], Tensor]]:
        """A completion of each prompt, and its log-probabilities under the distribution it was drawn from.

        Args:
            prompts: as ids.
            seeds: one for each.
            wanted: one of each.

        Raises:
            ModelError: vLLM answers with something else.
        """
        params = [self._sampling(wanted, seed) for seed in seeds]
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        adapter = self._request(f"policy-{self.number}", self.number, str(self._adapter_folder()))
        answers = self._llm.generate(asked, params, lora_request=adapter, use_tqdm=False)
        if len(answers) != len(prompts):
            raise ModelError("vLLM did not answer every prompt.", expected=len(prompts), got=len(answers))
        return [_drawn(answer.outputs[0]) for answer in answers]

    def _sampling(self, wanted: Wanted, seed: int) -> Any:
        return self._params(
            max_tokens=wanted.max_new_tokens,
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            seed=seed,
            logprobs=0,  # of the drawn token alone
            ignore_eos=True,  # the model's own list may differ from the codec's one
            stop_token_ids=[wanted.eos_id],
            detokenize=False,
        )

    def _adapter_folder(self) -> Path:
        return self._folder / str(self.number)


def _drawn(output: Any) -> tuple[list[int], Tensor]:
    ids = list(output.token_ids)
    return ids, torch.tensor([at[token].logprob for token, at in zip(ids, output.logprobs, strict=True)])


def _of_policy(policy: Policy) -> dict[str, Any]:
    """What vLLM must be told to compute what the policy computes."""
    model, rank = policy.causal_lm, adapter_rank(policy)
    if rank is None or rank > RANKS[-1]:
        raise ConfigError(
            "vLLM is handed an adapter, never whole weights.",
            expected=f"a policy with LoRA adapters of rank <= {RANKS[-1]} (SharedBase, TwoBackbones)",
            got="all weights are trained" if rank is None else f"rank {rank}",
            remedy="set policy_lora.r, or sample with SharedPrefixSampler",
        )
    config = model.config
    return {
        "model": model.name_or_path,
        "revision": getattr(config, "_commit_hash", None),
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": "bitsandbytes" if getattr(config, "quantization_config", None) is not None else None,
        "generation_config": "vllm",  # not the model's: it may cut completions
        "logprobs_mode": "processed_logprobs",  # those after the temperature, which were drawn by
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": next(size for size in RANKS if size >= rank),
    }
