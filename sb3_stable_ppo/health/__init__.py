"""How alive a run's networks are: figures after each update, alarms over them, and the last healthy model kept."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.health.alarms import AlarmRule as AlarmRule, Alarms as Alarms, Event as Event
    from sb3_stable_ppo.health.callback import HealthCallback as HealthCallback
    from sb3_stable_ppo.health.figures import health_figures as health_figures, inspect_policy as inspect_policy
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "alarms": ["AlarmRule", "Alarms", "Event"],
            "callback": ["HealthCallback"],
            "figures": ["health_figures", "inspect_policy"],
        },
    )
