"""Small models of every shape that the lean pass takes."""

from functools import partial

import torch
from architectures import llama, mistral, qwen2, qwen3
from peft import LoraConfig, get_peft_model

from rairl_lightning.models import Policy

SCALED = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SCALED |= {"original_max_position_embeddings": 32}
MODELS = {
    "llama": llama,
    "llama-tied-mha": partial(llama, num_key_value_heads=4, tie_word_embeddings=True),
    "llama-biases-scaled-rope": partial(llama, attention_bias=True, mlp_bias=True, rope_parameters=SCALED),
    "llama-wide-heads": partial(llama, head_dim=16),
    "qwen2": qwen2,
    "qwen3": qwen3,
    "mistral": mistral,
}
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15]]


@torch.no_grad()
def add_second_adapter(policy: Policy) -> None:
    """Beside the one that is there, of other numbers."""
    policy.model.add_adapter("second", policy.model.peft_config["default"])
    for name, parameter in policy.model.named_parameters():
        if "second" in name:
            parameter.copy_(torch.randn_like(parameter) * 0.2)


def policy_of(model: torch.nn.Module, lora: bool = True, rank: int = 4) -> Policy:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            # Of 16 bits, as those of a published checkpoint.
            parameter.copy_((torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 1.0)).half())
    model.eval()
    if lora:
        config = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        model = get_peft_model(model, config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn_like(parameter) * 0.2)
    return Policy(model.eval())
