"""Questions, demonstrations and sampled ids as token ids of one model: the only place that knows its tokenizer."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from rairl_lightning.errors import ModelError
from rairl_lightning.models.offsets import Span, decoder_for
from rairl_lightning.text.chat import leaves_open, render_completion
from rairl_lightning.text.steps import step_spans
from rairl_lightning.text.well_formed import well_formed
from rairl_lightning.types import Demonstration, TraceIds

PROBE = "x"
FINGERPRINT_PROBES = (
    "<think>\n12 + 305 = 317\n</think>\n<answer>317</answer>",
    "  Ünï çodé – 漢字 🙂\n\n",
    "x^2 \\frac{1}{2}",
)


class TraceCodec:
    """Turns prompts and demonstrations into ids, and ids into text, offsets and step ends.

    Experts and rollouts go through the same :meth:`trace`, so that the discriminator cannot tell them apart by how
    they were prepared.

    Args:
        tokenizer: with a chat template.
        system_prompt: instruction put before every question; written into the user's turn where the template knows
            no system role.
        chat_template: Jinja template that replaces the tokenizer's own (a base model has none).

    Raises:
        ModelError: there is no chat template, or no token that ends a turn.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        system_prompt: str | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.system_prompt = system_prompt
        self.chat_template = chat_template or tokenizer.chat_template
        if not isinstance(self.chat_template, str):
            raise ModelError(
                "The tokenizer has no single chat template.",
                expected="one Jinja template",
                got=self.chat_template and sorted(self.chat_template),
                remedy="use the instruction-tuned model, or set the backbone's chat_template",
            )
        self._decode = decoder_for(tokenizer)
        self._system_in_user_turn = system_prompt is not None and not self._knows_system()
        self.eos_id: int = self._end_of_turn()
        pad = tokenizer.pad_token_id
        self.pad_id: int = self.eos_id if pad is None else pad

    def encode_prompt(self, question: str) -> list[int]:
        """Ids of the templated question, up to and including the generation prompt; no end of the answer's turn."""
        return self._ids(self._render(self.conversation(question), add_generation_prompt=True))

    def encode_demonstration(self, demonstration: Demonstration) -> TraceIds:
        """The demonstration as the trace the policy would have had to sample, end of turn included once."""
        text = render_completion(demonstration.reasoning, demonstration.answer)
        return self.trace(self.encode_prompt(demonstration.prompt), self.encode_completion(text))[0]

    def encode_trace(self, question: str, completion: str, finished: bool | None = None) -> tuple[TraceIds, str]:
        """A trace that somebody wrote, as if it had been sampled.

        Args:
            question: as the user asks it.
            completion: in the layout of :mod:`rairl_lightning.text.chat`; without text it has no token.
            finished: whether its writer ended the turn; where that is unknown (None), one that stops inside a block
                did not.

        Returns:
            As :meth:`trace`. The text differs from ``completion`` where the tokenizer does not keep it.
        """
        ended = not leaves_open(completion) if finished is None else finished
        ids = self.encode_completion(completion) if ended else self._ids(completion)
        return self.trace(self.encode_prompt(question), ids if completion.strip() else [])

    def encode_completion(self, text: str) -> list[int]:
        """Ids of a complete completion: its text and the end of turn."""
        return [*self._ids(text), self.eos_id]

    def trace(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> tuple[TraceIds, str]:
        """Add character offsets and step ends to ids.

        Args:
            prompt_ids: ids of the templated prompt.
            completion_ids: ids sampled or encoded; ends with :attr:`eos_id` if the trace is complete.

        Returns:
            The trace, and the completion's text without special tokens, to which the offsets refer.
        """
        text, offsets = self._decode(completion_ids)
        finished = bool(completion_ids) and completion_ids[-1] == self.eos_id
        ends = _step_ends(offsets, step_spans(text), finished=finished)
        return TraceIds(list(prompt_ids), list(completion_ids), ends, offsets), text

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids`` without special tokens."""
        return self._decode(ids)[0]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the template and of the ids of a few probes: equal for codecs that can share their ids."""
        prompt = self.encode_prompt(FINGERPRINT_PROBES[0])
        parts = [self.chat_template, self.eos_id, len(self.tokenizer), prompt, *map(self._ids, FINGERPRINT_PROBES)]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def conversation(self, question: str) -> list[dict[str, str]]:
        """The messages that the chat template is given."""
        if self.system_prompt is None:
            return [{"role": "user", "content": question}]
        if self._system_in_user_turn:
            return [{"role": "user", "content": f"{self.system_prompt}\n\n{question}"}]
        return [{"role": "system", "content": self.system_prompt}, {"role": "user", "content": question}]

    def _knows_system(self) -> bool:
        marker = "a line that only the system says"
        messages = [{"role": "system", "content": marker}, {"role": "user", "content": PROBE}]
        try:
            return marker in self._render(messages)
        except TemplateError:
            return False

    def _end_of_turn(self) -> int:
        """The first added token after an assistant's message; the tokenizer's eos where the template writes none."""
        answer = "the end of this answer"
        messages = [{"role": "user", "content": PROBE}, {"role": "assistant", "content": answer}]
        rendered = self._render(messages)
        tail = self._ids(rendered[rendered.rindex(answer) + len(answer) :]) if answer in rendered else []
        added = self.tokenizer.added_tokens_decoder
        end = next((i for i in tail if i in added), self.tokenizer.eos_token_id)
        if end is None:
            raise ModelError(
                "Nothing ends the assistant's turn.",
                expected="a special token after the assistant's message in the chat template, or an eos token",
                got=repr(rendered),
                remedy="set the backbone's chat_template to one that closes the turn, or the tokenizer's eos_token",
            )
        return end

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
        return self.tokenizer.apply_chat_template(
            messages,
            chat_template=self.chat_template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )

    def _ids(self, text: str) -> list[int]:
        # The template writes the special tokens itself; the tokenizer must not add a second bos.
        return self.tokenizer(well_formed(text), add_special_tokens=False)["input_ids"]


def _step_ends(offsets: Sequence[Span], spans: Sequence[Span], *, finished: bool) -> list[bool]:
    """Flag the last token that overlaps each span; a finished trace ends its last step with the end of turn."""
    ends = [False] * len(offsets)
    starts = [start for start, _ in offsets]
    for position, (start, end) in enumerate(spans):
        if finished and position == len(spans) - 1:
            break
        token = bisect_left(starts, end) - 1
        while token >= 0 and offsets[token][0] == offsets[token][1]:
            token -= 1
        if token >= 0 and offsets[token][1] > start:
            ends[token] = True
    if finished:
        ends[-1] = True
    return ends


def check_tokenizer(codec: TraceCodec) -> None:
    """Say everything that would spoil training with this tokenizer.

    Raises:
        ModelError: the completion's text does not survive encoding and decoding, the template opens the reasoning
            itself, or the prompt already holds an end of the answer's turn.
    """
    text = render_completion("2 + 30 = 32\n  so  32", "32")
    decoded = codec.decode(codec.encode_completion(text))
    prompt = codec.encode_prompt(PROBE)
    problems = []
    if decoded != text:
        problems.append(f"a completion does not survive decoding: {decoded!r} instead of {text!r}")
    if codec.decode(prompt).rstrip().endswith("<think>"):
        problems.append("the chat template writes <think> itself, the completion would write it again")
    if prompt and prompt[-1] == codec.eos_id:
        problems.append("the generation prompt ends with the end-of-turn token")
    if problems:
        raise ModelError(
            "The tokenizer does not fit the method.",
            expected="a lossless tokenizer whose chat template stops where the answer begins",
            got="; ".join(problems),
            remedy="choose another backbone, or set the backbone's chat_template",
        )
