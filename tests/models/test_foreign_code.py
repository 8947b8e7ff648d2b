"""A model folder from anybody: its weights and texts are read, its code is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from jinja2.exceptions import SecurityError

from rairl_lightning.errors import ModelError
from rairl_lightning.models import BackboneSpec, FullFineTuning
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.loading import load_tokenizer

CODE = "from pathlib import Path\nPath({!r}).touch()\nfrom transformers import {} as Thing\n"
CLASSES = {"AutoConfig": "LlamaConfig", "AutoModelForCausalLM": "LlamaForCausalLM", "AutoTokenizer": "LlamaTokenizer"}


@pytest.fixture
def foreign(base: Path, tmp_path: Path) -> Path:
    """The toy model, with classes of its own that leave a file behind."""
    folder = Path(shutil.copytree(base, tmp_path / "foreign"))
    for auto, name in CLASSES.items():
        (folder / f"own_{auto}.py").write_text(CODE.format(str(tmp_path / "ran"), name))
    for file in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / file).read_text())
        auto_map = {auto: f"own_{auto}.Thing" for auto in CLASSES}
        (folder / file).write_text(json.dumps({**content, "auto_map": auto_map}))
    return folder


def test_code_beside_the_weights_is_not_run(foreign: Path, tmp_path: Path) -> None:
    FullFineTuning(BackboneSpec(str(foreign))).build()
    assert not (tmp_path / "ran").exists()


def test_a_model_that_needs_its_code_is_refused(foreign: Path, tmp_path: Path) -> None:
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps({**config, "model_type": "own", "architectures": ["Own"]}))
    with pytest.raises(ModelError):
        FullFineTuning(BackboneSpec(str(foreign))).build()
    assert not (tmp_path / "ran").exists()


def test_a_chat_template_stays_in_its_sandbox(foreign: Path) -> None:
    for file in foreign.glob("*.jinja"):
        file.write_text("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    config = json.loads((foreign / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (foreign / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises((SecurityError, ModelError)):
        TraceCodec(load_tokenizer(BackboneSpec(str(foreign)))).encode_prompt("gate 7")
