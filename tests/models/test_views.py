import copy

import pytest
from torch import nn

from rairl_lightning.errors import ModelError
from rairl_lightning.models.views import assert_shared, view


def test_a_view_shares_tensors_and_not_modules():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    other = view(model)
    assert other is not model and other[0] is not model[0]
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert all(a is b for a, b in zip(model.buffers(), other.buffers(), strict=True))


def test_ties_survive():
    model = nn.ModuleDict({"embedding": nn.Embedding(4, 3), "head": nn.Linear(3, 4, bias=False)})
    model["head"].weight = model["embedding"].weight
    assert view(model)["head"].weight is view(model)["embedding"].weight


def test_modules_put_into_a_view_stay_there():
    model = nn.Sequential(nn.Linear(3, 3))
    view(model)[0] = nn.Identity()
    assert isinstance(model[0], nn.Linear)


def test_a_copy_is_reported():
    model = nn.Linear(2, 2)
    assert_shared(model, view(model))
    with pytest.raises(ModelError, match="no longer share"):
        assert_shared(model, copy.deepcopy(model))
