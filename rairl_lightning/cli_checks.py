"""What a configuration may not say, refused before anything large is loaded."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

from rairl_lightning.cli_names import PACKAGE, argument_hints, listed, loaded, public_classes, taken_by
from rairl_lightning.errors import ConfigError

_SCALER = "its loss scale would clip scaled gradients, and one scale cannot serve two optimisers"
_NO_MASTER = "the trained weights themselves would be rounded, with no float32 copy"
_REFUSED_PRECISION = {"16-mixed": _SCALER, "16": _SCALER, "16-true": _NO_MASTER, "bf16-true": _NO_MASTER}
_REFUSED_STRATEGIES = {
    "fsdp": "FSDP1 flattens 4-bit and float weights into one, and cannot clip by norm",
    "deepspeed": "its engine steps one optimiser of one model, and there are two players",
    "modelparallel": "by itself it does not know which shards two players share; fsdp2 is it, with that knowledge",
}
_OURS = {
    "accumulate_grad_batches": (1, "model.init_args.max_tokens_per_microbatch"),
    "gradient_clip_val": (None, "model.init_args.gradient_clip"),
    "gradient_clip_algorithm": (None, "model.init_args.gradient_clip"),
}


def check_trainer(trainer: Mapping[str, Any], *, manual: bool) -> None:
    """Refuse what cannot work, before anything large is loaded.

    Args:
        trainer: the Trainer's arguments as configured.
        manual: whether the model optimises manually, as ours do.

    Raises:
        ConfigError: for fp16 and pure 16-bit precision, for strategies that cannot work, and under manual optimisation
            for the Trainer's own accumulation and clipping.
    """
    precision = str(trainer.get("precision"))
    if precision in _REFUSED_PRECISION:
        raise ConfigError(
            f"trainer.precision {precision} is refused: {_REFUSED_PRECISION[precision]}.",
            expected="32-true or bf16-mixed",
            got=precision,
            remedy="use --trainer.precision bf16-mixed; a 4-bit base is set in the model, not here",
        )
    strategy = trainer.get("strategy")
    name = strategy if isinstance(strategy, str) else (strategy or {}).get("class_path", "")
    kind = name.split(".")[-1].lower()
    for prefix, reason in _REFUSED_STRATEGIES.items():
        if kind.startswith(prefix) and kind != "fsdp2":
            raise ConfigError(
                f"trainer.strategy {name} is refused: {reason}.",
                expected="auto on one device, ddp or fsdp2 on several",
                got=name,
                remedy="use --trainer.strategy ddp; a 4-bit base needs a quarter of the memory; or fsdp2",
            )
    for key, (neutral, ours) in _OURS.items():
        if manual and trainer.get(key) not in (neutral, None):
            raise ConfigError(
                f"trainer.{key} does nothing here: the algorithm steps its optimisers itself.",
                expected=f"trainer.{key} left alone",
                got=trainer.get(key),
                remedy=f"set {ours}",
            )


def refuse_null(value: Any, path: str = "model") -> None:
    """Refuse null for an argument of ours whose type has none; the parser lets it through.

    Args:
        value: the configured value, a mapping with ``class_path`` and ``init_args`` where it is an object.
        path: its dotted key.

    Raises:
        ConfigError: there is one.
    """
    if not isinstance(value, Mapping):
        return
    arguments = value.get("init_args") or {}
    name = str(value.get("class_path", ""))
    owner = loaded(name) if name.startswith(f"{PACKAGE}.") else None
    hints = argument_hints(owner) if owner is not None else {}
    for key, item in arguments.items():
        hint: Any = hints.get(key)
        refused = item is None and NoneType not in get_args(hint)
        # Only now: it looks through every class that is loaded.
        allows = isinstance(hint, type) and isinstance(None, hint)
        if refused and not allows and (taken := taken_by(hint, public_classes())):
            raise ConfigError(
                f"{path}.{key} may not be null.",
                expected=listed(taken),
                got="null",
                remedy="leave the key out for what it is by default",
            )
        refuse_null(item, f"{path}.{key}")
