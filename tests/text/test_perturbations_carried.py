"""One wrong number, and everything after it computed from it: wrong answers that are consistent in themselves."""

import random

import pytest
from perturbing import CARRIED, corruptions, demo, dials, gsm8k, rendered, spanned, tries

from rairl_lightning.text.answers import answers_agree
from rairl_lightning.text.equations import find_equations, find_quantities
from rairl_lightning.text.perturbations import CarriedSlip, StrayOperand, WrongOperand
from rairl_lightning.text.perturbations.modulus import is_true, modulus_of
from rairl_lightning.text.steps import step_spans

CLIPS = "Sold 48 clips in April, half as many in May. How many altogether?"
CLIPS_TRACE = "48/2 = 24 clips in May.\nSo 24 in May and 48 in April: 48+24 = 72."
DIAL = (
    "The dial of Ann is at 8. The dial of Leo is at 5. Ann adds 6. Leo takes 9. Ann takes 4. Where is the dial of Ann?"
)
DIAL_TRACE = "Ann adds 6: 8 + 6 = 4\nAnn takes 4: 4 - 4 = 0"


def texts(made):
    return {c and (c.reasoning, c.answer, spanned(c)) for c in made}


def test_a_slip_by_hand():
    """Either result may be off by one digit; the first pulls its mention, the last line and the answer with it."""
    made = texts(tries(CarriedSlip(), CLIPS_TRACE, "72", CLIPS, count=300))
    first = {34: 82, 44: 92, 54: 102, 14: 62, 21: 69, 22: 70, 23: 71, 25: 73, 26: 74, 27: 75}
    expected = {
        (f"48/2 = {may} clips in May.\nSo {may} in May and 48 in April: 48+{may} = {total}.", f"{total}", digit)
        for may, total in first.items()
        for digit in ([str(may)[0]] if str(may)[1] == "4" else [str(may)[1]])
        if total != 102  # three digits only if no slip of this place keeps two
    }
    last = {42, 52, 62, 82, 92, 70, 71, 73, 74, 75}
    expected |= {
        (CLIPS_TRACE.replace("72", f"{total}"), f"{total}", f"{total}"[0 if total % 10 == 2 else 1]) for total in last
    }
    assert made == expected


def test_a_slip_on_a_dial_by_hand():
    """Modulo 10, as ``8 + 6 = 4`` tells; the quote of the second line and its second operand are the prompt's 4."""
    made = texts(tries(CarriedSlip(), DIAL_TRACE, "0", DIAL, count=300))
    first = {
        (f"Ann adds 6: 8 + 6 = {n}\nAnn takes 4: {n} - 4 = {(n - 4) % 10}", f"{(n - 4) % 10}", f"{n}")
        for n in range(10)
    }
    last = {(f"{DIAL_TRACE[:-1]}{n}", f"{n}", f"{n}") for n in range(10)}
    assert made == {(r, a, s) for r, a, s in first | last if r != DIAL_TRACE}


def test_the_others_tell_the_modulus_of_a_trace_that_does_not_wrap_around():
    trace = "Ann adds 1: 8 + 1 = 9\nAnn takes 4: 9 - 4 = 5"
    others = [demo(DIAL_TRACE, "0")]
    assert modulus_of(demo(trace)) is None and modulus_of(demo(trace), others) == 10
    answers = {c.answer for c in tries(CarriedSlip(), trace, "5", DIAL, others, count=300)}
    assert answers == set("012346789"), "2 - 4 = 8, too"
    assert "-" not in "".join(c.answer for c in tries(CarriedSlip(), trace, "5", DIAL, count=300))


def test_a_wrong_operand_by_hand():
    """48 becomes 18, 28, …; in the second step its mention in words changes, too, in the first there is none."""
    made = texts(tries(WrongOperand(), CLIPS_TRACE, "72", CLIPS, count=150))
    assert ("28/2 = 14 clips in May.\nSo 14 in May and 48 in April: 48+14 = 62.", "62", "2") in made
    assert ("48/2 = 24 clips in May.\nSo 24 in May and 46 in April: 46+24 = 70.", "70", "6") in made
    assert ("48/4 = 12 clips in May.\nSo 12 in May and 48 in April: 48+12 = 60.", "60", "4") in made, "half is 2"
    assert not any("47/2" in reasoning for reasoning, *_ in made), "23.5 has other decimals"


def test_a_stray_operand_takes_another_number_of_the_prompt():
    made = texts(tries(StrayOperand(), DIAL_TRACE, "0", DIAL, count=300))
    assert ("Ann adds 9: 8 + 9 = 7\nAnn takes 4: 7 - 4 = 3", "3", "9") in made, "what Leo took"
    assert ("Ann adds 6: 5 + 6 = 1\nAnn takes 4: 1 - 4 = 7", "7", "5") in made, "where Leo is"
    quoted = {span for *_, span in made}
    assert quoted == set("85694")


@pytest.mark.parametrize("perturbation", CARRIED)
@pytest.mark.parametrize(
    ("trace", "answer"),
    [
        ("", "72"),
        ("no numbers", "72"),
        ("48/2 = 24\n48+24 = 72", "B"),  # the answer is no number
        ("48/2 = 24\n48+24 = 72", "24 and 72"),
        ("48/2 = 24\n48+24 = 72", "5"),  # no result
        ("48 + 3 = 52", "52"),  # was false before
        ("48+24 = 72\n70+2 = 72\nSo 72.", "72"),  # twice the same value
        ("48+24 = 72\nSo x + 72 = 100.", "72"),  # what follows cannot be computed
        ("72 in all, since 48+24 = 72", "72"),  # told ahead
        ("48+24 = 72, so 37 are left", "72"),  # 37 comes from nowhere
    ],
)
def test_what_cannot_be_carried_on_is_rejected(perturbation, trace, answer):
    assert tries(perturbation, trace, answer, "48 and 24 are given") == {None}


def test_a_number_that_may_be_the_prompts_or_a_result_is_left_alone():
    trace = "48-24 = 24\n5+1 = 6\n24+6 = 30"
    for perturbation in CARRIED:
        for made in tries(perturbation, trace, "30", "48 and 24 and 5", count=60) - {None}:
            assert made.reasoning.startswith("48-24 = 24\n"), "is 24 + 6 the prompt's 24 or the first result?"


def test_numbers_keep_their_notation():
    trace = "1,250 * 2 = 2,500\nso 2,500 / 8 = $312.50 each"
    for corruption in tries(CarriedSlip(), trace, "312.50", "1,250 items, 8 of us", count=300):
        total, share = (equation.result.text for equation in find_equations(corruption.reasoning))
        assert total[1] == "," and share[-3] == "." and corruption.answer == share
    assert {c.reasoning for c in tries(CarriedSlip(), "5 * .5 = 2.5", "2.5", "5")} == {
        f"5 * .5 = {text}" for text in ("1.5", "3.5", "4.5", "5.5", "2.2", "2.3", "2.4", "2.6", "2.7", "2.8")
    }


@pytest.mark.parametrize("perturbation", CARRIED)
@pytest.mark.parametrize("demonstrations", [gsm8k, dials])
def test_only_the_first_line_is_wrong(perturbation, demonstrations):
    """Checked without the perturbation's own bookkeeping: which equations hold, before and after."""
    for one, made in corruptions(perturbation, demonstrations()[:200]):
        if made is None:
            continue
        modulus = modulus_of(one, dials() if demonstrations is dials else ())
        before, after = find_equations(one.reasoning), find_equations(made.reasoning)
        broken = [
            new for old, new in zip(before, after, strict=True) if is_true(old, modulus) and not is_true(new, modulus)
        ]
        assert len(broken) == (1 if isinstance(perturbation, CarriedSlip) else 0), made
        if broken:
            start = made.span[0] - len("<think>\n")
            assert broken[0].result.start <= start < broken[0].result.end
        assert not answers_agree(one.answer, made.answer)
        assert any(answers_agree(equation.result.text, made.answer) for equation in after)
        assert rendered(one)[: made.span[0]] == rendered(made)[: made.span[0]]
        assert len(step_spans(one.reasoning)) == len(step_spans(made.reasoning))
        assert skeleton(one.reasoning) == skeleton(made.reasoning), "only numbers change"


def test_a_slip_that_is_not_carried_on_would_be_noticed():
    """The check above counts the equations that break: two, where the second line keeps the old value."""
    stale = CLIPS_TRACE.replace("48/2 = 24", "48/2 = 26").replace("48+24 = 72", "48+26 = 72")
    broken = [equation for equation in find_equations(stale) if not equation.holds]
    assert len(broken) == 2


def test_a_wrong_operand_is_not_in_the_prompt_and_a_stray_one_is():
    for perturbation in (WrongOperand(), StrayOperand()):
        for one, made in corruptions(perturbation, dials()[:100]):
            if made is not None:
                quoted = {token.text for token in find_quantities(one.prompt)}
                assert (spanned(made) in quoted) == isinstance(perturbation, StrayOperand)


def skeleton(text):
    for token in reversed(find_quantities(text)):
        text = f"{text[: token.start]}#{text[token.end :]}"
    return text


def test_every_place_of_a_trace_gets_its_share():
    """Not only the last line goes wrong, though later lines are easier to carry on from."""
    steps = [0] * 3
    for seed in range(300):
        made = CarriedSlip()(demo("1. 3 * 4 = 12\n12 + 5 = 17\n17 + 9 = 26", "26", "3 4 5 9"), random.Random(seed))
        steps[made.reasoning[: made.span[0] - len("<think>\n")].count("\n")] += 1
    assert min(steps) > 60
