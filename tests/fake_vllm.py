"""What is used of vLLM, over transformers: it reads the base and the adapter from their folders, as vLLM does.

Names and defaults are vLLM's (0.19 to 0.27), and what it would refuse is refused here; nothing else of it is here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

MODES = ("raw_logprobs", "processed_logprobs")


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    ignore_eos: bool = False
    stop_token_ids: list[int] = field(default_factory=list)
    detokenize: bool = True


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


class LLM:
    """One base, one adapter at a time, which is known by its number."""

    made: ClassVar[list[LLM]] = []
    stale = False  # the first adapter is taken for all that come after it

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        quantization: str | None = None,
        generation_config: str = "auto",
        logprobs_mode: str = "raw_logprobs",
        enable_lora: bool = False,
        max_loras: int = 1,
        max_lora_rank: int = 16,
        gpu_memory_utilization: float = 0.9,
        max_model_len: int | None = None,
        enable_sleep_mode: bool = False,
        enforce_eager: bool = False,
    ) -> None:
        assert logprobs_mode in MODES and max_lora_rank in (1, 8, 16, 32, 64, 128, 256, 320, 512)
        self.arguments = {name: value for name, value in locals().items() if name != "self"}
        self.adapters: dict[int, PeftModel] = {}
        self.loaded: list[LoRARequest] = []
        self.did: list[str] = []
        self.asleep = False
        LLM.made.append(self)

    def generate(
        self,
        prompts: list[Any],
        sampling_params: list[SamplingParams],
        *,
        lora_request: LoRARequest,
        use_tqdm: bool = True,
    ) -> list[Any]:
        assert not self.asleep and len(prompts) == len(sampling_params)
        self.did.append("generate")
        model = self._adapted(lora_request)
        pairs = zip(prompts, sampling_params, strict=True)
        return [SimpleNamespace(outputs=[self._answer(model, one["prompt_token_ids"], how)]) for one, how in pairs]

    def sleep(self, level: int = 1) -> None:
        assert self.arguments["enable_sleep_mode"] and level == 1 and not self.asleep
        self.did.append("sleep")
        self.asleep = True

    def wake_up(self) -> None:
        assert self.asleep
        self.did.append("wake_up")
        self.asleep = False

    def _adapted(self, request: LoRARequest) -> PeftModel:
        assert self.arguments["enable_lora"] and request.lora_int_id > 0
        number = 1 if self.stale else request.lora_int_id
        if number not in self.adapters:
            dtype = getattr(torch, self.arguments["dtype"])
            with torch.random.fork_rng(devices=[]):  # vLLM loads in another process
                base = AutoModelForCausalLM.from_pretrained(self.arguments["model"], dtype=dtype)
                self.adapters = {number: PeftModel.from_pretrained(base, request.lora_path).eval()}
            self.loaded.append(request)
        rank = self.adapters[number].peft_config["default"].r
        assert rank <= self.arguments["max_lora_rank"]
        return self.adapters[number]

    @torch.no_grad()
    def _answer(self, model: PeftModel, prompt: list[int], how: SamplingParams) -> Any:
        assert how.max_tokens is not None and how.logprobs == 0 and how.top_k == 0
        assert len(prompt) + how.max_tokens <= self.arguments["max_model_len"]
        generator, ids, logprobs = torch.Generator().manual_seed(how.seed or 0), list(prompt), []
        stops = {*how.stop_token_ids, *([] if how.ignore_eos else [model.config.eos_token_id])}
        for _ in range(how.max_tokens):
            raw = model(torch.tensor([ids])).logits[0, -1].float()
            scaled = raw / how.temperature if how.temperature else raw  # greedy rows are not scaled
            drawn = torch.multinomial(scaled.softmax(-1), 1, generator=generator) if how.temperature else raw.argmax()
            reported = raw if self.arguments["logprobs_mode"] == "raw_logprobs" else scaled
            ids.append(int(drawn))
            logprobs.append({ids[-1]: SimpleNamespace(logprob=float(reported.log_softmax(-1)[ids[-1]]))})
            if ids[-1] in stops:
                break
        return SimpleNamespace(token_ids=ids[len(prompt) :], logprobs=logprobs)


def install(patch: pytest.MonkeyPatch) -> type[LLM]:
    """Let ``import vllm`` find this."""
    module, lora, request = (ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request"))
    for one in (module, lora, request):
        one.__spec__ = ModuleSpec(one.__name__, None)
        one.__path__ = [str(Path(__file__).parent)]
        patch.setitem(sys.modules, one.__name__, one)
    module.LLM, module.SamplingParams, request.LoRARequest = LLM, SamplingParams, LoRARequest  # type: ignore[attr-defined]
    patch.setattr(LLM, "made", [])
    return LLM
