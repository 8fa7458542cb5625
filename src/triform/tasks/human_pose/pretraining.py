"""Pretraining on poses as the training loop sees it."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from triform.data.order import steps_per_epoch
from triform.data.poses.poses import Poses
from triform.tasks.human_pose.batch import Batch, denoising_batch, masked_batch, multi_view_batch
from triform.tasks.human_pose.config import Denoising, MaskedAutoencoder, MultiView, PosePretraining
from triform.tasks.human_pose.lifting import select
from triform.training.backend import Facts
from triform.training.task import HistoryRow

if TYPE_CHECKING:
    from torch import Tensor, nn

    from triform.report.panels import Panel
    from triform.training.task import Evaluation, Predict


class PretrainingTask:
    """Batches, model, loss and metrics for one setting."""

    def __init__(self, config: PosePretraining) -> None:
        self.config = config

    def select(self, data: Poses, step: int, *, seed: int, batch_size: int) -> tuple[int, Int64[np.ndarray, " batch"]]:
        """Return epoch and clips of batch number `step`; denoising leaves out clips without 3D until `unlabelled_from_epoch`."""
        objective, epoch = self.config.objective, step // steps_per_epoch(len(data.names), batch_size)
        early = isinstance(objective, Denoising) and epoch < objective.unlabelled_from_epoch
        return select(data, step, seed=seed, batch_size=batch_size, labelled_alone=early)

    def batch(self, data: Poses, indices: Int64[np.ndarray, " batch"], *, seed: int, epoch: int | None) -> Batch:
        """Return the objective's batch, a pure function of the arguments; where `epoch` is None, each clip's own masks and noise."""
        objective, augmentation = self.config.objective, self.config.augmentation
        if isinstance(objective, MaskedAutoencoder):
            return masked_batch(data, indices, augmentation, objective, seed=seed, epoch=epoch)
        if isinstance(objective, MultiView):
            return multi_view_batch(data, indices, augmentation, objective, seed=seed, epoch=epoch)
        return denoising_batch(data, indices, augmentation, objective, seed=seed, epoch=epoch)

    def build_torch(self, facts: Facts, _seed: int) -> "nn.Module":
        """Return a model for clips of `num_frames` frames, initialised from torch's present seed."""
        from triform.tasks.human_pose.model_torch import LiftNet, MaskedAutoencoderNet

        if isinstance(self.config.objective, MaskedAutoencoder):
            return MaskedAutoencoderNet(self.config.encoder, self.config.objective, facts)
        return LiftNet(self.config.encoder, facts)

    def loss_torch(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", dict[str, "Tensor"]]:
        """Return the objective's loss, and its parts by name."""
        from triform.tasks.human_pose.loss_torch import lifting_loss, masked_loss

        if isinstance(self.config.objective, MaskedAutoencoder):
            return masked_loss(model(batch), batch)
        return lifting_loss(self.config.objective.losses, model(batch["joints_2d"]), batch)

    def predict_torch(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
        """Return {"joints_2d": (batch, frame, 17, 2)} of the masked autoencoder, or {"joints_3d": (batch, frame, 17, 3)}."""
        if isinstance(self.config.objective, MaskedAutoencoder):
            return {"joints_2d": model(batch)}
        return {"joints_3d": model(batch["joints_2d"])}

    def rate_factor(self, _name: str) -> float:
        """Return 1: all parameters learn at one rate."""
        return 1.0

    def validate(self, splits: Mapping[str, Poses], predict: "Predict", *, batch_size: int, seed: int) -> dict[str, float]:
        """Return reconstruction and hidden (normalised 2D), or mpjpe (mm), of val. Raises: Diverged: a prediction is not finite."""
        from triform.tasks.human_pose.validation import validation_pretraining

        return validation_pretraining(self, splits["val"], predict, batch_size=batch_size, seed=seed)

    def watch(self, _scalars: Mapping[str, float]) -> None:
        """Nothing but a number that is not finite goes wrong here, and the loop sees that."""

    def evaluate(
        self, splits: Mapping[str, Poses], predict: "Predict", *, batch_size: int, seed: int, say: Callable[[str], None]
    ) -> "Evaluation":
        """Measure a model beside interpolation in time, or the constant pose; see `measuring.evaluate_pretraining`."""
        from triform.tasks.human_pose.measuring import evaluate_pretraining

        return evaluate_pretraining(self, splits, predict, batch_size=batch_size, seed=seed, say=say)

    def panels(self, arrays: Batch, history: Iterable[HistoryRow]) -> tuple["Panel", ...]:
        """What a report shows of a saved evaluation and of the metrics log."""
        from triform.tasks.human_pose.panels import pretraining_panels
        from triform.tasks.human_pose.pretraining_evaluation import PretrainingEvaluation

        return pretraining_panels(PretrainingEvaluation.from_arrays(arrays), history)
