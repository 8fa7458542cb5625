"""Mesh identity as the training loop sees it."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from triform.data.meshes.meshes import Meshes
from triform.data.order import steps_per_epoch
from triform.tasks.mesh_identity.batch import Batch, make_batch
from triform.tasks.mesh_identity.config import MeshIdentity
from triform.tasks.mesh_identity.sampler import select
from triform.training.backend import Facts
from triform.training.task import HistoryRow

if TYPE_CHECKING:
    from torch import Tensor, nn

    from triform.report.panels import Panel
    from triform.tasks.mesh_identity.evaluation import Evaluation
    from triform.training.task import Predict

_TOGETHER = 0.02
"""Mean distance below which unit vectors count as one: a hundredth of the largest, where margins are 0.2 and more."""


class MeshIdentityTask:
    """Batches, model, loss and metrics for one setting."""

    def __init__(self, config: MeshIdentity) -> None:
        self.config = config

    def select(self, data: Meshes, step: int, *, seed: int, batch_size: int) -> tuple[int, Int64[np.ndarray, " batch"]]:
        """Return epoch and meshes of batch number `step`: some subjects, some meshes of each. An epoch has as many batches as one
        pass over the data, but draws anew for each."""
        per_subject = self.config.triplets.meshes_per_subject
        epoch = step // steps_per_epoch(len(data.names), batch_size)
        return epoch, select(data.subjects, seed=seed, step=step, batch_size=batch_size, meshes_per_subject=per_subject)

    def batch(self, data: Meshes, indices: Int64[np.ndarray, " batch"], *, seed: int, epoch: int | None) -> Batch:
        """Return the batch of `batch.make_batch`, a pure function of its arguments; no augmentation where `epoch` is None."""
        return make_batch(self.config, data, indices, seed=seed, epoch=epoch)

    def build_torch(self, facts: Facts, seed: int) -> "nn.Module":
        """Return a model in torch for data with these `facts`, its first weights drawn by `seed`."""
        from triform.tasks.mesh_identity.model_torch import IdentityNet

        return IdentityNet(self.config, facts["num_classes"], seed=seed)

    def loss_torch(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", dict[str, "Tensor"]]:
        """Return the weighted sum of classification and triplet loss, and what is logged of it."""
        from triform.tasks.mesh_identity.loss_torch import identity_loss

        return identity_loss(self.config, model(batch), batch)

    def predict_torch(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
        """Return {"embedding": (batch, embedding_dim) unit vectors, "logits": (batch, class)}."""
        embedding, _, logits = model(batch)
        return {"embedding": embedding, "logits": logits}

    def rate_factor(self, _name: str) -> float:
        """Return 1: all parameters learn at one rate."""
        return 1.0

    def build_mlx(self, facts: Facts, seed: int) -> Any:
        """Return the same model in MLX, with the same first weights."""
        from triform.tasks.mesh_identity.model_mlx import IdentityNet

        return IdentityNet(self.config, facts["num_classes"], seed=seed)

    def loss_mlx(self, model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the same loss and scalars as `loss_torch`."""
        from triform.tasks.mesh_identity.loss_mlx import identity_loss

        return identity_loss(self.config, model(batch), batch)

    def predict_mlx(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the same arrays as `predict_torch`."""
        embedding, _, logits = model(batch)
        return {"embedding": embedding, "logits": logits}

    def validate(self, splits: Mapping[str, Meshes], predict: "Predict", *, batch_size: int, seed: int) -> dict[str, float]:
        """Return what `validation.validation_metrics` finds on val: rank_1 and eer of unknown subjects, or accuracy and
        classification_loss of known ones. Raises: Diverged: a prediction is not finite."""
        from triform.tasks.mesh_identity.validation import validation_metrics

        return validation_metrics(self.config, splits["val"], predict, batch_size=batch_size, seed=seed)

    def watch(self, scalars: Mapping[str, float]) -> str | None:
        """Return a warning where the embedding collapses: all meshes of a batch at one point, whosever they are."""
        known = {name: scalars.get(name) for name in ("positive_distance", "negative_distance")}
        positive, negative = known.values()
        if self.config.triplet_weight == 0 or positive is None or negative is None or max(positive, negative) >= _TOGETHER:
            return None
        if positive == negative == 0 and scalars.get("active_triplets") == 0:
            return None  # a batch without triplets says nothing
        return (
            f"the embedding collapses: meshes of one subject lie {positive:.1e} apart, those of two {negative:.1e}, of at most 2. "
            "Lower learning_rate, or set task.triplets.mining to batch_semi_hard or soft_margin to true"
        )

    def evaluate(
        self, splits: Mapping[str, Meshes], predict: "Predict", *, batch_size: int, seed: int, say: Callable[[str], None]
    ) -> "Evaluation":
        """Measure a model beside chance and baselines; see `measuring.evaluate`."""
        from triform.tasks.mesh_identity.measuring import evaluate

        return evaluate(self.config, splits, predict, batch_size=batch_size, seed=seed, say=say)

    def panels(self, arrays: Batch, history: Iterable[HistoryRow]) -> tuple["Panel", ...]:
        """What a report shows of a saved evaluation and of the metrics log."""
        from triform.tasks.mesh_identity.evaluation import Evaluation
        from triform.tasks.mesh_identity.panels import panels

        return panels(Evaluation.from_arrays(arrays), history)
