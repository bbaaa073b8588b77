"""Figure 7: from a request with images to the answer, warm and cold, for 1 to 10,000 images on 0.4 of a CPU.

    .venvs/serving/bin/python -m benchmarks.edge.serving FOLDER

Writes FOLDER/serving.json. A cold request finds no server: its time begins when one is started. The client that asks is
not under the limit.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.edge.results import write
from benchmarks.limits import CpuLimit
from benchmarks.memory import Peak
from benchmarks.serving import bodies_of, built, over_rest
from fededge import storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.documents import VariantFile

COUNTS = (1, 10, 100, 500, 1000, 2000, 5000, 10_000)
CPUS = 0.4
REPEATS = 3
PAYLOAD = "REST uint8 binData"
KIND = "float32"


def main() -> None:
    """Measure each number of images: seconds of the fastest of REPEATS requests."""
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as home:
        os.environ["FEDEDGE_HOME"] = home
        model = built(KIND, Path(home))
        data = model.read_bytes()
        variant = VariantFile(kind=KIND, url=str(model), digest=storage.digest(data), bytes=len(data))
        images = np.random.default_rng(0).integers(0, 256, (max(COUNTS), 28, 28, 1), np.uint8)
        rows = []
        with CpuLimit(CPUS) as limit, Peak() as peak:
            os.environ.update(peak.variables)
            for count in COUNTS:
                requests = bodies_of(PAYLOAD, images[:count])
                cold, warm = [], []
                for _ in range(REPEATS):
                    begun = time.perf_counter()
                    with limit.inside():
                        endpoint = local_endpoint.start("edge", variant, 1)
                    send = over_rest(endpoint)
                    send(requests)
                    cold.append(time.perf_counter() - begun)
                    begun = time.perf_counter()
                    send(requests)
                    warm.append(time.perf_counter() - begun)
                    local_endpoint.stop("edge")
                row = {
                    "images": count,
                    "cold": round(min(cold), 3),
                    "warm": round(min(warm), 3),
                }
                rows.append(row)
                print(row, flush=True)
        write(Path(sys.argv[1]), "serving", rows, limit=limit.how, megabytes=peak.alone)


if __name__ == "__main__":
    main()
