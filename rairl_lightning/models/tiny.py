"""A tiny Llama-shaped model with its own lossless tokenizer, saved as a plain Hugging Face folder.

``AutoTokenizer`` and ``AutoModelForCausalLM`` load it without this package. Not in the paper; it exists so that every
part of the method can be run, tested and shown on one CPU core.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from string import digits, printable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# A tag takes the line breaks around it, a word or a mark its leading space, a digit always stands alone.
PIECES = r"\n?</?[a-z]+>\n?| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s"
SPECIALS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|assistant|>", "<|unk|>")
CHAT_TEMPLATE = (
    "<|bos|>{% for message in messages %}"
    "{% if message.role == 'assistant' %}<|assistant|>{{ message.content }}<|eos|>"
    "{% elif message.role == 'system' %}{{ message.content }}\n"
    "{% else %}{{ message.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_tokenizer(corpus: Iterable[str], *, max_words: int = 4000, max_length: int = 1024) -> PreTrainedTokenizerFast:
    """Learn a word-level tokenizer that gives back exactly the text it was given.

    A word that is not in the vocabulary is spelt in characters; a character that is neither printable ASCII nor in
    the corpus becomes ``<|unk|>``.

    Args:
        corpus: texts whose words become single tokens.
        max_words: keep at most this many of the most frequent words.
        max_length: longest sequence the tokenizer announces, in tokens.

    >>> tokenizer = tiny_tokenizer(["Ann has 12 cups"])
    >>> tokenizer.tokenize("Ann has 21 cups"), tokenizer.decode(tokenizer.encode("Ann has  cup"))
    (['Ann', ' has', ' 2', '1', ' cups'], 'Ann has  cup')
    """
    splitter = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    words: Counter[str] = Counter()
    characters = {*printable, *(f" {digit}" for digit in digits)}
    for text in corpus:
        words.update(piece for piece, _ in splitter.pre_tokenize_str(text))
        characters.update(text)
    frequent = [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0]))[:max_words]]
    vocabulary = dict.fromkeys([*SPECIALS, *sorted(characters), *frequent])
    # BPE without merges: a whole word if it is known, else its characters.
    bpe = models.BPE({token: i for i, token in enumerate(vocabulary)}, [], ignore_merges=True, unk_token="<|unk|>")
    backend = Tokenizer(bpe)
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        unk_token="<|unk|>",
        additional_special_tokens=["<|assistant|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )


def build_tiny(
    folder: Path | str,
    corpus: Iterable[str],
    *,
    hidden: int = 96,
    layers: int = 4,
    heads: int = 4,
    max_length: int = 1024,
    seed: int = 0,
) -> Path:
    """Save a randomly initialised Llama-shaped model (tied embeddings, float32) and its tokenizer.

    Args:
        folder: where to write; created if needed.
        corpus: texts whose words become tokens.
        hidden: width of the model, a multiple of ``2 * heads``; 96 with 4 layers is about 0.5 M parameters.
        layers: decoder blocks.
        heads: attention heads.
        max_length: longest sequence, in tokens.
        seed: of the initial weights; the global generator is left as it was.

    Returns:
        ``folder``.
    """
    tokenizer = tiny_tokenizer(corpus, max_length=max_length)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)
