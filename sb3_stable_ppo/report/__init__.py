"""``sb3-stable-ppo report``: runs in, one self-contained HTML page out."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.report.check import Check as Check
    from sb3_stable_ppo.report.checks import checks_of as checks_of
    from sb3_stable_ppo.report.page import render as render
    from sb3_stable_ppo.report.verdict import Verdict as Verdict, verdict_of as verdict_of
    from sb3_stable_ppo.report.write import write_report as write_report
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "check": ["Check"],
            "checks": ["checks_of"],
            "page": ["render"],
            "verdict": ["Verdict", "verdict_of"],
            "write": ["write_report"],
        },
    )
