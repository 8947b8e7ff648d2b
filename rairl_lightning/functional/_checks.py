"""Checks shared by the pure functions and the components: expected and got in every message."""

from torch import Tensor

from rairl_lightning.errors import ConfigError, DataError


def check_same_shape(**tensors: Tensor) -> None:
    """Raise unless all tensors have one shape.

    Raises:
        DataError: two shapes differ; broadcasting silently is how rewards land on the wrong tokens.

    >>> import torch
    >>> check_same_shape(values=torch.zeros(2, 3), mask=torch.zeros(2, 3))
    """
    (first, expected), *rest = ((name, tuple(tensor.shape)) for name, tensor in tensors.items())
    for name, shape in rest:
        if shape != expected:
            raise DataError(f"{name} and {first} differ in shape.", expected=expected, got=shape)


def check_number(
    name: str,
    value: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Raise unless ``value`` lies in the given interval (NaN never does).

    Args:
        name: what the number is called in the configuration.
        value: the number.
        above: exclusive lower bound.
        at_least: inclusive lower bound.
        below: exclusive upper bound.
        at_most: inclusive upper bound.

    Raises:
        ConfigError: the number lies outside.
    """
    wanted, fits = [], []
    if above is not None:
        wanted.append(f"> {above}")
        fits.append(value > above)
    if at_least is not None:
        wanted.append(f">= {at_least}")
        fits.append(value >= at_least)
    if below is not None:
        wanted.append(f"< {below}")
        fits.append(value < below)
    if at_most is not None:
        wanted.append(f"<= {at_most}")
        fits.append(value <= at_most)
    if not all(fits):
        raise ConfigError(
            f"{name} is out of range.", expected=" and ".join(wanted), got=value, remedy=f"change {name} in the YAML"
        )
