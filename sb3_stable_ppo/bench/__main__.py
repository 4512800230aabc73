"""One measurement in a process of its own: its arguments as JSON, and the file that its figures go to, as JSON too."""

import json
import sys
from pathlib import Path

from sb3_stable_ppo.bench.training import train

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("This is one measurement of many. To measure, use: sb3-stable-ppo bench --help")
    Path(sys.argv[2]).write_text(json.dumps(train(**json.loads(sys.argv[1]))))
