"""Loads backbones and tokenizers, and keeps clear of the traps on the way."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rairl_lightning.errors import ModelError
from rairl_lightning.models.kernels.layers import fuse_layers
from rairl_lightning.models.packed_reading import pack_if_possible
from rairl_lightning.models.specs import BackboneSpec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DROPOUT_KEY = re.compile(r"(^|_)(dropout|pdrop)")
REPACK_SWITCH = "support_avx512bf16_for_cpu"
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def load_tokenizer(spec: BackboneSpec) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a backbone.

    Raises:
        ModelError: the folder is missing, or the hub does not give it.
    """
    _check_path(spec)
    source = {"gguf_file": spec.gguf_file} if spec.gguf_file else {}
    try:
        return AutoTokenizer.from_pretrained(spec.path, revision=spec.revision, **source)
    except (OSError, ValueError) as error:
        raise _not_loaded(spec, "tokenizer", error) from error


def load_config(spec: BackboneSpec) -> PreTrainedConfig:
    """Read the configuration of a backbone, and nothing else of it.

    Raises:
        ModelError: the folder is missing, or the hub does not give it.
    """
    _check_path(spec)
    try:
        return _without_dropout(spec)
    except (OSError, ValueError) as error:
        raise _not_loaded(spec, "configuration", error) from error


def load_backbone(spec: BackboneSpec, device: torch.device | str = "cpu") -> PreTrainedModel:
    """Load a causal language model, frozen, without dropout, in evaluation mode, on its final device.

    Args:
        spec: what to load.
        device: where; a model cannot be moved later without undoing views over it.

    Raises:
        ModelError: the folder or a package is missing, the hub does not give the model, or its logits are not its
            head applied to its last hidden state.
    """
    _check_path(spec)
    device = torch.device(device)
    if spec.quantisation and spec.gguf_file:
        spec = replace(spec, path=str(dequantised_folder(spec)), gguf_file=None, revision=None)
    model = _from_pretrained(spec, device)
    model.requires_grad_(False).eval()
    _forget_dropout(model)
    _keep_autograd(model, device)
    _check_head(model)
    pack_if_possible(model)
    fuse_layers(model)
    return model


def dequantised_folder(spec: BackboneSpec) -> Path:
    """Write a GGUF backbone as plain safetensors, once, into the user's cache.

    transformers refuses to read GGUF and quantise in one go.

    Returns:
        ``$XDG_CACHE_HOME/rairl_lightning/gguf/<hash of the file's place, size and time>``.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rairl_lightning" / "gguf"
    file = Path(spec.path) / str(spec.gguf_file)
    stamp = (file.stat().st_size, file.stat().st_mtime_ns) if file.is_file() else spec.revision
    key = hashlib.sha256(repr((str(file.absolute()), stamp, spec.dtype)).encode()).hexdigest()[:16]
    folder = cache / key
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as temporary:
            _from_pretrained(replace(spec, quantisation=None), torch.device("cpu")).save_pretrained(temporary)
            load_tokenizer(spec).save_pretrained(temporary)
            if not folder.is_dir():  # else another process was faster, and wrote the same
                Path(temporary).rename(folder)
    return folder


def checkpoint_activations(*models: PreTrainedModel) -> None:
    """Recompute activations in the backward pass; only in training mode, so sampling is not affected."""
    for model in models:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def fingerprint(model: PreTrainedModel) -> str:
    """Hash of the shapes and of a few values of every tensor: equal for equal backbones, cheap for large ones."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 16)][:16].to("cpu", torch.float64)
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}{sample.tolist()}".encode())
    return digest.hexdigest()[:16]


def tensors_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Hash of named tensors, every bit of them."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().reshape(-1).cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _from_pretrained(spec: BackboneSpec, device: torch.device) -> PreTrainedModel:
    dtype = DTYPES[spec.dtype]
    arguments: dict[str, object] = {"revision": spec.revision, "dtype": dtype}
    if spec.attn_implementation:
        arguments["attn_implementation"] = spec.attn_implementation
    if spec.gguf_file:
        _require("gguf", "reads GGUF files")
        arguments |= {"gguf_file": spec.gguf_file, "quantization_config": GgufConfig(dequantize=True)}
    if spec.quantisation:
        _require("bitsandbytes", "holds weights in 4 bits")
        arguments |= {"quantization_config": nf4(dtype, device), "device_map": {"": device}}
    try:
        arguments["config"] = _without_dropout(spec)
        model = AutoModelForCausalLM.from_pretrained(spec.path, **arguments)
    except (OSError, ValueError) as error:
        raise _not_loaded(spec, "model", error) from error
    return model if spec.quantisation else model.to(device)


def nf4(dtype: torch.dtype, device: torch.device, kept: list[str] | None = None) -> BitsAndBytesConfig:
    """NF4 with double quantisation.

    Args:
        dtype: of the computation on an accelerator.
        device: where.
        kept: layers that are not quantised; None is the language-model head.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        llm_int8_skip_modules=kept,  # of 4 bits too, in spite of its name
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        # On a CPU the 4-bit kernels are twice as slow in bfloat16 as in float32.
        bnb_4bit_compute_dtype=torch.float32 if device.type == "cpu" else dtype,
    )


def _without_dropout(spec: BackboneSpec) -> PreTrainedConfig:
    source = {"gguf_file": spec.gguf_file} if spec.gguf_file else {}
    config = AutoConfig.from_pretrained(spec.path, revision=spec.revision, **source)
    for key, value in config.to_dict().items():
        if DROPOUT_KEY.search(key) and isinstance(value, float):
            setattr(config, key, 0.0)
    return config


def _forget_dropout(model: nn.Module) -> None:
    """Scoring and training must be the same function; some models take no dropout from their configuration."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _keep_autograd(model: nn.Module, device: torch.device) -> None:
    """Stop 4-bit layers from repacking their weights in evaluation mode.

    On a CPU with AVX512-BF16 the first forward in evaluation mode repacks them for a kernel without backward pass,
    for good: after sampling, training would get no gradient.
    """
    for module in model.modules():
        if device.type == "cpu" and hasattr(module, REPACK_SWITCH):
            setattr(module, REPACK_SWITCH, False)


@torch.no_grad()
def _check_head(model: PreTrainedModel) -> None:
    """We read logits as head(hidden state); a model that scales or caps them afterwards would be misread."""
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    ours = model.get_output_embeddings()(model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state)
    theirs = model(input_ids=ids, use_cache=False).logits
    if not torch.allclose(ours.float(), theirs.float(), atol=1e-3, rtol=1e-2):
        raise ModelError(
            f"{type(model).__name__} changes its logits after its head.",
            expected="logits = head(last hidden state)",
            got=f"a difference of {float((ours - theirs).abs().max()):.3g}",
            remedy="use a model without logit scaling or soft-capping",
        )


def _check_path(spec: BackboneSpec) -> None:
    folder = Path(spec.path).expanduser()
    if folder.is_dir():
        if spec.gguf_file and not (folder / spec.gguf_file).is_file():
            present = sorted(file.name for file in folder.glob("*.gguf"))
            raise ModelError(f"{folder} has no file {spec.gguf_file!r}.", got=present, remedy="correct gguf_file")
        return
    if not HUB_ID.fullmatch(spec.path) or spec.path.startswith("."):
        raise ModelError(
            f"There is no model folder {spec.path!r}.",
            expected="an existing folder, or owner/name on the hub",
            remedy="correct the backbone's path; `make smollm2` prepares models/SmolLM2-135M-Instruct",
        )


def _not_loaded(spec: BackboneSpec, part: str, error: Exception) -> ModelError:
    folder = Path(spec.path).expanduser()
    if folder.is_dir():
        expected, remedy = "a folder written by save_pretrained", "copy the missing files"
        got = f"{sorted(file.name for file in folder.iterdir())} ({str(error).partition(chr(10))[0]})"
    else:
        expected, remedy = "a folder, or a model the hub gives us", "check the name, the network and `hf auth login`"
        got = f"no folder of that name here, and from the hub: {str(error).partition(chr(10))[0]}"
    return ModelError(f"The {part} of {spec.path!r} could not be loaded.", expected=expected, got=got, remedy=remedy)


def _require(package: str, purpose: str) -> None:
    if find_spec(package) is None:
        raise ModelError(f"{package} is not installed; it {purpose}.", remedy=f"python -m pip install {package}")
