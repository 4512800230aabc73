"""Measures of layers, policies, weights and updates: tensors in, numbers out. docs/metrics.md explains each."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.metrics.kl import (
        approx_kl as approx_kl,
        first_ratio_error as first_ratio_error,
        kl_divergence as kl_divergence,
        mean_kl as mean_kl,
    )
    from sb3_stable_ppo.metrics.layers import (
        Ranks as Ranks,
        dead_fraction as dead_fraction,
        dormant_fraction as dormant_fraction,
        feature_norm as feature_norm,
        feature_similarity as feature_similarity,
        linear_fraction as linear_fraction,
        live_units as live_units,
        ranks as ranks,
        saturated_fraction as saturated_fraction,
        sparsity as sparsity,
        srank as srank,
    )
    from sb3_stable_ppo.metrics.policy import (
        action_balance as action_balance,
        churn_cross_entropy as churn_cross_entropy,
        entropy_share as entropy_share,
        policy_churn as policy_churn,
        policy_variance as policy_variance,
        ratio_excess as ratio_excess,
    )
    from sb3_stable_ppo.metrics.weights import (
        distance as distance,
        gradient_norms as gradient_norms,
        grama_fraction as grama_fraction,
        norm_drift as norm_drift,
        update_ratio as update_ratio,
        weight_norm as weight_norm,
    )
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "kl": ["approx_kl", "first_ratio_error", "kl_divergence", "mean_kl"],
            "layers": [
                "Ranks",
                "dead_fraction",
                "dormant_fraction",
                "feature_norm",
                "feature_similarity",
                "linear_fraction",
                "live_units",
                "ranks",
                "saturated_fraction",
                "sparsity",
                "srank",
            ],
            "policy": [
                "action_balance",
                "churn_cross_entropy",
                "entropy_share",
                "policy_churn",
                "policy_variance",
                "ratio_excess",
            ],
            "weights": ["distance", "gradient_norms", "grama_fraction", "norm_drift", "update_ratio", "weight_norm"],
        },
    )
