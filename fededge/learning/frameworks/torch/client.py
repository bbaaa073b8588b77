"""A client that trains a PyTorch module on its own folder."""

from pathlib import Path

import numpy as np
import torch

from fededge import examples
from fededge.clients import Ranges
from fededge.documents import Plan, Schema
from fededge.encoding import answers
from fededge.errors import DataError, DivergedError, TaskError, VariantError, shown
from fededge.learning import bundles
from fededge.learning.frameworks.torch.losses import loss_of
from fededge.learning.frameworks.torch.network import Network
from fededge.learning.frameworks.torch.work import Work
from fededge.learning.streaming import blocks, training_blocks
from fededge.learning.tally import Tally
from fededge.update import Update
from fededge.weights import Weights

BatchNorm = torch.nn.modules.batchnorm._BatchNorm


class TorchClient:
    """The plan in `plan`, bound to the client folder `data` (with train/ and test/).

    On a CPU it computes in one thread, which adds up in one order and leaves the rest to other clients.

    Args:
        plan: folder of the exported plan.
        document: its plan.json.
        data: the client's own folder.

    Raises:
        IntegrityError: the model's code was changed, or is not signed by the key that is trusted here.
    """

    def __init__(self, plan: Path, document: Plan, data: Path) -> None:
        work, self._schema = Work.read(plan / "work.json"), document.example
        self._train = examples.read(data / "train", self._schema)
        self._data, self._activations = data, document.activations
        self._client, model = work.client, work.model
        if model.code:
            model = model.model_copy(update={"code": str(bundles.folder_of(model.code, str(plan)))})
        self._device = _device(self._client.device)
        if self._device == "cpu":
            torch.set_num_threads(1)
        self._network = Network(model, self._schema, work.seed)
        self._loss = loss_of(model, self._schema)
        self._shown = model.shown
        if self._network.described != document.variables:
            raise DataError(f"{plan}/work.json is not of the model in plan.json: start a new run")
        self._network.to(self._device)

    def train(self, weights: Weights, seed: int) -> Update:
        """See Client."""
        tally = Tally(self._schema)
        self._network.begin(weights)
        with torch.random.fork_rng(), np.errstate(all="ignore"):
            torch.manual_seed(seed)
            try:
                self._steps(seed, tally)
            except Exception as error:  # the user's module and loss may raise anything
                raise TaskError(
                    f"model {self._shown} failed in training: {shown(f'{type(error).__name__}: {error}', 300)}"
                ) from error
        after = self._network.weights()
        if not all(np.isfinite(value).all() for value in after.values()):
            raise DivergedError(
                "local training diverged to NaN or infinity: lower learning.client.learning_rate"
            )
        return tally.update({name: value - after[name] for name, value in weights.items()})

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """See Client."""
        tally = Tally(self._schema)
        self._network.begin(weights)
        for encoded, wanted in blocks(self._schema, *examples.read(self._data / "test", self._schema)):
            tally.add(answers(self._schema, self._network.raw(encoded)), wanted)
        return tally.counts

    def ranges(self, weights: Weights) -> Ranges:
        """See Client; measured in the module's Keras form, whose layers an int8 variant has."""
        if not self._activations:
            raise VariantError(
                "the module has no Keras form, so it has no int8 variant: remove int8 from variants"
            )
        from fededge.learning.frameworks.keras.probing import ranges
        from fededge.learning.frameworks.torch import keras_form

        self._network.begin(weights)
        return ranges(keras_form.body(self._network.module, self._schema), self._schema, *self._train)

    def _steps(self, seed: int, tally: Tally) -> None:
        """One batch after another, with an optimizer that is new to each round."""
        module, client = self._network.module, self._client
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        kind = torch.optim.Adam if client.optimizer == "adam" else torch.optim.SGD
        optimizer = kind(learning, lr=client.learning_rate)
        module.train()
        for encoded, targets in training_blocks(
            self._schema, *self._train, seed, client.batch_size, client.epochs
        ):
            x, y = torch.from_numpy(encoded).to(self._device), torch.from_numpy(targets).to(self._device)
            found = []
            for batch, wanted in zip(x.split(client.batch_size), y.split(client.batch_size), strict=True):
                if len(batch) == 1:
                    _without_spread(module)
                optimizer.zero_grad()
                raw = module(batch)
                loss = self._loss(raw, wanted)
                (loss.mean() if loss.ndim else loss).backward()
                optimizer.step()
                found.append(raw.detach())
            tally.add(_answers(self._schema, found), targets)


def _answers(schema: Schema, raw: list[torch.Tensor]) -> np.ndarray:
    return answers(schema, torch.cat(raw).cpu().numpy())


def _without_spread(module: torch.nn.Module) -> None:
    """Let BatchNorm take a batch of one example, the last, by its moving statistics: it has no spread of its own."""
    for layer in module.modules():
        if isinstance(layer, BatchNorm):
            layer.eval()


def _device(wanted: str) -> str:
    """Where to compute.

    Raises:
        TaskError: a GPU is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise TaskError("learning.client.device is cuda, but PyTorch finds no GPU here: use auto or cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"
