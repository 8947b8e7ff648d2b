"""Pure tensor functions: equations in, tensors out; no model, batch object, device or logger is known here."""

from rairl_lightning.functional.advantages import (
    group_normalised,
    group_normalised_advantages,
    split_groups,
    trajectory_mean,
)
from rairl_lightning.functional.adversarial import (
    bernoulli_entropy,
    class_shares,
    hinge_losses,
    pair_weights,
    pairwise_loss,
    wasserstein_losses,
    weighted_grid_sum,
)
from rairl_lightning.functional.batching import local_rivals, paired_budget_split, token_budget_split
from rairl_lightning.functional.bootstrap import ConfidenceInterval, bootstrap_interval, paired_bootstrap
from rairl_lightning.functional.discriminator import (
    discriminator_statistics,
    per_position_weights,
    per_trace_weights,
    smoothed_bce,
)
from rairl_lightning.functional.divergence import kl_k1, kl_k2, kl_k3
from rairl_lightning.functional.first_error import (
    accuracy_curve,
    broken_rows,
    first_below,
    fit_threshold,
    harmonic_mean,
    lowest_step_hits,
    right_thresholds,
)
from rairl_lightning.functional.gradient_penalty import (
    aligned_completions,
    directional_squares,
    mixed_embeddings,
    norm_from_squares,
    opposite_rows,
    row_noise,
    row_shares,
    squared_gradients,
)
from rairl_lightning.functional.grid import backfill, next_point, reward_grid, segment_ids
from rairl_lightning.functional.importance import gap_statistics, truncated_importance
from rairl_lightning.functional.localisation import (
    chance,
    hits,
    interval_target,
    largest_drop,
    nearby,
    score_drops,
    span_tokens,
    step_target,
)
from rairl_lightning.functional.logistic import logistic_scores, ridge_logistic
from rairl_lightning.functional.logprobs import TokenStatistics, gathered_logprobs
from rairl_lightning.functional.masking import masked_mean, masked_sum
from rairl_lightning.functional.policy_loss import (
    constant_length_weights,
    surrogate_objective,
    token_mean_weights,
    trace_mean_weights,
)
from rairl_lightning.functional.pooling import last_value, log_product, lowest_value
from rairl_lightning.functional.ranking import (
    answer_classes,
    auroc,
    best_index,
    best_of_n,
    grouped_auroc,
    majority_vote,
    oracle,
    pass_at_k,
    random_choice,
    weighted_vote,
)
from rairl_lightning.functional.retrieval import average_precision, greatest_of_units, reciprocal_rank
from rairl_lightning.functional.returns import discounted_to_go, group_centred, group_spread, leave_one_out
from rairl_lightning.functional.rewards import logit_to_reward
from rairl_lightning.functional.segments import previous_point, segment_change, segment_mean, segment_sum
from rairl_lightning.functional.separation import Separation, bounded_auroc, clustered_variance, score_bound
from rairl_lightning.functional.shaping import segment_shaping
from rairl_lightning.functional.step_scores import step_change, step_last, step_mean, step_minimum
from rairl_lightning.functional.surrogates import Surrogate, clipped_surrogate, sequence_surrogate, truncated_surrogate

__all__ = [
    "ConfidenceInterval",
    "Separation",
    "Surrogate",
    "TokenStatistics",
    "accuracy_curve",
    "aligned_completions",
    "answer_classes",
    "auroc",
    "average_precision",
    "backfill",
    "bernoulli_entropy",
    "best_index",
    "best_of_n",
    "bootstrap_interval",
    "bounded_auroc",
    "broken_rows",
    "chance",
    "class_shares",
    "clipped_surrogate",
    "clustered_variance",
    "constant_length_weights",
    "directional_squares",
    "discounted_to_go",
    "discriminator_statistics",
    "first_below",
    "fit_threshold",
    "gap_statistics",
    "gathered_logprobs",
    "greatest_of_units",
    "group_centred",
    "group_normalised",
    "group_normalised_advantages",
    "group_spread",
    "grouped_auroc",
    "harmonic_mean",
    "hinge_losses",
    "hits",
    "interval_target",
    "kl_k1",
    "kl_k2",
    "kl_k3",
    "largest_drop",
    "last_value",
    "leave_one_out",
    "local_rivals",
    "log_product",
    "logistic_scores",
    "logit_to_reward",
    "lowest_step_hits",
    "lowest_value",
    "majority_vote",
    "masked_mean",
    "masked_sum",
    "mixed_embeddings",
    "nearby",
    "next_point",
    "norm_from_squares",
    "opposite_rows",
    "oracle",
    "pair_weights",
    "paired_bootstrap",
    "paired_budget_split",
    "pairwise_loss",
    "pass_at_k",
    "per_position_weights",
    "per_trace_weights",
    "previous_point",
    "random_choice",
    "reciprocal_rank",
    "reward_grid",
    "ridge_logistic",
    "right_thresholds",
    "row_noise",
    "row_shares",
    "score_bound",
    "score_drops",
    "segment_change",
    "segment_ids",
    "segment_mean",
    "segment_shaping",
    "segment_sum",
    "sequence_surrogate",
    "smoothed_bce",
    "span_tokens",
    "split_groups",
    "squared_gradients",
    "step_change",
    "step_last",
    "step_mean",
    "step_minimum",
    "step_target",
    "surrogate_objective",
    "token_budget_split",
    "token_mean_weights",
    "trace_mean_weights",
    "trajectory_mean",
    "truncated_importance",
    "truncated_surrogate",
    "wasserstein_losses",
    "weighted_grid_sum",
    "weighted_vote",
]
