"""What to load, as plain values that fit into YAML."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rairl_lightning.errors import ConfigError

BUILTIN = "builtin:"
ASSETS = Path(__file__).resolve().parent.parent / "assets"


def builtin_folder(name: str) -> Path:
    """Folder of a model that is shipped with the package.

    Raises:
        ConfigError: there is no such model.
    """
    known = sorted(folder.name for folder in ASSETS.iterdir() if folder.is_dir() and folder.name != "__pycache__")
    if name not in known:
        expected = " or ".join(BUILTIN + one for one in known)
        raise ConfigError("There is no such built-in model.", expected=expected, got=BUILTIN + name)
    return ASSETS / name


@dataclass(frozen=True)
class BackboneSpec:
    """A causal language model and how to hold it in memory. Remote code is never run.

    Attributes:
        path: folder, or ``owner/name`` on the Hugging Face hub, or ``builtin:dials`` for the tiny model of the
            quickstart.
        gguf_file: file inside ``path`` to read instead of safetensors; it is dequantised.
        revision: commit, branch or tag on the hub.
        quantisation: ``"nf4"`` holds the frozen weights in 4 bits with double quantisation (QLoRA, arXiv 2305.14314).
        dtype: of the weights that are not quantised, and of the computation on an accelerator.
        attn_implementation: as in transformers (``"sdpa"``, ``"eager"``, …); None takes its default.
        chat_template: Jinja template that replaces the tokenizer's own.
    """

    path: str
    gguf_file: str | None = None
    revision: str | None = None
    quantisation: Literal["nf4"] | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    attn_implementation: str | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if self.path.startswith(BUILTIN):
            object.__setattr__(self, "path", str(builtin_folder(self.path.removeprefix(BUILTIN))))
        if self.quantisation not in (None, "nf4"):
            raise ConfigError("Unknown quantisation.", expected="null or 'nf4'", got=self.quantisation)
        if self.dtype not in ("float32", "bfloat16"):
            raise ConfigError("Unknown dtype.", expected="'float32' or 'bfloat16'", got=self.dtype)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine, which others do not have."""
        return Path(self.path).expanduser().is_dir()

    @property
    def found_at(self) -> str:
        """What ``from_pretrained`` takes, whatever the current folder."""
        return str(Path(self.path).expanduser().resolve()) if self.is_local else self.path

    @property
    def public_name(self) -> str:
        """What others may be told: the id on the hub, the built-in name, or the last part of a folder's path."""
        path = self.portable().path
        return Path(path).name if self.is_local and not path.startswith(BUILTIN) else path

    def portable(self) -> BackboneSpec:
        """The same backbone by a path that depends neither on the current folder nor on where this package lies.

        >>> BackboneSpec("builtin:dials").portable().path
        'builtin:dials'
        """
        folder = Path(self.path).expanduser()
        if folder.parent == ASSETS:
            copy = replace(self)
            object.__setattr__(copy, "path", BUILTIN + folder.name)
            return copy
        return replace(self, path=str(folder.resolve())) if folder.is_dir() else self


@dataclass(frozen=True)
class LoRASpec:
    """A low-rank adapter (arXiv 2106.09685); the weights add ``alpha / r · B A``.

    Attributes:
        r: rank, ≥ 1.
        alpha: scale before the division by ``r``.
        dropout: on the adapter's input, in [0, 1); 0 keeps scoring and training the same function.
        target_modules: ``"all-linear"``, or the names of the layers to adapt.
    """

    r: int = 256
    alpha: float = 512.0
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ConfigError("The LoRA rank is too small.", expected="r >= 1", got=self.r)
        if not 0 <= self.dropout < 1:
            raise ConfigError("The LoRA dropout is out of range.", expected="0 <= dropout < 1", got=self.dropout)
