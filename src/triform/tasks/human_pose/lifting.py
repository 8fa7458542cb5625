"""Lifting 2D joints to 3D as the training loop sees it."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from triform.data.order import batch_indices
from triform.data.poses.poses import Poses
from triform.errors import DataError
from triform.tasks.human_pose.batch import Batch, lifting_batch
from triform.tasks.human_pose.config import PoseLifting
from triform.training.backend import Facts
from triform.training.task import HistoryRow

if TYPE_CHECKING:
    from torch import Tensor, nn

    from triform.report.panels import Panel
    from triform.training.task import Evaluation, Predict


class LiftingTask:
    """Batches, model, loss and metrics for one setting."""

    def __init__(self, config: PoseLifting) -> None:
        self.config = config

    def select(self, data: Poses, step: int, *, seed: int, batch_size: int) -> tuple[int, Int64[np.ndarray, " batch"]]:
        """Return epoch and clips of batch number `step`. Clips without 3D take part where a loss needs none. Raises: DataError."""
        needs_none = self.config.losses.reprojection + self.config.losses.symmetry > 0
        return select(data, step, seed=seed, batch_size=batch_size, labelled_alone=not needs_none)

    def batch(self, data: Poses, indices: Int64[np.ndarray, " batch"], *, seed: int, epoch: int | None) -> Batch:
        """Return the batch of `batch.lifting_batch`, a pure function of its arguments; no augmentation where `epoch` is None."""
        return lifting_batch(data, indices, self.config.augmentation, seed=seed, epoch=epoch)

    def build_torch(self, facts: Facts, _seed: int) -> "nn.Module":
        """Return a model for clips of `num_frames` frames, initialised from torch's present seed."""
        from triform.tasks.human_pose.model_torch import LiftNet

        return LiftNet(self.config.encoder, facts)

    def loss_torch(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", dict[str, "Tensor"]]:
        """Return the weighted sum of the losses, and each by name."""
        from triform.tasks.human_pose.loss_torch import lifting_loss

        return lifting_loss(self.config.losses, model(batch["joints_2d"]), batch)

    def predict_torch(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
        """Return {"joints_3d": (batch, frame, 17, 3)} root-relative, in the network's unit; where the batch holds "attention", also each
        layer's mean attention by its name."""
        if "attention" in batch:
            from triform.tasks.human_pose.model_torch import LiftNet, attention_maps

            assert isinstance(model, LiftNet)
            return attention_maps(model, batch["joints_2d"])
        return {"joints_3d": model(batch["joints_2d"])}

    def rate_factor(self, name: str) -> float:
        """Return the learning rate's factor of a parameter: `layer_decay` once for each layer between it and the head."""
        return float(self.config.layer_decay ** (self.config.encoder.depth + 1 - _depth(name, self.config.encoder.depth)))

    def validate(
        self,
        splits: Mapping[str, Poses],
        predict: "Predict",
        *,
        batch_size: int,
        seed: int,  # noqa: ARG002 (nothing here is drawn, but every task is asked alike)
    ) -> dict[str, float]:
        """Return mpjpe, p_mpjpe, n_mpjpe (mm) and mpjve (mm a frame) of val. Raises: Diverged: a prediction is not finite."""
        from triform.tasks.human_pose.validation import validation_lifting

        return validation_lifting(splits["val"], predict, batch_size=batch_size)

    def watch(self, _scalars: Mapping[str, float]) -> None:
        """Nothing but a number that is not finite goes wrong here, and the loop sees that."""

    def evaluate(
        self, splits: Mapping[str, Poses], predict: "Predict", *, batch_size: int, seed: int, say: Callable[[str], None]
    ) -> "Evaluation":
        """Measure a model beside the constant pose and ridge regression; see `measuring.evaluate_lifting`."""
        from triform.tasks.human_pose.measuring import evaluate_lifting

        def attention(joints_2d: Any) -> Mapping[str, Any]:
            return predict({"joints_2d": joints_2d, "attention": np.ones(len(joints_2d), np.float32)})

        return evaluate_lifting(self.config, splits, predict, attention, batch_size=batch_size, seed=seed, say=say)

    def panels(self, arrays: Batch, history: Iterable[HistoryRow]) -> tuple["Panel", ...]:
        """What a report shows of a saved evaluation and of the metrics log."""
        from triform.tasks.human_pose.evaluation import Evaluation
        from triform.tasks.human_pose.panels import lifting_panels

        return lifting_panels(Evaluation.from_arrays(arrays), history)


def select(data: Poses, step: int, *, seed: int, batch_size: int, labelled_alone: bool) -> tuple[int, Int64[np.ndarray, " batch"]]:
    """Return epoch and clips of batch number `step`; an epoch has as many steps whether or not clips without 3D are left out.

    Those with 3D then come in turn, on from where the epoch before ended, so that none comes more often than another in the long run.

    Raises: DataError: no clip is left.
    """
    epoch, indices = batch_indices(seed, step, num_samples=len(data.names), batch_size=batch_size)
    if not labelled_alone or data.labelled.all():
        return epoch, indices
    labelled = np.flatnonzero(data.labelled)
    if not len(labelled):
        raise DataError(
            "No training sequence has 3D", expected="joints_3d_mm in some of them", do="add 3D, or pretrain on 2D (pose_pretraining)"
        )
    return epoch, labelled[(epoch * len(data.names) + indices) % len(labelled)]


def _depth(name: str, num_layers: int) -> int:
    """0 for the embedding, then the layers from 1, then what follows them."""
    parts = name.split(".")
    if parts[:2] == ["encoder", "layers"]:
        return 1 + int(parts[2])
    if parts[0] == "encoder" and parts[1] != "norm":
        return 0
    return num_layers + 1 if parts[0] != "encoder" else num_layers
