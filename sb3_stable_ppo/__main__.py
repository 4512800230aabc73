"""``python -m sb3_stable_ppo`` is ``sb3-stable-ppo``."""

import sys

from sb3_stable_ppo.cli.app import main

sys.exit(main())
