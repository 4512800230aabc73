"""One measurement in a process of its own: its arguments as JSON in, its figures as JSON out."""

import json
import sys

from sb3_stable_ppo.bench.training import train

if __name__ == "__main__":
    print(json.dumps(train(**json.loads(sys.argv[1]))))
