"""The point autoencoder as the training loop sees it."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int
from numpy.typing import NDArray

from triform.data.clouds import Clouds
from triform.data.order import batch_indices
from triform.errors import Diverged
from triform.tasks.point_autoencoder.batch import make_batch
from triform.tasks.point_autoencoder.config import PointAutoencoder
from triform.tasks.point_autoencoder.metrics import cd_l2, cd_squared, nearest_distances
from triform.training.backend import Facts
from triform.training.task import HistoryRow

if TYPE_CHECKING:
    from torch import Tensor, nn

    from triform.report.panels import Panel
    from triform.tasks.point_autoencoder.evaluation import Evaluation, Predict

Arrays = Mapping[str, NDArray[np.generic]]


class PointAutoencoderTask:
    """Batches, model, loss and metrics for one setting."""

    def __init__(self, config: PointAutoencoder) -> None:
        self.config = config

    def select(self, clouds: Clouds, step: int, *, seed: int, batch_size: int) -> tuple[int, Int[np.ndarray, " batch"]]:
        """Epoch and clouds of batch number `step`: each epoch is a permutation of the split."""
        return batch_indices(seed, step, num_samples=len(clouds.names), batch_size=batch_size)

    def batch(self, clouds: Clouds, indices: Int[np.ndarray, " batch"], *, seed: int, epoch: int | None) -> dict[str, NDArray[np.float32]]:
        """Return {"points": (batch, point, 3)}, a pure function of its arguments; no augmentation where `epoch` is None."""
        return make_batch(clouds, indices, augmentation=self.config.augmentation, seed=seed, epoch=epoch)

    def build_torch(self, facts: Facts, _seed: int) -> "nn.Module":
        """Return a model for clouds of `num_points` points, initialised from torch's present seed."""
        from triform.tasks.point_autoencoder.model_torch import AutoencoderNet

        return AutoencoderNet(self.config, facts["num_points"])

    def loss_torch(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", dict[str, "Tensor"]]:
        """Return the batch mean of the configured distance, and both distances by name.

        Raises: Diverged: the model draws something that is not finite.
        """
        from triform.tasks.point_autoencoder.loss_torch import chamfer_distances

        reconstruction, _ = model(batch["points"])
        if not bool(reconstruction.isfinite().all()):
            raise _diverged()
        drawn = reconstruction.to(batch["points"].dtype)  # mixed precision ends where distances begin
        means = {name: values.mean() for name, values in chamfer_distances(drawn, batch["points"]).items()}
        return means[self.config.loss], {name: value.detach() for name, value in means.items()}

    def predict_torch(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
        """Return {"reconstruction": (batch, drawn, 3), "embedding": (batch, latent)}."""
        reconstruction, embedding = model(batch["points"])
        return {"reconstruction": reconstruction, "embedding": embedding}

    def rate_factor(self, _name: str) -> float:
        """Return 1: all parameters learn at one rate."""
        return 1.0

    def validation_metrics(self, batch: Arrays, prediction: Arrays) -> dict[str, Float64[np.ndarray, " batch"]]:
        """Return cd_l2 and cd_squared of each sample. Raises: Diverged: a prediction is not finite."""
        reconstruction: NDArray[Any] = prediction["reconstruction"]
        if not np.isfinite(reconstruction).all():
            raise _diverged()
        distances = nearest_distances(reconstruction, batch["points"])
        return {"cd_l2": cd_l2(distances), "cd_squared": cd_squared(distances)}

    def validate(self, splits: Mapping[str, Clouds], predict: "Predict", *, batch_size: int, seed: int) -> dict[str, float]:
        """Mean metrics of the validation split."""
        clouds, found = splits["val"], dict[str, list[NDArray[np.float64]]]()
        for first in range(0, len(clouds.names), batch_size):
            indices = np.arange(first, min(first + batch_size, len(clouds.names)))
            batch = self.batch(clouds, indices, seed=seed, epoch=None)
            for name, values in self.validation_metrics(batch, predict(batch)).items():
                found.setdefault(name, []).append(values)
        return {name: float(np.concatenate(values).mean(dtype=np.float64)) for name, values in found.items()}

    def watch(self, _scalars: Mapping[str, float]) -> None:
        """Nothing but a number that is not finite goes wrong here, and the loop sees that."""

    def evaluate(
        self, splits: Mapping[str, Clouds], predict: "Predict", *, batch_size: int, seed: int, say: Callable[[str], None]
    ) -> "Evaluation":
        """Measure a model beside floor and baselines; see `evaluation.evaluate`."""
        from triform.tasks.point_autoencoder.evaluation import evaluate

        return evaluate(self, splits, predict, batch_size=batch_size, seed=seed, say=say)

    def panels(self, arrays: Arrays, history: Iterable[HistoryRow]) -> tuple["Panel", ...]:
        """What a report shows of a saved evaluation and of the metrics log."""
        from triform.tasks.point_autoencoder.evaluation import Evaluation
        from triform.tasks.point_autoencoder.panels import panels

        return panels(Evaluation.from_arrays(arrays), history)


def _diverged() -> Diverged:
    return Diverged(
        "The model draws points that are not finite", expected="finite coordinates", do="lower the learning rate or set a gradient clip"
    )
