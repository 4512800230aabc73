"""Optuna studies that several processes work on: storage, bookkeeping, search space, page. No torch in here."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.studies.page import page_of as page_of
    from sb3_stable_ppo.studies.space import as_hyperparams as as_hyperparams, sample as sample
    from sb3_stable_ppo.studies.storage import open_storage as open_storage
    from sb3_stable_ppo.studies.study import best_trials as best_trials, open_study as open_study
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "page": ["page_of"],
            "space": ["as_hyperparams", "sample"],
            "storage": ["open_storage"],
            "study": ["best_trials", "open_study"],
        },
    )
