"""Decoding without transformers' own forward pass: prompts read once, weights in the layout the machine reads fastest.

For models of the Llama shape (Llama, Qwen2, Qwen3, Mistral); :func:`lean_decoder` returns None for all others.
"""

from rairl_lightning.models.decoding.decoder import LeanDecoder
from rairl_lightning.models.decoding.finding import lean_decoder
from rairl_lightning.models.decoding.session import Session
from rairl_lightning.models.decoding.weights import DynamicInt8, HeldWeights, InPlace, Native, Packed, Product

__all__ = [
    "DynamicInt8",
    "HeldWeights",
    "InPlace",
    "LeanDecoder",
    "Native",
    "Packed",
    "Product",
    "Session",
    "lean_decoder",
]
