"""Examples on disk: of a simulated population a folder for each client, and the held-out ones.

    <client>/train/    what the client learns from
    <client>/test/     what it evaluates on

Each holds x.npy, y.npy and schema.json, which `fededge.examples` describes; so does the held-out folder, and in it
the folder `validation` where the task asks for one.
"""

from pathlib import Path

import numpy as np

from fededge.documents import ClientCounts, Feature, HeldOut, Population, Schema
from fededge.errors import DataError
from fededge.learning.data import splits, statistics, writing
from fededge.learning.data.source import Source
from fededge.learning.data.sources import open_source
from fededge.learning.data.splits import Division
from fededge.learning.data.survey import checked, class_counts, survey
from fededge.task import LocalData, Partition


def prepare(data: LocalData, how: Partition, seed: int, clients: Path, test: Path) -> Population:
    """Load and spread a task's examples: client folders under `clients`, held-out examples under `test`.

    Args:
        data: where examples come from.
        how: how they are spread over clients.
        seed: of the task.
        clients: folder that gets a folder for each client.
        test: folder that gets the held-out examples.

    Returns:
        The simulated population, without digests.

    Raises:
        DataError: the examples are missing or malformed, or cannot be spread as asked; nothing is left of them.
        StorageError: a folder cannot be written.
    """
    source = open_source(data, seed, how.column)
    found = survey(source)
    division = splits.divide(found, data, how, seed)
    with writing.whole_or_nothing(clients, test):
        folders = [_folder(place, clients, test) for place, _ in division]
        labels = _write(source, division, folders, found.count)
        learned = [clients / name / "train" for name in division.clients]
        schema = statistics.with_statistics(source.schema, learned, source.filled)
        means = _means(schema.features, source)
        for folder in folders:
            writing.fill(folder, means)
            schema.write(folder / "schema.json")
    held = [
        ClientCounts(
            id=name,
            train=division.count(name, "train"),
            test=division.count(name, "test"),
            labels=labels[name],
        )
        for name in division.clients
    ]
    return Population(
        clients=held,
        example=schema,
        examples=sum(division.sizes),
        simulated=True,
        held_out=HeldOut(
            by=division.by,
            seed=seed,
            clients=division.held_clients,
            test=division.count(*splits.TEST),
            validation=division.count(*splits.VALIDATION),
        ),
    )


def prepare_held_out(data: LocalData, seed: int, test: Path) -> tuple[Schema, HeldOut]:
    """Load all examples of `data` into `test`: those by which a task judges whose clients hold theirs elsewhere.

    Args:
        data: where the held-out examples come from.
        seed: of the task.
        test: folder that gets them.

    Returns:
        What an example is, with the statistics of these; and how many they are.

    Raises:
        DataError, StorageError: as for `prepare`.
    """
    source = open_source(data, seed)
    found = survey(source)
    division = Division({splits.TEST: np.arange(found.count, dtype=np.int32)}, "source", [])
    with writing.whole_or_nothing(test):
        _write(source, division, [test], found.count)
        schema = statistics.with_statistics(source.schema, [test], source.filled)
        writing.fill(test, _means(schema.features, source))
        schema.write(test / "schema.json")
    return schema, HeldOut(by="source", seed=seed, test=found.count)


def client_names(clients: Path) -> list[str]:
    """Ids of the simulated clients whose folders lie in `clients`."""
    return sorted(folder.name for folder in clients.iterdir() if folder.is_dir())


def _folder(place: splits.Place, clients: Path, test: Path) -> Path:
    if place in (splits.TEST, splits.VALIDATION):
        return test if place == splits.TEST else test / place[0]
    return clients.joinpath(*place)


def _write(source: Source, division: Division, folders: list[Path], count: int) -> dict[str, list[int]]:
    """Append each example to its folder; training examples of each client by class, where there are classes."""
    where = np.full(count, -1, np.int32)
    for number, (_, indices) in enumerate(division):
        where[indices] = number
    writer = writing.Writer(folders, [len(indices) for _, indices in division], source.schema)
    label = source.schema.label
    counted = {number: place[0] for number, (place, _) in enumerate(division) if place[1:] == ("train",)}
    labels = {name: np.zeros(label.classes, np.int64) for name in counted.values()}
    done = 0
    for batch in checked(source):
        places = where[done : done + len(batch.x)]
        done += len(batch.x)
        if len(places) < len(batch.x):
            break
        writer.add(places, batch.x, batch.y)
        if label.classes:
            for number in set(np.unique(places).tolist()) & set(counted):
                labels[counted[number]] += class_counts(batch.y[places == number], label)
    if done != count:
        raise DataError(
            f"{source.name} gave {count:,} examples at first and {done:,} then: keep it as it is meanwhile"
        )
    return {name: counts.tolist() for name, counts in labels.items()}


def _means(features: list[Feature], source: Source) -> dict[int, float]:
    """What stands for missing numbers, by place in the flat example."""
    starts = np.cumsum([0, *(feature.size for feature in features)]).tolist()
    return {
        start: feature.missing
        for start, feature in zip(starts, features, strict=False)
        if start in source.filled and feature.missing is not None
    }
