"""The usage that a card shows: Python that needs torch, transformers and, for an adapter, PEFT; not this package."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import chain

from rairl_lightning.components.reader import RewardReader
from rairl_lightning.exporting import said
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.specs import BackboneSpec
from rairl_lightning.text.chat import ANSWER_CLOSE, ANSWER_OPEN, TAG, render_completion

HERE = "."
"""For an export that is on no hub: the folder in which the usage is run."""
QUESTION = "How much is 12 + 30?"
COMPLETION = render_completion("12 + 30 = 42\nSo it is 42.", "42")
FILLED = "tokens = rewards[torch.searchsorted(read, torch.arange(len(ids)))]  # each has that of the next place"
NF4 = (
    'nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,\n'
    "                         bnb_4bit_compute_dtype=torch.{dtype}{kept})"
)


def reward_snippet(
    reader: RewardReader, codec: TraceCodec, base: BackboneSpec | None, head: tuple[str, int], folder: str = HERE
) -> str:
    """From a question and a completion to the reward of every token, and of the trace.

    Args:
        reader: of the reward.
        codec: its tokenizer side.
        base: that an adapter stands on; None of a whole model.
        head: its name in the model, and its outputs.
        folder: where the export lies, or its name on the hub.
    """
    parts = [said.grid(reader.granularity), said.pay(reader.critic), said.reward(reader.reward)]
    parts = [*parts, said.Said("", (FILLED,)), said.pooled(reader.pooling)]
    imports = list(chain.from_iterable(part.imports for part in parts))
    lines = [
        *_loading("AutoModelForTokenClassification", base, folder, imports, head),
        f"question, completion, finished = {_quoted(QUESTION)}, {_quoted(COMPLETION)}, True",
        *_prompt(codec),
        'prompt_ids, ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, completion))',
        f"ids = [*ids, {codec.eos_id}] if finished else ids  # the end of turn, unless the completion was cut",
        "with torch.no_grad():",
        "    logits = model(torch.tensor([[*prompt_ids, *ids]])).logits[0, len(prompt_ids) - 1 :].float()",
        *chain.from_iterable(part.code for part in parts),
        "print(float(trace), tokens.tolist())",
    ]
    return "\n".join(lines)


def policy_snippet(codec: TraceCodec, base: BackboneSpec | None, folder: str = HERE) -> str:
    """From a question to the policy's most probable answer; arguments as :func:`reward_snippet`."""
    lines = [
        *_loading("AutoModelForCausalLM", base, folder),
        f"question = {_quoted(QUESTION)}",
        *_prompt(codec),
        'inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")',
        f"ids = model.generate(**inputs, max_new_tokens=256, do_sample=False, eos_token_id={codec.eos_id})",
        'print(tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    return "\n".join(lines)


def standalone_steps() -> str:
    """The step splitter as one file that imports nothing of this package."""
    text = (files("rairl_lightning.text") / "steps.py").read_text(encoding="utf-8")
    constants = f"ANSWER_OPEN, ANSWER_CLOSE = {ANSWER_OPEN!r}, {ANSWER_CLOSE!r}\nTAG = re.compile({TAG.pattern!r})\n"
    return re.sub(r"^from rairl_lightning\.text\.chat import .*\n", lambda _: constants, text, flags=re.MULTILINE)


def _loading(
    kind: str, base: BackboneSpec | None, folder: str, imports: Sequence[str] = (), head: tuple[str, int] | None = None
) -> list[str]:
    names = [kind, "AutoTokenizer"]
    if base is None:
        load = [f'model = {kind}.from_pretrained(folder, dtype="auto")']
    else:
        options = [f"num_labels={head[1]}"] if head else []
        options += [f"revision={_quoted(base.revision)}"] if base.revision else []
        kept = f', llm_int8_skip_modules=["{head[0]}"]' if head else ""
        if base.quantisation:
            names.append("BitsAndBytesConfig")
            options.append("quantization_config=nf4")
        load = [
            *([NF4.format(dtype=base.dtype, kept=kept)] if base.quantisation else []),
            "base = PeftConfig.from_pretrained(folder).base_model_name_or_path",
            f"model = {kind}.from_pretrained(base, {', '.join([f'dtype=torch.{base.dtype}', *options])})",
            "model = PeftModel.from_pretrained(model, folder)",
        ]
    return [
        "import torch",
        *(["from peft import PeftConfig, PeftModel"] if base is not None else []),
        *imports,
        f"from transformers import {', '.join(sorted(names))}",
        "",
        f"folder = {_quoted(folder)}" + ("  # this one" if folder == HERE else ""),
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        *load,
    ]


def _prompt(codec: TraceCodec) -> list[str]:
    messages = codec.conversation(QUESTION)
    said_by = [f'{{"role": {_quoted(one["role"])}, "content": {_content(one["content"])}}}' for one in messages]
    return [
        f"messages = [{', '.join(said_by)}]",
        "prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)",
    ]


def _content(text: str) -> str:
    """The message as an expression of ``question``."""
    before, asked, _ = text.rpartition(QUESTION)
    if not asked:
        return _quoted(text)
    return f"{_quoted(before)} + question" if before else "question"


def _quoted(text: str) -> str:
    """A string literal, in double quotes as JSON's."""
    return json.dumps(text, ensure_ascii=False)
