"""`fededge site` with the runner of this benchmark."""

import sys

from fededge.device import site

if __name__ == "__main__":
    sys.exit(site.main(sys.argv[1:], [sys.executable, "-m", "benchmarks.flower.runner"]))
