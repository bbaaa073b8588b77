"""What a site allows, in a YAML file of its own: who may learn from which data, how, how often and with which limits.

The file is read again when it changes. While it has a mistake, nothing is allowed. docs/guides/sites.md has an example.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fededge import storage
from fededge.device.policy_keys import Follows, Policy, Program, Rule
from fededge.errors import FedEdgeError, SiteError, shown
from fededge.signing import TrustedKey
from fededge.yaml_text import Content, Place, dotted, read

LIMIT = 1 << 20
"""Bytes of the largest policy file."""


class Loaded:
    """A policy with what it names: `folders` of data by name, `conditions`, trusted keys, `releases` by task, and
    those of the `program`.

    Args:
        path: of the file; what it names is relative to its folder.

    Raises:
        SiteError: the file is missing or wrong, or a key that it names is.
    """

    def __init__(self, path: Path) -> None:
        self.policy = _validated(_read(path), shown(str(path), 500))
        folder = path.parent
        self.folders = {name: folder / data for name, data in self.policy.datasets.items()}
        told = self.policy.conditions
        file = None if told.file is None else str(folder / told.file)
        self.conditions = told.model_copy(update={"file": file})
        self._keys: dict[str, TrustedKey] = {}
        named = {file for rule in self.policy.rules for file in rule.signers}
        named |= {each.trusted_key for each in self.policy.releases}
        named |= {self.policy.program.trusted_key} if self.policy.program else set()
        self._files = [path, *sorted(folder / file for file in named)]
        self._seen = [storage.state_of(file) for file in self._files]
        self._signers: dict[str, set[str]] = {}
        for number, rule in enumerate(self.policy.rules):
            try:
                keys = [TrustedKey.load(folder / file) for file in rule.signers]
            except FedEdgeError as error:
                raise SiteError(f"{shown(str(path), 500)}: rules.{number}.signers: {error}") from error
            self._keys |= {key.id: key for key in keys}
            self._signers[rule.name] = {key.id for key in keys}
        self.releases: dict[str, tuple[Follows, TrustedKey]] = {}
        for number, each in enumerate(self.policy.releases):
            try:
                trusted = TrustedKey.load(folder / each.trusted_key)
            except FedEdgeError as error:
                raise SiteError(f"{shown(str(path), 500)}: releases.{number}.trusted_key: {error}") from error
            samples = None if each.samples is None else str(folder / each.samples)
            self.releases[each.task] = (each.model_copy(update={"samples": samples}), trusted)
        self.program: tuple[Program, TrustedKey] | None = None
        if (program := self.policy.program) is not None:
            try:
                self.program = (program, TrustedKey.load(folder / program.trusted_key))
            except FedEdgeError as error:
                raise SiteError(f"{shown(str(path), 500)}: program.trusted_key: {error}") from error

    @property
    def changed(self) -> bool:
        """Whether a file that it was read from is another now."""
        return self._seen != [storage.state_of(file) for file in self._files]

    def key(self, id: str) -> TrustedKey | None:
        """The key `id`, if any rule trusts it."""
        return self._keys.get(id)

    def rule_for(self, task: str, owner: str, signer: str, dataset: str) -> Rule | None:
        """The first rule that is for such an order."""
        for rule in self.policy.rules:
            if (
                signer in self._signers[rule.name]
                and dataset in rule.datasets
                and any(fnmatchcase(task, pattern) for pattern in rule.tasks)
                and any(fnmatchcase(owner, pattern) for pattern in rule.owners)
            ):
                return rule
        return None


class PolicyFile:
    """The policy in the file `path`, as it is now.

    Raises:
        SiteError: it is missing or wrong at the start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: Loaded | None = Loaded(path)

    @property
    def last(self) -> Loaded | None:
        """The policy as it was read last; None where that had a mistake."""
        return self._loaded

    def current(self) -> Loaded:
        """The policy, read again where a file of it changed.

        Raises:
            SiteError: what is there now is wrong.
        """
        if self._loaded is None or self._loaded.changed:
            self._loaded = None
            self._loaded = Loaded(self.path)
        return self._loaded


def _read(path: Path) -> Content:
    source = shown(str(path), 500)
    try:
        return read(storage.read(str(path), LIMIT).decode(), source)
    except UnicodeDecodeError as error:
        raise SiteError(f"{source} is not text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    except FedEdgeError as error:
        raise SiteError(f"the site's policy cannot be read: {error}") from error


def _validated(content: Content, source: str) -> Policy:
    try:
        policy = Policy.model_validate(content.value)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False)
        raise SiteError("; ".join(told(mistake, content, source) for mistake in mistakes[:10])) from error
    names = [rule.name for rule in policy.rules]
    for number, rule in enumerate(policy.rules):
        where = content.places.get(("rules", number), source)
        if names.count(rule.name) > 1:
            raise SiteError(
                f"{where}: rules.{number}.name: there are two rules {rule.name!r}: name each once"
            )
        if unknown := sorted(set(rule.datasets) - set(policy.datasets)):
            raise SiteError(
                f"{where}: rules.{number}.datasets: {unknown[0]!r} is none of datasets ({', '.join(policy.datasets)})"
            )
    return policy


def told(mistake: Mapping[str, Any], content: Content, source: str) -> str:
    """One mistake that pydantic found: where, what, and the value it found there."""
    place: Place = mistake["loc"]
    ends = (place[:end] for end in range(len(place), -1, -1))
    where = next((content.places[part] for part in ends if part in content.places), source)
    if mistake["type"] == "extra_forbidden":
        return f"{where}: {dotted(place)}: there is no such key: correct or remove it"
    found = "" if isinstance(mistake["input"], dict | list) else f" (found {shown(repr(mistake['input']))})"
    return f"{where}: {dotted(place)}: {shown(mistake['msg'], 300)}{found}"
