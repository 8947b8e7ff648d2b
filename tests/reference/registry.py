"""Which test holds each formula to its equation; ``test_registry.py`` fails where a new one has none.

A test of ``REFERENCES`` compares with something that imports nothing of ours (a module of this folder, numpy,
scikit-learn) and has a negative control. A test of ``REDUCTIONS`` shows what the formula is where another is known,
or counts it out.
"""

FUNCTIONAL, COMPONENTS, MODELS = "functional/test_", "components/test_", "models/test_"

REFERENCES = {
    f"{FUNCTIONAL}equations.py::test_reductions_agree_with_the_equations": "masked_sum masked_mean",
    f"{FUNCTIONAL}equations.py::test_poolings_agree_with_the_equations": (
        "last_value lowest_value log_product TokenWeighted MeanOverGrid Last Minimum Product"
    ),
    f"{FUNCTIONAL}equations.py::test_rewards_agree_with_the_equation": "logit_to_reward ClippedLogit",
    f"{FUNCTIONAL}equations.py::test_granularities_agree_with_their_words": "Sparse Interval Step Dense",
    f"{FUNCTIONAL}equations.py::test_neighbouring_points_agree_with_the_loops": "next_point previous_point",
    f"{FUNCTIONAL}equations.py::test_hits_agree_with_the_loop": "hits",
    f"{FUNCTIONAL}equations.py::test_choices_agree_with_the_loops": (
        "random_choice oracle best_index answer_classes auroc grouped_auroc"
    ),
    f"{FUNCTIONAL}equations.py::test_the_bootstrap_agrees_with_all_resamples": "bootstrap_interval",
    f"{FUNCTIONAL}bootstrap.py::test_counts_are_resamples": "resampled_counts",
    f"{FUNCTIONAL}bootstrap.py::test_means_and_quantiles_agree_with_the_loop": "resampled_means percentile_interval",
    f"{FUNCTIONAL}calibration.py::test_sums_agree_with_the_loop": "reliability_sums",
    f"{FUNCTIONAL}calibration.py::test_the_error_is_the_librarys": "expected_calibration_error",
    f"{FUNCTIONAL}calibration.py::test_the_temperature_is_the_likeliest": "fit_temperature",
    f"{FUNCTIONAL}grid.py::test_agrees_with_the_loops": "reward_grid segment_ids backfill",
    f"{FUNCTIONAL}localisation.py::test_largest_drop_agrees_with_the_loop": "largest_drop",
    f"{FUNCTIONAL}localisation.py::test_targets_and_chance_agree_with_the_loop": (
        "span_tokens interval_target step_target chance"
    ),
    f"{FUNCTIONAL}localisation.py::test_what_is_near_agrees_with_the_loop": "nearby",
    f"{FUNCTIONAL}localisation.py::test_drops_agree_with_the_loop": "score_drops",
    f"{FUNCTIONAL}first_error.py::test_the_fit_agrees_with_brute_force": "fit_threshold right_thresholds first_below",
    f"{FUNCTIONAL}logistic.py::test_the_coefficients_are_the_librarys": "ridge_logistic",
    f"{FUNCTIONAL}logprobs.py::test_agrees_with_the_equations": "gathered_logprobs",
    f"{FUNCTIONAL}ranking.py::test_pass_at_k_agrees_with_enumeration": "pass_at_k",
    f"{FUNCTIONAL}ranking.py::test_best_of_n_agrees_with_enumeration": "best_of_n",
    f"{FUNCTIONAL}retrieval.py::test_ranked_units_agree_with_the_orders_and_the_library": (
        "reciprocal_rank average_precision"
    ),
    f"{FUNCTIONAL}retrieval.py::test_units_hold_their_greatest": "greatest_of_units",
    f"{FUNCTIONAL}ranking.py::test_wins_agree_with_the_loop": "grouped_wins",
    f"{FUNCTIONAL}ranking.py::test_resampled_areas_agree_with_repeated_traces": "resampled_auroc",
    f"{FUNCTIONAL}voting.py::test_votes_of_n_agree_with_enumeration": "weighted_vote majority_vote subsets",
    f"{FUNCTIONAL}voting.py::test_winners_agree_with_the_loop": "winning_votes",
    f"{FUNCTIONAL}returns.py::test_to_go_agrees_with_the_sum": "discounted_to_go",
    f"{FUNCTIONAL}returns.py::test_centring_and_spread_agree_with_the_equations": "group_centred group_spread",
    f"{FUNCTIONAL}returns.py::test_leave_one_out_agrees_with_the_equation": "leave_one_out",
    f"{FUNCTIONAL}segments.py::test_agrees_with_the_loops": "segment_sum segment_mean segment_change",
    f"{FUNCTIONAL}separation.py::test_the_variance_is_the_references": "clustered_variance",
    f"{FUNCTIONAL}separation.py::test_the_score_bound_solves_its_equation": "score_bound",
    f"{FUNCTIONAL}shaping.py::test_agrees_with_the_equation": "segment_shaping",
    f"{FUNCTIONAL}step_scores.py::test_scores_agree_with_their_words": "LastToken StepMean StepMinimum StepDrop",
    f"{COMPONENTS}advantage_equations.py::test_scaled_advantages_agree_with_the_equations": (
        "GroupCentred LeaveOneOut RewardToGo NoScaling GroupScaling BatchScaling"
    ),
    f"{COMPONENTS}advantage_equations.py::test_grpos_advantage_agrees_with_the_equation": (
        "GroupNormalised group_normalised group_normalised_advantages trajectory_mean split_groups"
    ),
    f"{COMPONENTS}advantage_equations.py::test_segment_bonuses_agree_with_the_equation": (
        "SegmentBonus Drop ClippedChange Level"
    ),
    f"{COMPONENTS}critics.py::test_logits_agree_with_the_equation": "TwoHead MeanLogprob SummedLogprob",
    f"{COMPONENTS}discriminator_equations.py::test_losses_agree_with_the_equations": (
        "BinaryCrossEntropy Wasserstein Hinge PerTrace PerPosition"
    ),
    f"{COMPONENTS}discriminator_equations.py::test_pairs_agree_with_the_equation": (
        "Pairwise pairwise_loss pair_weights"
    ),
    f"{COMPONENTS}discriminator_equations.py::test_an_entropy_bonus_agrees_with_the_equation": "EntropyBonus",
    f"{COMPONENTS}discriminator_equations.py::test_parts_agree_with_the_equations": (
        "per_trace_weights per_position_weights discriminator_statistics smoothed_bce "
        "wasserstein_losses hinge_losses bernoulli_entropy class_shares weighted_grid_sum"
    ),
    f"{COMPONENTS}experts.py::test_weights_agree_with_the_equation": "NoExpert SingleExpert BalancedExpert",
    f"{COMPONENTS}penalty_equations.py::test_squared_gradients_agree_with_the_hand_derived": "squared_gradients",
    f"{COMPONENTS}penalty_equations.py::test_r1_agrees_with_its_equation": "R1Penalty",
    f"{COMPONENTS}penalty_equations.py::test_the_unit_gradient_agrees_with_its_equation": (
        "UnitGradient aligned_completions mixed_embeddings norm_from_squares row_shares"
    ),
    f"{COMPONENTS}penalty_equations.py::test_the_approximation_agrees_with_its_equation": (
        "ApproximateR1 directional_squares row_noise"
    ),
    f"{COMPONENTS}policy_equations.py::test_losses_agree_with_the_equations": (
        "ClippedSurrogate SequenceSurrogate TruncatedSurrogate TraceMean TokenMean ConstantLength "
        "EstimateK1 EstimateK2 EstimateK3"
    ),
    f"{COMPONENTS}policy_equations.py::test_tokens_agree_with_the_equations": (
        "clipped_surrogate sequence_surrogate truncated_surrogate"
    ),
    f"{COMPONENTS}policy_equations.py::test_weights_agree_with_the_equations": (
        "trace_mean_weights token_mean_weights constant_length_weights"
    ),
    f"{COMPONENTS}policy_equations.py::test_divergences_agree_with_the_equations": "kl_k1 kl_k2 kl_k3",
    f"{COMPONENTS}policy_equations.py::test_the_kl_in_the_reward_agrees_with_the_equation": "KLInReward NoPenalty",
    f"{COMPONENTS}policy_equations.py::test_the_samplers_gap_agrees_with_the_equations": (
        "truncated_importance gap_statistics TruncatedImportance Uncorrected"
    ),
    f"{COMPONENTS}policy_equations.py::test_the_objective_agrees_with_the_equation": "surrogate_objective",
    f"{COMPONENTS}verifiers.py::test_the_reward_agrees_with_the_sum": "AnswerAndFormat",
    f"{MODELS}heads.py::test_the_linear_head_agrees_with_its_equation": "LinearHead",
    f"{MODELS}heads.py::test_the_expectation_head_agrees_with_its_equation": "ExpectationHead",
    f"{MODELS}heads.py::test_two_heads_agree_with_their_equations": "TwoHeads",
}

REDUCTIONS = {
    f"{FUNCTIONAL}equations.py::test_a_paired_bootstrap_against_nothing_is_the_bootstrap": "paired_bootstrap",
    f"{FUNCTIONAL}equations.py::test_splits_agree_with_their_words": (
        "token_budget_split paired_budget_split local_rivals"
    ),
    f"{FUNCTIONAL}batching.py::test_a_prompt_that_fits_whole_is_read_once": "prompt_budget_split",
    f"{FUNCTIONAL}equations.py::test_labels_agree_with_their_words": "AnswerAgreement ExpertsOnly",
    f"{FUNCTIONAL}first_error.py::test_the_curve_is_the_accuracy_of_each_threshold": "accuracy_curve harmonic_mean",
    f"{FUNCTIONAL}first_error.py::test_a_score_that_is_not_finite_predicts_nothing": "broken_rows lowest_step_hits",
    f"{FUNCTIONAL}step_scores.py::test_functions_are_the_components": ("step_last step_mean step_minimum step_change"),
    f"{FUNCTIONAL}logistic.py::test_a_row_is_scored_by_a_fit_that_has_not_seen_its_fold": "logistic_scores",
    f"{FUNCTIONAL}separation.py::test_repeating_a_trace_proves_nothing": "bounded_auroc",
    f"{COMPONENTS}constants.py::test_the_cosine_agrees_with_its_equation": "CosineWithWarmup",
    f"{COMPONENTS}constants.py::test_the_constant_agrees_with_its_equation": "Constant",
    f"{COMPONENTS}constants.py::test_the_band_agrees_with_its_line": "AurocBand Fixed",
    f"{COMPONENTS}critics.py::test_without_potential_two_heads_are_one": "SingleHead NoLogprob",
    f"{COMPONENTS}critics.py::test_read_outs": "ReadG ReadF ReadMixed",
    f"{COMPONENTS}penalty_equations.py::test_what_is_random_has_the_right_distribution": "opposite_rows",
}
