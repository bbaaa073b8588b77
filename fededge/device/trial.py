"""A new model is tried in a child process first: one that hangs, crashes or eats memory ends with it.

    python -m fededge.device.trial SPEC

The child reads the model in the folder that SPEC names, answers with it on the device's own samples (or a blank), and
prints what came of it as one JSON object. A model file that loads and answers may still be damaged, or hang at other
examples: its digest is proven before.
"""

import asyncio
import json
import os
import resource
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fededge.device import isolation
from fededge.device.child import end_all, environment, watch
from fededge.device.performance import Performance
from fededge.device.policy_keys import Limits
from fededge.documents import Release, VariantFile
from fededge.errors import DataError, FedEdgeError, ReleaseError, StorageError, VariantError, shown

LARGEST_ANSWER = 1 << 14
FILE_BYTES = 1 << 20
"""Of a file that a trial writes."""
MODEL = "model"


class ModelRefused(ReleaseError):
    """A model that does not load, hangs, crashes or takes too much memory."""


async def tried(
    folder: Path,
    manifest: Release,
    variant: VariantFile,
    limits: Limits,
    samples: Path | None,
    hidden: Sequence[Path],
    isolated: bool,
) -> Performance:
    """How the file `model` in `folder` does, whose digest was proven.

    Args:
        folder: it lies there, and the child works there.
        manifest: what it was released for; variant: the kind that it is.
        limits: of the child.
        samples: folder of the device's own samples; None: it has none.
        hidden: folders that the child does not see in isolation.
        isolated: whether it runs in isolation.

    Raises:
        ModelRefused: the model is not to be run, whatever release names it.
        ReleaseError: it is not what was released.
        DataError: the samples are not usable.
        StorageError: the child cannot be started.
    """
    spec = {
        "kind": variant.kind,
        "shape": manifest.shape,
        "classes": manifest.classes,
        "samples": None if samples is None else str(samples.resolve()),
        "memory_bytes": limits.memory_bytes,
    }
    folder = folder.resolve()
    command = isolation.wrapped(
        [sys.executable, "-m", __name__, json.dumps(spec)],
        folder,
        isolated=isolated,
        readable=[] if samples is None else [samples.resolve()],
        hidden=hidden,
        cpus=limits.cpus,
        file_bytes=FILE_BYTES,
    )
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment(folder), start_new_session=True
        )
    except OSError as error:
        raise StorageError(f"cannot start a process to try a model: {error.strerror}. Free memory") from error
    assert process.stdout
    reading = asyncio.create_task(process.stdout.read(LARGEST_ANSWER))
    watching = asyncio.create_task(watch(process.pid, limits))
    try:
        await asyncio.wait({reading, watching}, timeout=limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            raise ModelRefused(f"the model is refused: {watching.result()}")
        if not reading.done():
            raise ModelRefused(
                f"the model is refused: it gave no answer within the {limits.seconds:g} s that the policy allows"
            )
        return _performance(reading.result())
    finally:
        for task in (reading, watching):
            task.cancel()
        await asyncio.gather(reading, watching, return_exceptions=True)
        await end_all(process)


def _performance(answer: bytes) -> Performance:
    try:
        told = json.loads(answer)
        if "metric" in told:
            return Performance(**told)
        error, blamed = str(told["error"]), str(told["blamed"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ModelRefused("the model is refused: it ends the process that tries it") from None
    if blamed == "samples":
        raise DataError(error)
    refused = ModelRefused if blamed == "model" else ReleaseError
    raise refused(f"the model is refused: {shown(error, 300)}")


def outcome(spec: Mapping[str, Any], model: Path) -> dict[str, Any]:
    """What came of trying `model`: its performance, or an error and what is to blame for it."""
    from fededge.device import samples as own  # numpy, which the agent itself does without
    from fededge.inference import load_model

    try:
        samples = None if spec["samples"] is None else own.read(Path(spec["samples"]))
        runtime = load_model(model.read_bytes(), spec["kind"], threads=1)
        return asdict(own.try_out(runtime, samples, spec["shape"], spec["classes"]))
    except DataError as error:
        return {"error": str(error), "blamed": "samples"}
    except VariantError as error:
        return {"error": str(error), "blamed": "model"}
    except FedEdgeError as error:
        return {"error": str(error), "blamed": "release"}
    except MemoryError:
        told = f"it takes more than the {spec['memory_bytes']:,} bytes of memory that the policy allows"
        return {"error": told, "blamed": "model"}


def main() -> None:
    """Try the model in this folder, within the memory that it may take."""
    spec = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries that print must not break the answer
    resource.setrlimit(resource.RLIMIT_DATA, (spec["memory_bytes"], spec["memory_bytes"]))
    print(json.dumps(outcome(spec, Path(MODEL))), file=answers, flush=True)


if __name__ == "__main__":
    main()
