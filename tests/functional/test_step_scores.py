import numpy as np
import pytest
import torch

from rairl_lightning.components import LastToken, StepDrop, StepMean, StepMinimum
from rairl_lightning.errors import DataError
from rairl_lightning.functional import step_change, step_last, step_mean, step_minimum

WORDS = {
    LastToken(): lambda parts: [part[-1] for part in parts],
    StepMean(): lambda parts: [np.mean(part) for part in parts],
    StepMinimum(): lambda parts: [min(part) for part in parts],
    StepDrop(): lambda parts: np.diff([0, *(part[-1] for part in parts)]),
    StepDrop(StepMean()): lambda parts: np.diff([0, *(np.mean(part) for part in parts)]),
}
SPANS = [[(1, 2), (3, 3), (5, 8)], [(0, 4)]]  # column 4 of the first row lies in no step


def spans():
    out = torch.full((2, 3, 2), -1, dtype=torch.int64)
    for n, row in enumerate(SPANS):
        out[n, : len(row)] = torch.tensor(row)
    return out


def test_scores_agree_with_their_words(generator):
    values = torch.randn(2, 9, dtype=torch.float64, generator=generator)
    values[0, 4] = torch.nan
    results = []
    for score, words in WORDS.items():
        ours = score(values, spans())
        for n, row in enumerate(SPANS):
            assert np.allclose(ours[n, : len(row)], words([values[n, a : b + 1].numpy() for a, b in row]))
            assert ours[n, len(row) :].tolist() == [0] * (3 - len(row))
        results.append(tuple(ours.flatten().tolist()))
    assert len(set(results)) != 1 and len(set(results)) == len(WORDS)  # control: each is another


def test_functions_are_the_components(generator):
    values = torch.randn(2, 9, generator=generator)
    assert torch.equal(step_last(values, spans()), LastToken()(values, spans()))
    assert torch.equal(step_mean(values, spans()), StepMean()(values, spans()))
    assert torch.equal(step_minimum(values, spans()), StepMinimum()(values, spans()))
    assert step_change(torch.tensor([[1.0, 3.0]]), baseline=2.0).tolist() == [[-1, 2]]


def test_one_token_is_all_alike(generator):
    values = torch.randn(1, 4, generator=generator)
    single = torch.tensor([[[2, 2]]])
    assert len({f(values, single).item() for f in (step_last, step_mean, step_minimum)}) == 1


def test_rows_must_fit():
    for function in (step_last, step_mean, step_minimum):
        with pytest.raises(DataError, match="differ in shape"):
            function(torch.zeros(3, 9), spans())
