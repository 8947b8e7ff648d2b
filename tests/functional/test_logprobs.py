import pytest
import reference_losses as reference
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import gathered_logprobs

H, V = 5, 11


@pytest.fixture
def case(generator, ragged):
    mask = ragged(rows=4, width=13)
    ids = torch.randint(V, mask.shape, generator=generator)
    hidden = torch.randn(*mask.shape, H, dtype=torch.float64, generator=generator)
    weight = torch.randn(V, H, dtype=torch.float64, generator=generator)
    return hidden, ids, mask, weight


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("chunk", [1, 3, 1024])
def test_agrees_with_the_equations(case, chunk, temperature):
    hidden, ids, mask, weight = case
    ours = gathered_logprobs(hidden, ids, mask, lambda h: h @ weight.T, temperature=temperature, chunk=chunk)
    logprobs, entropy = reference.token_logprobs(*(x.numpy() for x in case), temperature)
    torch.testing.assert_close(ours.logprobs, torch.from_numpy(logprobs))
    torch.testing.assert_close(ours.entropy, torch.from_numpy(entropy))
    shifted = gathered_logprobs(hidden.roll(-1, 1), ids, mask, lambda h: h @ weight.T, temperature=temperature)
    with pytest.raises(AssertionError):  # control: off by one token
        torch.testing.assert_close(shifted.logprobs, torch.from_numpy(logprobs))


@pytest.mark.parametrize("grad", [True, False])
def test_head_never_sees_more_than_a_chunk(case, grad):
    hidden, ids, mask, weight = case
    seen = []

    def head(states):
        seen.append(len(states))
        return states @ weight.T

    with torch.set_grad_enabled(grad):
        gathered_logprobs(hidden.requires_grad_(grad), ids, mask, head, chunk=4)
    assert max(seen) == 4
    assert sum(seen) == int(mask.sum())  # and never a prompt or a padding token


def test_no_logits_are_kept_for_the_backward_pass(case):
    hidden, ids, mask, weight = case
    saved = []

    def record(tensor):
        saved.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        gathered_logprobs(hidden.requires_grad_(), ids, mask, lambda h: h @ weight.T, chunk=4)
        assert not [shape for shape in saved if V in shape]
        torch.log_softmax(hidden @ weight.T, -1)  # control: the full computation does keep them
        assert [shape for shape in saved if V in shape]


def test_gradients_equal_the_full_computation(case, generator):
    hidden, ids, mask, weight = case
    upstream = torch.randn(mask.shape, dtype=torch.float64, generator=generator)

    def gradients(compute):
        leaves = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        return torch.autograd.grad((compute(*leaves) * upstream).sum(), leaves)

    def full(h, w):
        logprobs = torch.log_softmax(h[:, :-1] @ w.T, -1).gather(-1, ids[:, 1:, None])[..., 0]
        return torch.cat([torch.zeros_like(logprobs[:, :1]), logprobs], 1) * mask

    ours = gradients(lambda h, w: gathered_logprobs(h, ids, mask, lambda x: x @ w.T, chunk=3).logprobs)
    torch.testing.assert_close(ours, gradients(full))
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(ours, gradients(lambda h, w: full(h, w) * 1.001))


def test_gradcheck(case):
    hidden, ids, mask, weight = (x[:2, :6] if x.dim() > 1 and len(x) == 4 else x for x in case)

    def compute(h, w):
        return gathered_logprobs(h, ids, mask, lambda x: x @ w.T, chunk=2).logprobs

    assert torch.autograd.gradcheck(compute, (hidden.requires_grad_(), weight.requires_grad_()))


def test_padding_side_does_not_matter(case):
    hidden, ids, mask, weight = case
    width = mask.shape[1]
    starts = mask.int().argmax(1) - 1  # one prompt token is enough to predict the first
    stops = starts + 1 + mask.sum(1)
    left = [torch.zeros_like(x) for x in (hidden, ids, mask)]
    for n, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        for target, source in zip(left, (hidden, ids, mask), strict=True):
            target[n, width - (stop - start) :] = source[n, start:stop]
    right_side = gathered_logprobs(hidden, ids, mask, lambda h: h @ weight.T).logprobs
    left_side = gathered_logprobs(*left, lambda h: h @ weight.T).logprobs
    torch.testing.assert_close(left_side[left[2]], right_side[mask], rtol=0, atol=0)


def test_long_bfloat16_sequences_come_out_finite_in_float32(generator):
    hidden = 50 * torch.randn(1, 4096, H, generator=generator).bfloat16()
    weight = 50 * torch.randn(V, H, generator=generator).bfloat16()
    mask = torch.ones(1, 4096, dtype=torch.bool)
    mask[:, 0] = False
    ours = gathered_logprobs(hidden, torch.zeros(1, 4096, dtype=torch.int64), mask, lambda h: h @ weight.T)
    assert ours.logprobs.dtype == ours.entropy.dtype == torch.float32
    assert ours.logprobs.isfinite().all() and ours.entropy.isfinite().all()


def test_forbidden_tokens_leave_the_entropy_finite():
    mask = torch.tensor([[False, True]])
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    ours = gathered_logprobs(torch.zeros(1, 2, H), torch.zeros(1, 2, dtype=torch.int64), mask, lambda h: logits)
    torch.testing.assert_close(ours.entropy[0, 1], torch.tensor(2.0).log())


def test_empty_completions_keep_the_graph(case):
    hidden, ids, mask, weight = case
    weight.requires_grad_()
    ours = gathered_logprobs(hidden, ids, torch.zeros_like(mask), lambda h: h @ weight.T)
    ours.logprobs.sum().backward()
    assert not weight.grad.any()


def test_refusals(case):
    hidden, ids, mask, weight = case
    with pytest.raises(DataError, match="column 0"):
        gathered_logprobs(hidden, ids, torch.ones_like(mask), lambda h: h @ weight.T)
    with pytest.raises(ConfigError, match="temperature"):
        gathered_logprobs(hidden, ids, mask, lambda h: h @ weight.T, temperature=0.0)


def linear_head(weight, bias=None):
    head = torch.nn.Linear(*weight.shape[::-1], bias=bias is not None, dtype=weight.dtype).requires_grad_(False)
    head.weight.copy_(weight)
    if bias is not None:
        head.bias.copy_(bias)
    return head


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_frozen_linear_head_gives_what_any_head_gives(case, temperature, biased, dtype, generator):
    hidden, ids, mask, weight = (x.to(dtype) if x.is_floating_point() else x for x in case)
    head = linear_head(weight, torch.randn(V, dtype=dtype, generator=generator) if biased else None)
    upstream = torch.randn(mask.shape, dtype=dtype, generator=generator)

    def results(head, temperature):
        leaf = hidden.clone().requires_grad_()
        found = gathered_logprobs(leaf, ids, mask, head, temperature=temperature, chunk=3)
        return [*found, *torch.autograd.grad((found.logprobs * upstream).sum(), leaf)]

    ours = results(head, temperature)
    torch.testing.assert_close(ours, results(lambda h: head(h), temperature))
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(ours, results(lambda h: head(h), 1.001 * temperature))


def test_a_frozen_linear_head_is_read_once_forward_and_keeps_no_logits(case):
    hidden, ids, mask, weight = case
    head, saved, calls = linear_head(weight), [], []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(tuple(t.shape)) or t, lambda t: t):
        ours = gathered_logprobs(hidden.requires_grad_(), ids, mask, head, chunk=4)
    assert not [shape for shape in saved if V in shape]
    head.register_forward_hook(lambda *_: calls.append(1))  # a head with a hook is called, and called again
    theirs = gathered_logprobs(hidden, ids, mask, head, chunk=4)
    theirs.logprobs.sum().backward()
    assert len(calls) == 2 * -(-int(mask.sum()) // 4)
    torch.testing.assert_close(ours, theirs)


def test_a_linear_head_that_learns_gets_its_gradient(case):
    hidden, ids, mask, weight = case
    head = linear_head(weight).requires_grad_()
    gathered_logprobs(hidden, ids, mask, head).logprobs.sum().backward()
    assert head.weight.grad.any()


def test_forbidden_tokens_leave_a_frozen_heads_entropy_finite(case):
    hidden, ids, mask, weight = case
    bias = torch.zeros(V, dtype=weight.dtype)
    bias[-1] = -torch.inf
    ours = gathered_logprobs(hidden.requires_grad_(), ids.clamp(max=V - 2), mask, linear_head(weight, bias))
    fewer = gathered_logprobs(hidden, ids.clamp(max=V - 2), mask, linear_head(weight[:-1]))
    torch.testing.assert_close(ours, fewer)


def test_the_gradient_of_a_token_that_is_all_but_sure_survives_bfloat16(generator):
    """Its direction is a small difference of large rows of the head: it must not be one of rounded rows."""
    weight = torch.randn(V, 64, generator=generator).bfloat16()
    target = torch.tensor([[0, 3]])
    hidden = (0.18 * weight[3]).expand(1, 2, 64).clone()
    mask = torch.tensor([[False, True]])

    def gradient(head, hidden):
        hidden = hidden.clone().requires_grad_()
        logprobs = gathered_logprobs(hidden, target, mask, head).logprobs
        assert -1e-2 < logprobs[0, 1] < -1e-5
        return torch.autograd.grad(logprobs.sum(), hidden)[0][0, 0].double()

    def error(found, exact):
        return float((found - exact).norm() / exact.norm())

    exact = gradient(linear_head(weight.double()), hidden.double())
    assert error(gradient(linear_head(weight), hidden), exact) < 0.02
    probabilities = torch.softmax(hidden[0, 0].float() @ weight.float().T, -1).bfloat16()
    assert error((weight[3] - probabilities @ weight).double(), exact) > 0.1  # control: the difference of rounded rows
