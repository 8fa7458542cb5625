"""Predicts all meshes of a split, as they are or turned, and says what picks the best model."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from triform.data.meshes.meshes import Meshes
from triform.errors import DataError, Diverged
from triform.tasks.mesh_identity.batch import STILL, make_batch
from triform.tasks.mesh_identity.config import MeshAugmentation, MeshIdentity
from triform.tasks.mesh_identity.metrics import cross_entropy, distances, identification, pairs, verification
from triform.training.task import Predict

AS_THEY_ARE = "as they are"
EPOCH = 2**62
"""Keys the rotations of an evaluation: no training comes to this epoch."""


def poses(config: MeshIdentity, *, up_axis: str) -> tuple[dict[str, MeshIdentity], str]:
    """Return the poses in which meshes are measured, each as the settings that make it, and which one counts.

    As they are, and turned as training turns them; where it does not, by any angle about the up axis. What training promises to see
    through is what counts.
    """
    wanted = config.augmentation
    axis: Literal["up", "any"] = "any" if wanted.rotate == "any" else "up"
    degrees = wanted.rotate_degrees if wanted.rotate != "none" else 180.0
    about = "a random axis" if axis == "any" else up_axis
    turned = f"turned about {about}" + ("" if degrees == 180 else f" by up to {degrees:g} degrees")
    settings = {AS_THEY_ARE: STILL, turned: MeshAugmentation(rotate=axis, rotate_degrees=degrees)}
    found = {name: replace(config, augmentation=augmentation) for name, augmentation in settings.items()}
    return found, AS_THEY_ARE if wanted.rotate == "none" else turned


def is_closed(data: Meshes) -> bool:
    """Whether all of its subjects are training subjects."""
    return bool((data.labels >= 0).all())


def predict_all(config: MeshIdentity, data: Meshes, predict: Predict, *, batch_size: int, seed: int) -> dict[str, NDArray[Any]]:
    """Return the prediction of every mesh, in a pose of `poses`.

    Raises: Diverged: a prediction is not finite. DataError: there is no mesh.
    """
    if not data.names:
        raise DataError("There is no mesh to measure a model on", expected="meshes in val", do="prepare data with a val split")
    parts = []
    for first in range(0, len(data.names), batch_size):
        indices = np.arange(first, min(first + batch_size, len(data.names)))
        parts.append(predict(make_batch(config, data, indices, seed=seed, epoch=EPOCH)))
    found = {name: np.concatenate([part[name] for part in parts]) for name in ("embedding", "logits")}
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise Diverged(
                f"The model's {name} of a mesh is not finite", expected="finite numbers", do="lower --learning-rate or set --gradient-clip"
            )
    return found


def validation_metrics(config: MeshIdentity, data: Meshes, predict: Predict, *, batch_size: int, seed: int) -> dict[str, float]:
    """Return what picks the best model, in the pose that counts: rank_1 and eer, or accuracy and classification_loss; and the mean
    distances of genuine and impostor pairs. A number that has no pairs is left out.

    Raises: Diverged: a prediction is not finite. DataError: no mesh, or no subject with two.
    """
    settings, pose = poses(config, up_axis=data.up_axis)
    predicted = predict_all(settings[pose], data, predict, batch_size=batch_size, seed=seed)
    matrix = distances(predicted["embedding"], predicted["embedding"])
    found: dict[str, float] = {}
    if is_closed(data):
        right = predicted["logits"].argmax(1) == data.labels
        found = {"accuracy": float(right.mean()), "classification_loss": cross_entropy(predicted["logits"], data.labels)}
    else:
        found["rank_1"] = identification(matrix, data.subjects, seed=seed, draws=config.gallery_draws)["rank_1"].mean
        verified = verification(matrix, data.subjects, seed=seed, draws=0)["eer"]
        found |= {} if verified is None else {"eer": verified.mean}
    kinds = zip(("genuine_distance", "impostor_distance"), pairs(matrix, data.subjects), strict=True)
    return found | {name: float(values.mean()) for name, values in kinds if len(values)}
