from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rairl_lightning.errors import ModelError
from rairl_lightning.models import TraceCodec, check_tokenizer
from rairl_lightning.models.offsets import ByteDecoder, WindowDecoder
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.steps import step_spans

TEXTS = st.text(st.sampled_from(list("ab 12\n<>/=+.éÜ漢字🙂▁")), max_size=30)
# The first examples load what the session's fixtures build, which takes longer than an example may.
RELAXED = settings(max_examples=60, deadline=None)


def test_demonstration_is_prompt_then_completion_then_one_end_of_turn(codec, helpers):
    trace = codec.encode_demonstration(helpers.demonstration)
    text = render_completion(helpers.demonstration.reasoning, helpers.demonstration.answer)
    assert trace.prompt_ids == codec.encode_prompt(helpers.demonstration.prompt)
    assert codec.decode(trace.completion_ids) == text
    assert list(trace.completion_ids).count(codec.eos_id) == 1 and trace.completion_ids[-1] == codec.eos_id


def test_sampled_ids_and_demonstrations_take_the_same_path(codec, helpers):
    trace = codec.encode_demonstration(helpers.demonstration)
    assert codec.trace(trace.prompt_ids, trace.completion_ids)[0] == trace


def test_step_ends_are_the_last_tokens_of_the_steps(codec, helpers):
    trace = codec.encode_demonstration(helpers.demonstration)
    text = codec.decode(trace.completion_ids)
    ends = [span[1] for span, end in zip(trace.char_offsets, trace.step_ends, strict=True) if end]
    assert ends == [end for _, end in step_spans(text)]
    assert trace.step_ends[-1], "a finished trace ends its last step with the end of turn"
    cut, _ = codec.trace(trace.prompt_ids, trace.completion_ids[:-1])
    assert cut.step_ends[-1] and sum(cut.step_ends) == sum(trace.step_ends)


def test_empty_and_bare_completions(codec):
    assert codec.trace([1], [])[0].step_ends == []
    trace, text = codec.trace([1], [codec.eos_id])
    assert (text, trace.char_offsets, trace.step_ends) == ("", [(0, 0)], [True])


def test_prompt_holds_no_end_of_the_answers_turn(codec):
    assert codec.eos_id not in codec.encode_prompt("How many ?")


def test_prompt_and_completion_are_what_the_template_renders(codec, helpers):
    trace = codec.encode_demonstration(helpers.demonstration)
    text = render_completion(helpers.demonstration.reasoning, helpers.demonstration.answer)
    messages = [
        {"role": "user", "content": helpers.demonstration.prompt},
        {"role": "assistant", "content": text},
    ]
    whole = codec.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert [*trace.prompt_ids, *trace.completion_ids] == whole


@RELAXED
@given(text=TEXTS)
def test_byte_level_offsets_are_those_of_the_tokenizer(byte_level, text):
    encoded = byte_level(text, add_special_tokens=False, return_offsets_mapping=True)
    decoded, spans = ByteDecoder(byte_level)(encoded["input_ids"])
    assert decoded == text
    assert spans == [tuple(span) for span in encoded["offset_mapping"]]


@RELAXED
@given(ids=st.lists(st.integers(0, 320), max_size=20))
def test_byte_level_text_of_arbitrary_ids_is_the_tokenizers(byte_level, ids):
    decoded, spans = ByteDecoder(byte_level)(ids)
    assert decoded == byte_level.decode(ids, skip_special_tokens=True)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(spans))
    assert set().union(*(range(*span) for span in spans)) == set(range(len(decoded)))


@RELAXED
@given(text=TEXTS)
def test_windowed_decoder_agrees_with_the_exact_one(byte_level, text):
    ids = byte_level(text, add_special_tokens=False)["input_ids"]
    exact, windowed = ByteDecoder(byte_level)(ids), WindowDecoder(byte_level)(ids)
    assert windowed[0] == exact[0]
    assert [end for _, end in windowed[1]][-1:] == [end for _, end in exact[1]][-1:]


@RELAXED
@given(text=st.text(st.sampled_from(list("abc 12\né漢🙂")), max_size=20))
def test_windowed_decoder_on_a_sentencepiece_vocabulary(sentencepiece_like, text):
    ids = sentencepiece_like(text, add_special_tokens=False)["input_ids"]
    decoded, spans = WindowDecoder(sentencepiece_like)(ids)
    assert decoded == sentencepiece_like.decode(ids) == text
    assert "".join(decoded[slice(*span)] for span in dict.fromkeys(spans)) == text


def test_every_token_of_a_split_character_covers_it(byte_level):
    ids = byte_level("a🙃b", add_special_tokens=False)["input_ids"]
    _, spans = ByteDecoder(byte_level)(ids)
    assert len(ids) > 3 and spans == [(0, 1), *[(1, 2)] * (len(ids) - 2), (2, 3)]


def test_special_tokens_take_no_characters(byte_level):
    codec = TraceCodec(byte_level)
    ids = byte_level("ab", add_special_tokens=False)["input_ids"]
    for decode in (ByteDecoder(byte_level), WindowDecoder(byte_level)):
        text, spans = decode([*ids, codec.eos_id])
        assert text == "ab" and spans[-1] == (2, 2)


def test_ids_beyond_the_vocabulary_are_empty(byte_level):
    assert ByteDecoder(byte_level)([10_000]) == ("", [(0, 0)])


def test_system_prompt_goes_where_the_template_allows(byte_level):
    marked = TraceCodec(byte_level, "Be brief.")
    assert marked.decode(marked.encode_prompt("q")).startswith("Be brief.")
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}<|eos|>"
    )
    folded = TraceCodec(byte_level, "Be brief.", refusing)
    assert folded.decode(folded.encode_prompt("q")) == "Be brief.\n\nq"


def test_end_of_turn_is_the_templates_not_the_tokenizers(sentencepiece_like):
    template = "{% for m in messages %}{{ m.role }}{{ m.content }}<|assistant|>\n{% endfor %}"
    codec = TraceCodec(sentencepiece_like, chat_template=template)
    assert codec.eos_id == sentencepiece_like.convert_tokens_to_ids("<|assistant|>") != sentencepiece_like.eos_token_id


def test_pad_may_be_absent(byte_level):
    assert byte_level.pad_token_id is None
    assert TraceCodec(byte_level).pad_id == TraceCodec(byte_level).eos_id


def test_fingerprint_tells_tokenizers_and_templates_apart(codec, byte_level):
    same, other = TraceCodec(byte_level), TraceCodec(byte_level, chat_template="{{ messages[0].content }}<|eos|>")
    assert same.fingerprint == TraceCodec(byte_level).fingerprint
    assert len({codec.fingerprint, same.fingerprint, other.fingerprint}) == 3


def test_missing_chat_template_is_named(byte_level, monkeypatch):
    monkeypatch.setattr(byte_level, "chat_template", None)
    with pytest.raises(ModelError, match="no single chat template"):
        TraceCodec(byte_level)


def test_check_passes_for_lossless_tokenizers(codec, byte_level):
    check_tokenizer(codec)
    check_tokenizer(TraceCodec(byte_level))


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{ messages[0].content }}<think>\n", "writes <think> itself"),
        ("{{ messages[0].content }}<|eos|>", "ends with the end-of-turn"),
    ],
)
def test_check_names_templates_that_do_not_fit(byte_level, template, complaint):
    with pytest.raises(ModelError, match=complaint):
        check_tokenizer(TraceCodec(byte_level, chat_template=template))


def test_check_names_a_tokenizer_that_loses_text(sentencepiece_like):
    with pytest.raises(ModelError, match="does not survive decoding"):
        check_tokenizer(TraceCodec(_without_tags(sentencepiece_like)))


def _without_tags(tokenizer):
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer.__class__.from_str(tokenizer.backend_tokenizer.to_str())
    tags = {"additional_special_tokens": ["<think>"]}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|eos|>", chat_template=tokenizer.chat_template, **tags
    )
