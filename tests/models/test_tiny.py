import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from rairl_lightning.models.tiny import build_tiny, tiny_tokenizer


def test_reloads_without_this_package(tiny, codec):
    tokenizer, model = AutoTokenizer.from_pretrained(tiny), AutoModelForCausalLM.from_pretrained(tiny)
    text = "Ann has 12 cups\n<think>\n"
    assert tokenizer(text)["input_ids"] == codec.tokenizer(text)["input_ids"]
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3
    assert model.config.vocab_size == len(tokenizer)
    assert model.lm_head.weight is model.model.embed_tokens.weight


@given(text=st.text(st.characters(max_codepoint=126, min_codepoint=32) | st.sampled_from("\n\t"), max_size=40))
def test_ascii_comes_back_as_it_was(codec, text):
    ids = codec.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert codec.tokenizer.decode(ids) == text


def test_tokens_are_words_single_digits_and_tags():
    tokenizer = tiny_tokenizer(["Ann has 12 cups.\n</think>\n<answer>"])
    pieces = tokenizer.tokenize("Ann has 12 cups.\n</think>\n<answer>")
    assert pieces == ["Ann", " has", " 1", "2", " cups", ".", "\n</think>\n", "<answer>"]


def test_unknown_characters_become_unk():
    tokenizer = tiny_tokenizer(["a"])
    assert tokenizer("漢", add_special_tokens=False)["input_ids"] == [tokenizer.unk_token_id]


def test_seed_decides_the_weights_and_the_global_generator_stays(tmp_path):
    before = torch.get_rng_state()
    folders = [
        build_tiny(tmp_path / name, ["a b"], hidden=16, layers=1, heads=2, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert torch.equal(before, torch.get_rng_state())
    a, b, c = (AutoModelForCausalLM.from_pretrained(folder).lm_head.weight for folder in folders)
    assert torch.equal(a, b) and not torch.equal(a, c)
