"""Reading a policy without leaving a trace: activations, outputs, gradients, and rows of what it collected."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.probes.activations import ActivationProbe as ActivationProbe
    from sb3_stable_ppo.probes.gradients import GradientRecorder as GradientRecorder
    from sb3_stable_ppo.probes.layers import Layer as Layer, find_layers as find_layers
    from sb3_stable_ppo.probes.outputs import Outputs as Outputs, outputs_of as outputs_of
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "activations": ["ActivationProbe"],
            "gradients": ["GradientRecorder"],
            "layers": ["Layer", "find_layers"],
            "outputs": ["Outputs", "outputs_of"],
        },
    )
