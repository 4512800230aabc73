"""``diagnose`` and ``sb3-stable-ppo doctor``: whether a model's network lives, what is wrong, and what helps."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.doctor.config_rules import check_config as check_config
    from sb3_stable_ppo.doctor.diagnosis import diagnose as diagnose
    from sb3_stable_ppo.doctor.examination import examine as examine
    from sb3_stable_ppo.doctor.findings import Diagnosis as Diagnosis, Finding as Finding
    from sb3_stable_ppo.doctor.saved_models import load_model as load_model
    from sb3_stable_ppo.doctor.untrusted_zip import read_weights as read_weights
    from sb3_stable_ppo.doctor.weights import diagnose_weights as diagnose_weights
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "config_rules": ["check_config"],
            "diagnosis": ["diagnose"],
            "examination": ["examine"],
            "findings": ["Diagnosis", "Finding"],
            "saved_models": ["load_model"],
            "untrusted_zip": ["read_weights"],
            "weights": ["diagnose_weights"],
        },
    )
