"""Samples of one distribution are not warned of; what is planted is named."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch

from rairl_lightning.data.demonstrations import Arithmetic
from rairl_lightning.errors import DataError
from rairl_lightning.evaluation.leak_advice import BEFORE, MEANINGS, PERTURBED, ROLLOUTS, explain
from rairl_lightning.evaluation.leaks import FEWEST_PROMPTS, LeakReport, find_leaks, text_leaks, token_leaks
from rairl_lightning.evaluation.traits import TOKEN_FEATURES, Traits
from rairl_lightning.models import BackboneSpec
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.loading import load_tokenizer
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.surface import NUMBER_FEATURES, SYMBOL_FEATURES
from rairl_lightning.types import TokenBatch, TraceIds

Change = Callable[[str], str]
SEEDS = {16: 8, 32: 5, 64: 4, 128: 2, 256: 2, 512: 1}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Expert traces of three to six steps."""
    source = Arithmetic(train_size=1100, selection_size=1, test_size=1, min_steps=3, max_steps=6)
    return [render_completion(one.reasoning, one.answer) for one in source.splits().train]


@pytest.fixture(scope="module")
def pool(texts: list[str]) -> Traits:
    return Traits.of_texts(texts, texts)


@pytest.fixture(scope="module")
def codec() -> TraceCodec:
    return TraceCodec(load_tokenizer(BackboneSpec("builtin:dials")))


def rows(traits: Traits, places: Sequence[int]) -> Traits:
    numbers = {name: column[list(places)] for name, column in traits.numbers.items()}
    symbols = {name: tuple(column[i] for i in places) for name, column in traits.symbols.items()}
    return Traits(numbers, symbols, tuple(traits.prompts[i] for i in places))


def halves(texts: list[str], count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    drawn = random.Random(seed).sample(texts, 2 * count)
    return drawn[:count], drawn[count:]


# --- Nothing there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", SEEDS)
def test_two_samples_of_one_distribution_are_not_warned_of(pool: Traits, count: int) -> None:
    for seed in range(SEEDS[count]):
        drawn = random.Random(seed).sample(range(len(pool)), 2 * count)
        report = find_leaks(rows(pool, drawn[:count]), rows(pool, drawn[count:]))
        assert report.judged and report.leaks() == ()
        assert max(one.low for one in report.findings) < 0.7, "nor nearly"
        assert report.together is not None and report.together.low < 0.6


def test_traces_of_a_prompt_count_once(pool: Traits) -> None:
    """Sixteen prompts are sixteen, however often each was sampled."""
    surprises = {True: 0, False: 0}
    for seed in range(4):
        drawn = random.Random(seed).sample(range(len(pool)), 32)
        many = rows(pool, [place for place in drawn for _ in range(8)])
        alone = Traits(many.numbers, many.symbols, tuple(map(str, range(len(many)))))
        for known, traits in ((True, many), (False, alone)):
            report = find_leaks(rows(traits, range(128)), rows(traits, range(128, 256)))
            surprises[known] += len(report.leaks(threshold=0.65))
    assert surprises[True] == 0 < surprises[False]  # control: taken for independent, they would prove something


def test_a_perturbed_copy_of_each_text_is_not_warned_of(texts: list[str]) -> None:
    """Negatives are the positives with one digit changed, of the same prompts."""
    positives = texts[:128]
    negatives = [text.replace("= 4", "= 6").replace("= 1", "= 3") for text in positives]
    assert sum(a != b for a, b in zip(positives, negatives, strict=True)) > 30
    assert text_leaks(positives, negatives, positives, positives).leaks() == ()


# --- Planted ------------------------------------------------------------------------------------------------------

PLANTED: dict[str, Change] = {
    "trailing_space": lambda text: text + " ",
    "leading_space": lambda text: "\n" + text,
    "double_spaces": lambda text: text.replace(" raises ", "  raises ").replace(" = ", "  = "),
    "line_end_spaces": lambda text: text.replace("\n", " \n", 1),
    "blank_lines": lambda text: text.replace("</think>\n", "</think>\n\n"),
    "answer_closed": lambda text: text.removesuffix("</answer>"),
    "think_opened": lambda text: text.removeprefix("<think>\n"),
    "before_tags": lambda text: f"Sure: {text}",
    "after_tags": lambda text: f"{text} Done.",
    "spaced_operators": lambda text: text.replace(" = ", "=").replace(" + ", "+").replace(" - ", "-"),
    "full_stops": lambda text: text.replace("\n", ".\n"),
    "first_words": lambda text: text.replace("<think>\n", "<think>\nOkay, "),
    "capital_share": str.lower,
    "non_ascii_share": lambda text: text.replace("-", "−").replace("*", "×"),
    "steps": lambda text: text.replace("<think>\n", "<think>\nLet us see.\nThis is easy.\nStart.\nGo.\n"),
    "characters": lambda text: text.replace(
        "\n</think>", " which is what we were looking for all the time" * 4 + "\n</think>"
    ),
}


@pytest.mark.parametrize("count", [16, 96])
@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_named(texts: list[str], name: str, count: int) -> None:
    positives, negatives = halves(texts, count)
    report = text_leaks(positives, [PLANTED[name](text) for text in negatives])
    leaks = {one.feature: one for one in report.leaks()}
    assert name in leaks and leaks[name].auroc > 0.9
    assert report.together is not None and report.together.auroc > 0.9
    assert name in explain(report, [leaks[name]], ROLLOUTS)


def test_a_space_at_the_end_is_all_that_is_named(texts: list[str]) -> None:
    positives, negatives = halves(texts, 96)
    report = text_leaks(positives, [text + " " for text in negatives])
    (leak,) = report.leaks()
    assert (leak.feature, leak.auroc, leak.positives, leak.negatives) == ("trailing_space", 1.0, 0.0, 1.0)


def test_direction_does_not_matter(texts: list[str]) -> None:
    shorter, longer = halves(texts, 64)
    longer = [text.replace("<think>\n", "<think>\nLet us see what comes next.\n" * 2) for text in longer]
    one, other = text_leaks(shorter, longer), text_leaks(longer, shorter)
    areas = [{f.feature: f.auroc for f in report.findings if f.symbol is None} for report in (one, other)]
    assert areas[0] == pytest.approx(areas[1]) and min(areas[0].values()) >= 0.5


def test_a_leak_in_a_few_traces_is_no_leak(texts: list[str]) -> None:
    positives, negatives = halves(texts, 128)
    negatives = [text + " " if place % 3 == 0 else text for place, text in enumerate(negatives)]
    report = text_leaks(positives, negatives)
    (found,) = [one for one in report.findings if one.feature == "trailing_space"]
    assert report.leaks() == () and found.auroc == pytest.approx(0.5 + 43 / 256)
    assert "trailing_space" in [one.feature for one in report.leaks(threshold=0.55)]


# --- Ids ----------------------------------------------------------------------------------------------------------


def traces(codec: TraceCodec, texts: Sequence[str], start: int = 0) -> list[TraceIds]:
    """Each of a prompt of its own."""
    return [codec.trace([start + place], codec.encode_completion(text))[0] for place, text in enumerate(texts)]


def batch(codec: TraceCodec, made: Sequence[TraceIds], side: str = "right") -> TokenBatch:
    return TokenBatch.from_traces(made, codec.pad_id, side=side)


def split(codec: TraceCodec, trace: TraceIds) -> TraceIds:
    """The same text in one more token."""
    ids = list(trace.completion_ids)
    for place, one in enumerate(ids[:-1]):
        text = codec.decode([one])
        halves = [codec.encode_completion(part)[:-1] for part in (text[:1], text[1:])]
        if len(text) > 1 and all(len(part) == 1 for part in halves):
            return codec.trace(trace.prompt_ids, [*ids[:place], *halves[0], *halves[1], *ids[place + 1 :]])[0]
    raise AssertionError("no token can be split")


def test_ids_of_one_distribution_are_not_warned_of(codec: TraceCodec, texts: list[str]) -> None:
    positives, negatives = halves(texts, 64)
    report = token_leaks(batch(codec, traces(codec, positives)), batch(codec, traces(codec, negatives, 500)), codec)
    assert report.leaks() == () and {one.feature for one in report.findings} == MEANINGS.keys()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ends_with_eos", lambda codec, one: codec.trace(one.prompt_ids, one.completion_ids[:-1])[0]),
        ("canonical_tokens", split),
        ("tokens", lambda codec, one: codec.trace(one.prompt_ids, one.completion_ids[:30])[0]),
    ],
)
def test_what_is_planted_in_the_ids_is_named(
    codec: TraceCodec, texts: list[str], name: str, change: Callable[[TraceCodec, TraceIds], TraceIds]
) -> None:
    positives, negatives = (traces(codec, half, start) for half, start in zip(halves(texts, 32), (0, 500), strict=True))
    negatives = [change(codec, one) for one in negatives]
    report = token_leaks(batch(codec, positives), batch(codec, negatives), codec)
    assert name in [one.feature for one in report.leaks()]
    if name != "tokens":  # the text is as it was
        assert {one.feature for one in report.leaks()} <= {name, "characters_per_token", "first_tokens", "last_tokens"}


def test_padding_tells_nothing(codec: TraceCodec, texts: list[str]) -> None:
    made = traces(codec, texts[:20])
    left, right = (Traits.of_tokens(batch(codec, made, side), codec) for side in ("left", "right"))
    assert left.symbols == right.symbols and left.prompts == right.prompts
    assert all(torch.equal(left.numbers[name], right.numbers[name]) for name in left.numbers)
    texts_alone = Traits.of_texts(texts[:20])
    assert all(torch.equal(left.numbers[name], column) for name, column in texts_alone.numbers.items())


# --- The rest -----------------------------------------------------------------------------------------------------


def test_too_few_prompts_are_not_judged(texts: list[str]) -> None:
    few = FEWEST_PROMPTS - 1
    negatives = [text + " " for text in texts[100:200]]
    report = text_leaks(texts[:few], negatives)
    assert not report.judged and report.leaks() == () and report.together is None
    again = [f"prompt {place % few}" for place in range(100)]
    assert not text_leaks(texts[:100], negatives, again, texts[:100]).judged, "prompts, not traces"
    assert text_leaks(texts[: few + 1], negatives).leaks()  # control


def test_nothing_is_drawn_and_the_order_does_not_matter(texts: list[str]) -> None:
    states = random.getstate(), torch.get_rng_state()
    positives, negatives = halves(texts, 40, seed=3)
    first = text_leaks(positives, negatives, positives, negatives)
    again = text_leaks(positives[::-1], negatives[::-1], positives[::-1], negatives[::-1])
    assert states[0] == random.getstate() and torch.equal(states[1], torch.get_rng_state())
    areas = [{one.feature: one.auroc for one in report.findings} for report in (first, again)]
    assert areas[0] == pytest.approx(areas[1])


def test_traits_are_restored_and_stacked(texts: list[str], codec: TraceCodec) -> None:
    whole = Traits.of_traces(traces(codec, texts[:9]), codec)
    parts = [Traits(**rows(whole, part).state_dict()) for part in (range(4), range(4, 9), [])]
    stacked = Traits.cat(parts)
    assert stacked.symbols == whole.symbols and stacked.prompts == whole.prompts and stacked.is_current
    assert all(torch.equal(stacked.numbers[name], whole.numbers[name]) for name in whole.numbers)
    assert len(Traits.cat([])) == 0 and Traits.cat([]).is_current
    assert not Traits.of_texts(texts[:2]).is_current, "the ids are missing"


def test_prompts_of_one_class_alone_are_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match="one class only"):
        text_leaks(texts[:20], texts[20:40], texts[:20])


def planted(texts: list[str], change: Change) -> LeakReport:
    positives, negatives = halves(texts, 64)
    return text_leaks(positives, [change(text) for text in negatives])


def test_the_warning_is_careful_where_a_difference_may_be_meant(texts: list[str]) -> None:
    longer = planted(texts, lambda text: text.replace("<think>\n", "<think>\nLet us see.\nLet us go.\nAnd on.\n"))
    message = explain(longer, longer.leaks(), ROLLOUTS)
    assert "good reason" in message and "rollouts labelled negative" in message and "sft.epochs" in message
    assert "adds or drops a step" in explain(longer, longer.leaks(), BEFORE)
    spaces = planted(texts, PLANTED["trailing_space"])
    message = explain(spaces, spaces.leaks(), BEFORE)
    assert "good reason" not in message and "caution" not in message
    assert "data.perturbations" in message and "spacing" in message and "sft" not in message, "no policy has written"
    assert "sft.epochs" in explain(spaces, spaces.leaks(), PERTURBED)


def test_the_warning_says_how_sure_it_is_and_of_what(texts: list[str]) -> None:
    report = planted(texts, PLANTED["first_words"])
    (leak,) = [one for one in report.leaks() if one.feature == "first_words"]
    assert (leak.symbol, leak.positives, leak.negatives) == ("0 Okay,", 0.0, 1.0)
    message = explain(report, [leak], ROLLOUTS)
    assert "`first_words`" in message and "Okay, at place 1 in 0% against 100%" in message
    assert f"AUROC 1.00 (at least {leak.low:.2f})" in message and "64 and 64 traces" in message


def test_many_features_are_listed_by_name(texts: list[str]) -> None:
    report = planted(texts, str.upper)
    leaks = report.leaks()
    message = explain(report, leaks, ROLLOUTS, most=2)
    assert len(leaks) > 3 and message.count("alone has AUROC") == 2
    assert all(one.feature in message for one in leaks)


def test_every_feature_has_a_meaning() -> None:
    assert MEANINGS.keys() == NUMBER_FEATURES.keys() | SYMBOL_FEATURES.keys() | TOKEN_FEATURES.keys()
