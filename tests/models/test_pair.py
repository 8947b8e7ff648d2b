import pytest
import torch
from compiled import without_compiled
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rairl_lightning.errors import CheckpointError, ConfigError, ModelError
from rairl_lightning.models import (
    BackboneSpec,
    ExpectationHead,
    FullFineTuning,
    LoRASpec,
    SharedBase,
    TwoBackbones,
)
from rairl_lightning.models.tiny import build_tiny
from rairl_lightning.models.views import assert_shared

PLAYERS = ("policy", "discriminator")


@pytest.fixture(params=["shared", "two", "full"])
def spec(request, tiny, helpers):
    backbone, lora = BackboneSpec(str(tiny)), LoRASpec(4, 8)
    return {
        "shared": helpers.shared(tiny),
        "two": TwoBackbones(backbone, backbone, lora, LoRASpec(2, 4), ExpectationHead(4)),
        "full": FullFineTuning(backbone, ExpectationHead(4)),
    }[request.param]


def snapshot(pair, role):
    return {name: parameter.detach().clone() for name, parameter in getattr(pair, role).named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(params=["compiled", "torch"])
def rounding(request, spec, monkeypatch) -> float:
    """How far policy and reference may be apart: a head that learns is not read in blocks, a frozen one is."""
    if request.param == "torch":
        without_compiled(monkeypatch)
    return 2e-6 if request.param == "compiled" and isinstance(spec, FullFineTuning) else 0.0


def test_players_start_from_the_base(spec, helpers, codec, rounding):
    pair, tokens = spec.build(), helpers.traces(codec)
    reference = pair.reference.logprobs(tokens).logprobs
    torch.testing.assert_close(pair.policy.logprobs(tokens).logprobs, reference, atol=rounding, rtol=0)
    assert not pair.discriminator(tokens).any()


@pytest.mark.parametrize("player", PLAYERS)
def test_a_player_moves_itself_only(spec, helpers, player):
    pair = spec.build()
    before = {role: snapshot(pair, role) for role in (*PLAYERS, "reference")}
    own = {id(parameter) for parameter in pair.trainable_parameters(player)}
    helpers.train(pair, player)
    for role in before:
        for name, parameter in getattr(pair, role).named_parameters():
            moved = not torch.equal(parameter, before[role][name])
            assert moved <= (id(parameter) in own), f"{role}.{name}"
    assert not same(snapshot(pair, player), before[player])


def test_trainable_parameters_are_disjoint_and_all_get_gradients(spec, helpers):
    pair = helpers.build(spec)
    tokens = helpers.traces(pair.codec)
    pair.policy.logprobs(tokens).logprobs.sum().backward()
    pair.discriminator(tokens).sum().backward()
    players = [pair.trainable_parameters(player) for player in PLAYERS]
    assert not {id(p) for p in players[0]} & {id(p) for p in players[1]}
    assert all(p.requires_grad and p.grad is not None for player in players for p in player)
    wanted = {id(p) for player in players for p in player}
    assert all(p.requires_grad == (id(p) in wanted) for p in pair.parameters())


def test_one_base_is_shared(tiny, helpers):
    pair = helpers.shared(tiny).build()
    assert_shared(pair.policy, pair.reference)
    assert_shared(pair.policy, pair.discriminator.model)
    first, second = pair.policy.decoder.embed_tokens.weight, pair.discriminator.decoder.embed_tokens.weight
    assert first is second and first.data_ptr() == pair.reference.lm_head.weight.data_ptr()
    pair.to(torch.bfloat16)
    assert_shared(pair.policy, pair.discriminator.model)


def test_full_fine_tuning_shares_nothing(tiny):
    pair = FullFineTuning(BackboneSpec(str(tiny))).build()
    pointers = [{p.data_ptr() for p in getattr(pair, r).parameters()} for r in (*PLAYERS, "reference")]
    assert not pointers[0] & pointers[1] and not pointers[0] & pointers[2] and not pointers[1] & pointers[2]
    with pytest.raises(ModelError):
        assert_shared(pair.policy, pair.reference)


def test_adapter_state_round_trip_is_bit_equal(spec, helpers):
    pair, other = helpers.build(spec), spec.build()
    for role in PLAYERS:
        assert not same(snapshot(pair, role), snapshot(other, role))
        other.load_adapter_state(role, pair.adapter_state(role))
        assert same(snapshot(pair, role), snapshot(other, role))


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_state_that_does_not_fit_is_refused_whole(spec, helpers, fault):
    pair = helpers.build(spec)
    state = {name: torch.zeros_like(tensor) for name, tensor in pair.adapter_state("policy").items()}
    name = next(iter(state))
    if fault == "missing":
        del state[name]
    elif fault == "unexpected":
        state["typo"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(1, 1)
    before = snapshot(pair, "policy")
    with pytest.raises(CheckpointError, match=f"1 .*{fault}.*{'typo' if fault == 'unexpected' else name}"):
        pair.load_adapter_state("policy", state)
    assert same(before, snapshot(pair, "policy"))


def test_anchored_reference_stays_where_the_policy_was(spec, helpers, rounding):
    pair = spec.build()
    tokens = helpers.traces(pair.codec)
    assert pair.adapter_state("reference") == {}
    base = pair.reference.logprobs(tokens).logprobs
    helpers.train(pair, "policy")
    random_state = torch.get_rng_state()
    pair.anchor_reference()
    assert torch.equal(random_state, torch.get_rng_state())
    anchored = pair.policy.logprobs(tokens).logprobs.detach()
    assert not torch.allclose(anchored, base)
    helpers.train(pair, "policy")
    torch.testing.assert_close(pair.reference.logprobs(tokens).logprobs, anchored, atol=rounding, rtol=0)
    assert not any(p.requires_grad for p in pair.reference.parameters() if id(p) not in _trained(pair))
    pair.anchor_reference()
    torch.testing.assert_close(
        pair.reference.logprobs(tokens).logprobs, pair.policy.logprobs(tokens).logprobs, atol=rounding, rtol=0
    )


def test_the_reference_is_deterministic_whatever_the_mode(tiny, helpers):
    lora = LoRASpec(4, 8, dropout=0.5)
    pair = helpers.build(SharedBase(BackboneSpec(str(tiny)), lora, lora)).train()
    pair.anchor_reference()
    tokens = helpers.traces(pair.codec)
    first, second = (pair.reference.logprobs(tokens).logprobs for _ in range(2))
    assert torch.equal(first, second)
    noisy = [pair.policy.logprobs(tokens).logprobs for _ in range(2)]
    assert not torch.equal(*noisy) and torch.equal(first, pair.policy.score(tokens, 10_000).logprobs)


def _trained(pair):
    return {id(p) for player in PLAYERS for p in pair.trainable_parameters(player)}


def test_anchored_reference_is_part_of_the_state(spec, helpers):
    pair = helpers.build(spec)
    pair.anchor_reference()
    other = spec.build()
    other.load_adapter_state("reference", pair.adapter_state("reference"))
    tokens = helpers.traces(pair.codec)
    torch.testing.assert_close(
        other.reference.logprobs(tokens).logprobs, pair.reference.logprobs(tokens).logprobs, atol=0, rtol=0
    )


def test_saved_folders_come_back_bit_equal(spec, helpers, tmp_path):
    pair, other = helpers.build(spec), spec.build()
    pair.save_adapters(tmp_path)
    other.load_adapters(tmp_path)
    for role in PLAYERS:
        assert same(snapshot(pair, role), snapshot(other, role))


def test_a_head_that_is_not_tied_is_saved_too(tiny, helpers, codec, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.save_pretrained(tmp_path / "base")
    codec.tokenizer.save_pretrained(tmp_path / "base")
    spec = FullFineTuning(BackboneSpec(str(tmp_path / "base")), ExpectationHead(4))
    pair, other = helpers.build(spec), spec.build()
    pair.save_adapters(tmp_path)
    other.load_adapters(tmp_path)
    tokens = helpers.traces(codec)
    assert torch.equal(pair.discriminator.score(tokens, 999), other.discriminator.score(tokens, 999))


def test_peft_alone_loads_the_policy(tiny, helpers, tmp_path):
    pair = helpers.build(helpers.shared(tiny))
    pair.save_adapters(tmp_path)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), tmp_path / "policy").eval()
    ids = torch.tensor([[1, 5, 9]])
    ours = pair.policy.causal_lm(input_ids=ids).logits  # whose fused layers round in another order
    torch.testing.assert_close(plain(input_ids=ids).logits, ours, atol=1e-5, rtol=1e-5)
    with plain.disable_adapter(), pytest.raises(AssertionError):  # the tolerance tells the base from the policy
        torch.testing.assert_close(plain(input_ids=ids).logits, ours, atol=1e-5, rtol=1e-5)
    assert not torch.equal(plain(input_ids=ids).logits, pair.reference.causal_lm(input_ids=ids).logits)


def test_transformers_alone_loads_a_fully_trained_policy(tiny, helpers, tmp_path, monkeypatch):
    pair = helpers.build(FullFineTuning(BackboneSpec(str(tiny))))
    pair.save_adapters(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").eval()
    ids = torch.tensor([[1, 5, 9]])
    theirs = plain(input_ids=ids).logits
    # Compiled norms sum in another order.
    torch.testing.assert_close(pair.policy.causal_lm(input_ids=ids).logits, theirs, atol=1e-6, rtol=1e-6)
    without_compiled(monkeypatch)
    assert torch.equal(theirs, pair.policy.causal_lm(input_ids=ids).logits)


@pytest.mark.parametrize("player", PLAYERS)
def test_a_saved_folder_without_a_key_is_refused(tiny, helpers, tmp_path, player):
    pair = helpers.build(helpers.shared(tiny))
    pair.save_adapters(tmp_path)
    file = tmp_path / player / ("head.safetensors" if player == "discriminator" else "adapter_model.safetensors")
    state = load_file(file)
    del state[next(iter(state))]
    save_file(state, file)
    with pytest.raises(CheckpointError, match="1 missing"):
        pair.load_adapters(tmp_path)


def test_a_folder_that_holds_nothing_is_refused(tiny, helpers, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        helpers.shared(tiny).build().load_adapters(tmp_path)


def test_two_backbones_must_read_the_same_tokens(tiny, tmp_path):
    other = build_tiny(tmp_path, ["other words"], hidden=16, layers=1, heads=2)
    spec = TwoBackbones(BackboneSpec(str(tiny)), BackboneSpec(str(other)))
    with pytest.raises(ModelError, match="do not read the same tokens"):
        spec.build()


def test_two_backbones_may_differ_in_size(tiny, tmp_path, helpers):
    other = build_tiny(tmp_path, helpers.corpus, hidden=16, layers=1, heads=2)
    spec = TwoBackbones(BackboneSpec(str(tiny)), BackboneSpec(str(other)), LoRASpec(2, 4), LoRASpec(2, 4))
    pair = spec.build()
    assert pair.discriminator(helpers.traces(pair.codec)).shape[0] == 4


def test_fingerprints_tell_bases_apart(tiny, tmp_path, helpers):
    other = build_tiny(tmp_path, helpers.corpus, hidden=64, layers=2, heads=4, seed=1)
    prints = [helpers.shared(folder).build().base_fingerprint for folder in (tiny, tiny, other)]
    assert prints[0] == prints[1] != prints[2]


def test_full_fine_tuning_refuses_4_bits(tiny):
    with pytest.raises(ConfigError, match="cannot be trained"):
        FullFineTuning(BackboneSpec(str(tiny), quantisation="nf4"))


def test_the_codec_loads_without_weights(tmp_path, tiny, codec):
    codec.tokenizer.save_pretrained(tmp_path)
    assert SharedBase(BackboneSpec(str(tmp_path))).load_codec().fingerprint == codec.fingerprint


def test_a_pair_without_discriminator_is_the_policys_side_of_one_with(spec, helpers, codec, tmp_path):
    whole, alone, tokens = spec.build(), spec.build(with_discriminator=False), helpers.traces(codec)
    torch.testing.assert_close(alone.policy.logprobs(tokens).logprobs, whole.policy.logprobs(tokens).logprobs)
    assert alone.players == ("policy",) and alone.roles == ("policy", "reference")
    wanted = {id(parameter) for parameter in alone.trainable_parameters("policy")}
    assert all(p.requires_grad == (id(p) in wanted) for p in alone.parameters())
    assert sum(p.numel() for p in alone.parameters()) < sum(p.numel() for p in whole.parameters())
    assert alone.adapter_state("policy").keys() == whole.adapter_state("policy").keys()
    alone.check_sharing()
    with pytest.raises(ModelError, match="no discriminator"):
        _ = alone.discriminator
    whole.save_adapters(tmp_path)
    alone.load_adapters(tmp_path)
    assert same(alone.adapter_state("policy"), whole.adapter_state("policy")), "R-AIRL's policy can be carried on"
    alone.save_adapters(tmp_path / "alone")
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["policy"]
    with pytest.raises(CheckpointError, match="cannot be read"):
        whole.load_adapters(tmp_path / "alone")
