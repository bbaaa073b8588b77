"""What a column or array of labels is: its kind, its classes, and how they are stored."""

from dataclasses import dataclass

import numpy as np

from fededge.documents import Label
from fededge.errors import DataError, shown
from fededge.task.data import Described, LabelKind

FEW = 20
"""Different whole numbers in a column of a table up to which they are classes."""
MOST_CLASSES = 10_000
WORDS = "UOS"


class LabelSummary:
    """Raw labels seen so far: only what tells them apart is kept."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.shape: tuple[int, ...] | None = None
        self.values: set[str | float] = set()
        self.whole = self.binary = True
        self.low, self.high = np.inf, -np.inf
        self.count = 0

    def add(self, raw: np.ndarray, source: str) -> None:
        """Look at `raw` [n, ...]: words, booleans or numbers.

        Raises:
            DataError: not finite, of a type that is no label, or of another shape than those before.
        """
        kind = "U" if raw.dtype.kind in WORDS else raw.dtype.kind
        if kind not in "Ubiuf" or (kind == "U" and raw.ndim > 1):
            raise DataError(
                f"{source}: labels are {raw.dtype} {list(raw.shape)}; give numbers, booleans or words"
            )
        if self.shape not in (None, raw.shape[1:]):
            raise DataError(
                f"{source}: labels change their shape from {self.shape} to {raw.shape[1:]}: give one shape"
            )
        self.shape = raw.shape[1:]
        self.kinds.add(kind)
        self.count += len(raw)
        if len(self.kinds) > 1 and "U" in self.kinds:
            raise DataError(
                f"{source}: labels change their type in the middle, from numbers to words: correct them"
            )
        if not raw.size:
            return
        if kind == "f" and not np.isfinite(raw).all():
            raise DataError(f"{source}: labels have NaN or infinite values: correct or remove those examples")
        if kind != "U":
            self.low, self.high = min(self.low, raw.min()), max(self.high, raw.max())
            self.whole = self.whole and (kind != "f" or bool((raw == np.floor(raw)).all()))
            self.binary = self.binary and bool(((raw == 0) | (raw == 1)).all())
        if raw.ndim == 1 and len(self.values) <= MOST_CLASSES:
            self.values.update(np.unique(raw.astype(str) if kind == "U" else raw).tolist())


@dataclass(frozen=True)
class LabelRule:
    """How raw labels are stored: `label`, and the place of each class by its name, where labels are names."""

    label: Label
    places: dict[str, int] | None
    source: str

    def encode(self, raw: np.ndarray | None, count: int) -> np.ndarray:
        """`raw` [n, ...] as the label stores it; [n, 0] where there is none.

        Raises:
            DataError: not one for each example, or outside the classes.
        """
        label = self.label
        if label.kind == "none" or raw is None:
            return np.zeros((count, 0), np.float32)
        if len(raw) != count:
            raise DataError(
                f"{self.source}: labels have shape {raw.shape} for {count} examples: give one label each"
            )
        if self.places is not None:
            values, inverse = np.unique(
                raw.astype(str) if raw.dtype.kind in WORDS else raw, return_inverse=True
            )
            raw = np.array([self._place(word_of(value)) for value in values.tolist()], np.int64)[
                inverse.reshape(-1)
            ]
        elif (
            label.kind in ("class", "sequence")
            and len(raw)
            and not 0 <= raw.min() <= raw.max() < label.classes
        ):
            worst = raw.min() if raw.min() < 0 else raw.max()
            raise DataError(
                f"{self.source}: label {worst} found where there are {label.classes} classes (0 to "
                f"{label.classes - 1}): correct it, or name all classes in data.classes"
            )
        with np.errstate(over="ignore"):
            return raw.reshape(count, *label.stored_shape).astype(label.dtype)

    def _place(self, word: str) -> int:
        assert self.places is not None
        if word not in self.places:
            raise DataError(
                f"{self.source}: label {shown(word)!r} is none of the {len(self.places)} classes: correct it, "
                "or name all classes in data.classes"
            )
        return self.places[word]


def label_rule(seen: LabelSummary | None, data: Described, source: str, *, table: bool = False) -> LabelRule:
    """What labels like those `seen` are, where the task does not say so; None where there are none.

    In a table whole numbers are classes where they are few, and each of them is a class. In an array they are
    the classes' own numbers.

    Raises:
        DataError: they cannot be what the task says, or are too many.
    """
    if seen is None or data.kind == "none":
        return LabelRule(Label(kind="none"), None, source)
    if table and data.kind == "class" and data.classes:
        known = {name: place for place, name in enumerate(data.classes)}
        return LabelRule(Label(kind="class", classes=len(known), names=data.classes), known, source)
    if not seen.count and seen.shape is None:
        raise DataError(f"{source}: there are no examples: give some")
    shape = list(seen.shape or ())
    kind = data.kind or _kind(seen, table, bool(data.classes))
    words = "U" in seen.kinds
    if words and kind != "class":
        raise DataError(f"{source}: labels are words, which are of kind class, not {kind}: correct data.kind")
    if kind == "number":
        return LabelRule(Label(kind=kind, shape=shape), None, source)
    if kind == "multi-label":
        if len(shape) != 1 or not seen.binary:
            raise DataError(f"{source}: labels of kind multi-label are 0 or 1 for each class, side by side")
        if data.classes and len(data.classes) != shape[0]:
            raise DataError(
                f"{source}: {len(data.classes)} data.classes for {shape[0]} labels of an example: name as many"
            )
        return LabelRule(Label(kind=kind, classes=shape[0], names=data.classes), None, source)
    if not words and not seen.whole:
        raise DataError(f"{source}: labels of kind {kind} must be whole numbers from 0: use kind number")
    return _classes(seen, data, source, kind, table)


def _kind(seen: LabelSummary, table: bool, named: bool) -> LabelKind:
    if seen.shape:
        whole = bool(seen.kinds <= set("biu"))
        return ("multi-label" if seen.binary else "sequence") if whole and len(seen.shape) == 1 else "number"
    if seen.kinds <= {"U", "b"} or named:
        return "class"
    if table:
        return "class" if seen.whole and len(seen.values) <= FEW else "number"
    return "number" if "f" in seen.kinds else "class"


def _classes(seen: LabelSummary, data: Described, source: str, kind: LabelKind, table: bool) -> LabelRule:
    shape = list(seen.shape or ())
    places: dict[str, int] | None = None
    names = list(data.classes)
    if len(seen.values) > MOST_CLASSES or (not table and seen.high >= MOST_CLASSES):
        found = f"label {seen.high}" if np.isfinite(seen.high) else f"{len(seen.values):,} different labels"
        raise DataError(
            f"{source}: {found} found where at most {MOST_CLASSES:,} classes are told apart: use kind number, or "
            "number the classes from 0"
        )
    if "U" in seen.kinds or (table and not shape):
        names = names or [word_of(value) for value in sorted(seen.values)]
        places = {name: place for place, name in enumerate(names)}
        unknown = next(
            (word_of(value) for value in sorted(seen.values) if word_of(value) not in places), None
        )
        if unknown is not None:
            raise DataError(
                f"{source}: label {shown(unknown)!r} is none of the {len(names)} classes: correct it, or name all "
                "classes in data.classes"
            )
    elif seen.count and seen.low < 0:
        raise DataError(f"{source}: labels must be whole numbers from 0, found {seen.low}")
    count = len(names) or int(seen.high) + 1
    if count < 2:
        raise DataError(f"{source}: all labels are of one class: give examples of at least two")
    if names and places is None and seen.high >= count:
        raise DataError(
            f"{source}: label {seen.high} found where data.classes names {count} classes (0 to {count - 1}): correct "
            "it, or name all classes"
        )
    return LabelRule(Label(kind=kind, classes=count, names=names, shape=shape), places, source)


def word_of(value: str | float) -> str:
    """The name of a class or category that a table holds as `value`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
