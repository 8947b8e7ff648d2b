from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rairl_lightning.models import BackboneSpec, ExpectationHead, LoRASpec, ModelPair, PairSpec, SharedBase, TraceCodec
from rairl_lightning.models.tiny import CHAT_TEMPLATE, build_tiny
from rairl_lightning.types import Demonstration, TokenBatch

CORPUS = (
    "Ann starts with 3 cups . Mia multiplies it by 4 . How many cups does Ann have ?",
    "<think>\nmultiplies 3 * 4 = 12\nadds 12 + 5 = 17\n</think>\n<answer>\n17\n</answer>",
)
DEMONSTRATION = Demonstration("d", CORPUS[0], "multiplies 3 * 4 = 12\nadds 12 + 5 = 17", "17")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny"), CORPUS, hidden=64, layers=2, heads=4)


@pytest.fixture(scope="session")
def codec(tiny: Path) -> TraceCodec:
    return shared(tiny).load_codec()


def shared(folder: Path, quantisation: str | None = None, **settings: object) -> SharedBase:
    lora = LoRASpec(4, 8)
    return SharedBase(BackboneSpec(str(folder), quantisation=quantisation), lora, lora, ExpectationHead(8), **settings)


def perturb(pair: ModelPair) -> ModelPair:
    """Move every trainable weight off its start, where adapters and heads are silent."""
    with torch.no_grad():
        for player in ("policy", "discriminator"):
            for parameter in pair.trainable_parameters(player):
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return pair


def traces(codec: TraceCodec, side: str = "right") -> TokenBatch:
    answers = ["7", "multiplies 3 * 4 = 12", "adds 12 + 5 = 17\nadds 17 + 5 = 22\nadds 22 + 5 = 27", "3\n4\n5"]
    rows = [
        codec.encode_demonstration(Demonstration(a, CORPUS[0][: 20 + 9 * i], a, "12")) for i, a in enumerate(answers)
    ]
    return TokenBatch.from_traces(rows, codec.pad_id, side=side)


class Helpers:
    shared = staticmethod(shared)
    perturb = staticmethod(perturb)
    traces = staticmethod(traces)
    demonstration = DEMONSTRATION
    corpus = CORPUS

    @staticmethod
    def train(pair: ModelPair, player: str, steps: int = 2) -> None:
        tokens = traces(pair.codec)
        optimiser = torch.optim.AdamW(pair.trainable_parameters(player), lr=1e-2)
        for _ in range(steps):
            optimiser.zero_grad()
            output = pair.policy.logprobs(tokens).logprobs if player == "policy" else pair.discriminator(tokens)
            (output * tokens.completion_mask).sum().neg().backward()
            optimiser.step()

    @staticmethod
    def build(spec: PairSpec) -> ModelPair:
        return perturb(spec.build())


@pytest.fixture(scope="session")
def helpers() -> Helpers:
    return Helpers()


def _fast(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|eos|>",
        bos_token="<|bos|>",
        chat_template=CHAT_TEMPLATE,
        additional_special_tokens=["<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def byte_level() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([*CORPUS, "Ünï çodé 漢字 🙂🙂 漢字"] * 3, trainer)
    return _fast(backend)


@pytest.fixture(scope="session")
def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Spaces as ▁, unknown characters as bytes, the first space stripped: what Llama 2 and Mistral do."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz<>/=+.0123456789"]
    merges = [("▁", letter) for letter in "abcdefgh"]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *("".join(pair) for pair in merges)])}
    backend = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _fast(backend)
