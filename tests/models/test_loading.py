import shutil

import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from rairl_lightning.errors import ConfigError, ModelError
from rairl_lightning.models import BackboneSpec, LoRASpec, loading
from rairl_lightning.models.loading import REPACK_SWITCH, load_backbone, load_tokenizer
from rairl_lightning.rollouts import HFSampler


@pytest.mark.parametrize("load", [load_backbone, load_tokenizer])
def test_a_missing_folder_is_named(load):
    with pytest.raises(ModelError, match=r"no model folder '\./nowhere'"):
        load(BackboneSpec("./nowhere"))


@pytest.mark.parametrize("load", [load_backbone, load_tokenizer])
def test_an_unreachable_hub_is_named(load):
    with pytest.raises(ModelError, match=r"(?s)'some/model' could not be loaded.*remedy"):
        load(BackboneSpec("some/model"))


@pytest.mark.parametrize("load", [load_backbone, load_tokenizer])
def test_an_empty_folder_is_named(load, tmp_path):
    with pytest.raises(ModelError, match="could not be loaded"):
        load(BackboneSpec(str(tmp_path)))


def test_a_missing_gguf_file_is_named(tmp_path):
    (tmp_path / "there.gguf").touch()
    with pytest.raises(ModelError, match=r"(?s)no file 'other.gguf'.*there.gguf"):
        load_backbone(BackboneSpec(str(tmp_path), gguf_file="other.gguf"))


def test_values_out_of_range_are_named():
    with pytest.raises(ConfigError):
        BackboneSpec("x", quantisation="int3")
    with pytest.raises(ConfigError):
        BackboneSpec("x", dtype="float16")
    with pytest.raises(ConfigError):
        LoRASpec(0, 1)
    with pytest.raises(ConfigError):
        LoRASpec(1, 1, dropout=1.0)


def test_a_loaded_backbone_is_frozen_and_without_dropout(tmp_path):
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        attention_dropout=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).attention_dropout == 0.5
    model = load_backbone(BackboneSpec(str(tmp_path)))
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    model.train()
    assert torch.equal(model(ids).logits, model(ids).logits)
    noisy = AutoModelForCausalLM.from_pretrained(tmp_path).train()
    assert not torch.equal(noisy(ids).logits, noisy(ids).logits)


def test_dtype(tiny):
    assert load_backbone(BackboneSpec(str(tiny), dtype="bfloat16")).dtype == torch.bfloat16


def test_a_model_that_changes_its_logits_after_the_head_is_refused(tiny, monkeypatch):
    forward = LlamaForCausalLM.forward

    def capped(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.logits = 5 * torch.tanh(output.logits * 10 / 5)
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", capped)
    with pytest.raises(ModelError, match="changes its logits"):
        load_backbone(BackboneSpec(str(tiny)))


class TestFourBits:
    @pytest.fixture
    def pair(self, tiny, helpers):
        return helpers.shared(tiny, "nf4").build()

    def test_the_base_is_in_4_bits_and_the_heads_are_not(self, pair):
        layer = pair.policy.decoder.layers[0].mlp.up_proj.base_layer
        assert layer.weight.dtype == torch.uint8 and layer.weight.quant_state.nested
        assert layer.weight is pair.discriminator.decoder.layers[0].mlp.up_proj.base_layer.weight
        assert pair.policy.lm_head.weight.dtype == torch.float32

    def test_the_base_is_bit_identical_after_both_players_trained(self, pair, helpers):
        frozen = {n: p.detach().clone() for n, p in pair.named_parameters() if not p.requires_grad}
        scales = pair.policy.decoder.layers[0].mlp.up_proj.base_layer.weight.quant_state.absmax.clone()
        for player in ("policy", "discriminator", "policy"):
            helpers.train(pair, player)
        assert all(torch.equal(frozen[n], p) for n, p in pair.named_parameters() if n in frozen)
        assert torch.equal(scales, pair.policy.decoder.layers[0].mlp.up_proj.base_layer.weight.quant_state.absmax)

    def test_sampling_first_leaves_the_gradients(self, pair, helpers, tiny):
        """A 4-bit layer that repacked itself in evaluation mode has no backward pass."""

        def gradients(pair):
            pair.policy.logprobs(helpers.traces(pair.codec)).logprobs.sum().backward()
            return [p.grad for p in pair.trainable_parameters("policy")]

        torch.manual_seed(3)
        fresh = gradients(helpers.perturb(helpers.shared(tiny, "nf4").build()).train())
        torch.manual_seed(3)
        pair = helpers.perturb(helpers.shared(tiny, "nf4").build()).train()
        prompt = pair.codec.encode_prompt("How many ?")
        HFSampler(4).sample(pair.policy, [prompt], 2, pair.codec, torch.Generator())
        for after, before in zip(gradients(pair), fresh, strict=True):
            torch.testing.assert_close(after, before)

    def test_every_4_bit_layer_keeps_autograd(self, pair):
        switches = [getattr(m, REPACK_SWITCH) for m in pair.modules() if hasattr(m, REPACK_SWITCH)]
        assert switches and not any(switches)

    def test_without_the_switch_sampling_rewrites_the_weights(self, pair):
        if not has_avx512bf16():
            pytest.skip("only CPUs with AVX512-BF16 repack 4-bit weights")
        layer = pair.policy.decoder.layers[0].self_attn.q_proj.base_layer
        setattr(layer, REPACK_SWITCH, True)
        before = layer.weight.detach().clone()
        HFSampler(1).sample(pair.policy, [[1, 2]], 1, pair.codec, torch.Generator())
        assert before.shape != layer.weight.shape or not torch.equal(before, layer.weight)

    def test_adapters_round_trip(self, pair, helpers, tiny, tmp_path):
        tokens = helpers.traces(pair.codec)
        helpers.perturb(pair).save_adapters(tmp_path)
        other = helpers.shared(tiny, "nf4").build()
        other.load_adapters(tmp_path)
        assert torch.equal(pair.discriminator(tokens), other.discriminator(tokens))
        assert torch.equal(pair.policy.logprobs(tokens).logprobs, other.policy.logprobs(tokens).logprobs)


def test_gguf_in_4_bits_is_prepared_once(tiny, tmp_path, monkeypatch):
    """The reader of GGUF itself is tested on SmolLM2; here it reads safetensors."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "weights.gguf").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain, read = loading._from_pretrained, []

    def from_pretrained(spec, device):
        read.append(spec.gguf_file)
        return plain(BackboneSpec(spec.path, quantisation=spec.quantisation), device)

    monkeypatch.setattr(loading, "_from_pretrained", from_pretrained)
    monkeypatch.setattr(loading, "load_tokenizer", lambda spec: load_tokenizer(BackboneSpec(spec.path)))
    spec = BackboneSpec(str(folder), gguf_file="weights.gguf", quantisation="nf4")
    first, second = load_backbone(spec), load_backbone(spec)
    assert read == ["weights.gguf", None, None]
    assert first.model.layers[0].mlp.up_proj.weight.dtype == torch.uint8
    assert torch.equal(first.model.layers[0].mlp.up_proj.weight, second.model.layers[0].mlp.up_proj.weight)
