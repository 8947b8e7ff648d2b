"""Errors of words: the wrong direction, entity, negation or option."""

import random

import pytest
from perturbing import corruptions, demo, medreason, mmlu_pro, spanned, tries

from rairl_lightning.text.answers import answers_agree
from rairl_lightning.text.perturbations import DirectionFlip, Negation, SwappedOption, WrongEntity
from rairl_lightning.text.perturbations.opposites import DENIALS, DIRECTIONS
from rairl_lightning.text.perturbations.options import listed_options

PETS = "Which purrs?\nA. cat\nB. dog\nC. Grey Parrot"


def reasonings(made):
    return {c and c.reasoning for c in made}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("It increases.", {"It decreases."}),
        ("HIGHER doses", {"LOWER doses"}),
        ("Hyperkalemia and bradycardia", {"Hypokalemia and bradycardia", "Hyperkalemia and tachycardia"}),
        ("A hypothesis about hyperbole", {None}),
        ("An elevated level", {"A reduced level"}),
        ("a long way", {"a short way"}),
        ("Ann raises 3: 4 + 3 = 7", {"Ann lowers 3: 4 + 3 = 7"}),
        ("Ann takes 3 and takes care", {"Ann adds 3 and takes care"}),
        ("5 apples are left, right?", {None}),
        ("the left ventricle", {"the right ventricle"}),
        ("First, we look.", {None}),
        ("more or less", {"more or more"}),
        ("no longer, any longer, longer", {"no longer, any longer, shorter"}),
        ("how many, as many", {None}),
        ("the highway", {None}),
        ("pre-increase", {None}),
        ("", {None}),
    ],
)
def test_a_direction_by_hand(before, after):
    assert reasonings(tries(DirectionFlip(), before)) == after


@pytest.mark.parametrize("table", [DIRECTIONS, DENIALS])
def test_no_word_is_its_own_opposite(table):
    assert all(word != opposite and word.islower() for word, opposite in table.items())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("It is red.", {"It is not red."}),
        ("It can fly.", {"It cannot fly."}),
        ("It is not red.", {"It is red."}),
        ("It cannot fly.", {"It can fly."}),
        ("It doesn't fly.", {"It does fly."}),
        ("It isn’t red.", {"It is red."}),
        ("a common sign", {"an uncommon sign"}),
        ("also known as X", {None}),
        ("a known drug", {"an unknown drug"}),
        ("Always there", {"Never there"}),
        ("May was it, Will is it", {"May was not it, Will is it", "May was it, Will is not it"}),
        ("The answer is (B).", {None}),
        ("It is, as we know", {None}),
        ("3 + 4 = 7", {None}),
    ],
)
def test_a_negation_by_hand(before, after):
    assert reasonings(tries(Negation(), before)) == after


def test_a_negation_is_added_as_often_as_taken_away():
    text = demo("It is red. It is big. It is not far.")
    taken = sum("is far" in Negation()(text, random.Random(seed)).reasoning for seed in range(200))
    assert 70 < taken < 130


@pytest.mark.parametrize(
    ("prompt", "before", "after"),
    [
        ("Where is the dial of Ann? The dial of Ben is at 4.", "Ann raises 3", {"Ben raises 3"}),
        ("In the month of May and then April", "In May it rained", {"In April it rained"}),
        ("When the NASA and the ESA met Bob", "NASA flew", {"ESA flew"}),
        ("3 hens lay 4 eggs", "5 hens", {"5 eggs"}),
        ("3 hens lay 4 eggs", "an 8 egg", {None}),  # nothing else in the singular
        ("3 people, 1 boat, 4 cars", "6 boat trips", {None}),  # half a compound
        ("3 people, 1 boat, 4 cars", "5 blue cards", {None}),  # an adjective
        ("3 people, 1 boat, 4 cars", "2 people", {"2 cars"}),  # a plural without an s
        ("1 hour of rain, 1 boat trip", "1 day for it", {"1 hour for it"}),
        ("Does dioxide provide a peptide?", "They provide a peptide", {"They provide a dioxide"}),  # a verb
        ("Of various serous fluids", "a versus b, serous", {None}),
        ("arthritis or dermatitis", "It is arthritis", {"It is dermatitis"}),
        ("arthritis or pneumonia", "It is arthritis", {None}),
        ("Is it hypertension or an infection?", "a hypertension", {"an infection"}),
        ("", "3 hens and Ann", {None}),
    ],
)
def test_an_entity_by_hand(prompt, before, after):
    assert reasonings(tries(WrongEntity(), before, prompt=prompt)) == after


def test_an_entity_is_taken_from_the_others_if_the_prompt_has_none():
    others = [demo("x", prompt="When did Zoe come?", name="b")]
    assert reasonings(tries(WrongEntity(), "Ann eats", prompt="did Ann eat", others=others)) == {"Zoe eats"}
    assert reasonings(tries(WrongEntity(), "Ann eats", prompt="did Ann or Bob eat", others=others)) == {"Bob eats"}


@pytest.mark.parametrize(
    ("answer", "before", "dog", "parrot"),
    [
        ("A", "Cats. The answer is (A).", "Cats. The answer is (B).", "Cats. The answer is (C)."),
        ("A", "A, so:\nAnswer: A. cat", "A, so:\nAnswer: B. dog", "A, so:\nAnswer: C. Grey Parrot"),
        ("(A)", "A cat is a cat.", "A cat is a dog.", "A cat is a Grey Parrot."),
        ("A. cat", "It purrs", "It purrs", "It purrs"),
        ("cat", "It purrs", "It purrs", "It purrs"),
        ("A", "Let $A$; the answer is $\\boxed{A}$", *(f"Let $A$; the answer is $\\boxed{{{x}}}$" for x in "BC")),
    ],
)
def test_an_option_by_hand(answer, before, dog, parrot):
    answers = [
        answer.replace("A", letter).replace("cat", text) for letter, text in (("B", "dog"), ("C", "Grey Parrot"))
    ]
    made = {(c.reasoning, c.answer) for c in tries(SwappedOption(), before, answer, PETS)}
    assert made == {(dog, answers[0]), (parrot, answers[1])}


def test_an_options_text_is_written_as_it_was_mentioned():
    prompt = "Which purrs?\nA. Cat\nB. Dog\nC. ESA\nD. owl"
    assert reasonings(tries(SwappedOption(), "It must be a cat.", "A", prompt)) == {
        "It must be a dog.",
        "It must be an ESA.",
        "It must be an owl.",
    }
    assert reasonings(tries(SwappedOption(), "Owl it is.", "D", prompt)) == {"Cat it is.", "Dog it is.", "ESA it is."}


def test_the_span_of_an_option_is_where_it_is_first_named():
    made = tries(SwappedOption(), "The answer is (A). So A.", "A", PETS)
    assert {(c.span[0], spanned(c)) for c in made} == {(len("<think>\nThe answer is ("), letter) for letter in "BC"}
    assert {spanned(c) for c in tries(SwappedOption(), "It purrs", "cat", PETS)} == {"dog", "Grey Parro"}


@pytest.mark.parametrize("answer", ["D", "17", "", "A or B", "A. dog", "a"])
def test_an_answer_that_is_no_option_is_rejected(answer):
    assert tries(SwappedOption(), f"The answer is {answer}", answer, PETS) == {None}


def test_options_are_read_from_the_end_of_the_prompt():
    assert listed_options("A. Smith asks:\n(A) one\n(B) two") == {"A": "one", "B": "two"}
    assert listed_options("A. only one") == listed_options("B. x\nC. y") == listed_options("") == {}
    assert {c.answer for c in tries(SwappedOption(), "r", "F", "no list")} == set("ABCDE")


@pytest.mark.parametrize("demonstrations", [mmlu_pro, medreason])
def test_a_swapped_option_is_another_one_of_the_list(demonstrations):
    for one, made in corruptions(SwappedOption(), demonstrations()):
        assert made is not None and not answers_agree(one.answer, made.answer)
        assert made.answer in listed_options(one.prompt)
        stated = f"({one.answer})."
        assert not made.reasoning.endswith(f"The answer is {stated}")
