"""The typed tree of a whole run. The unions in this file are the list of what exists."""

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import Field

from triform.datasets.maize_field3d import MaizeField3D
from triform.datasets.ply_clouds import PlyClouds
from triform.settings import settings
from triform.tasks.point_autoencoder.config import PointAutoencoder
from triform.training.config import Training

Data = Annotated[PlyClouds | MaizeField3D, Field(discriminator="kind")]
# A second task makes this a union as above; pydantic refuses a discriminator on a single member.
Task = PointAutoencoder

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


@settings
class Experiment:
    """One whole run: what is learned, from which data, by which training."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the run and of its folder."""
    seed: Annotated[int, Interval(ge=0, le=2**32 - 1)] = 0
    """Key of every random choice: first weights, order, augmentation, dropout."""
    backend: Literal["torch"] = "torch"
    """Framework that trains the model."""
    data: Data
    """Where the samples come from and how they are prepared."""
    task: Task
    """What is learned."""
    training: Training = field(default_factory=Training)
    """How it is learned."""


OPERATIONAL: Mapping[str, str] = MappingProxyType(
    {
        "name": "says where a run lies",
        "data.data_dir": "the prepared data's digest says what lay there",
        "data.prepared_dir": "the prepared data's digest says what lay there",
        "data.max_quarantine_fraction": "lets prepare go on or stops it, changes no cloud",
        "training.checkpoints": "a resumed run is equal bit for bit",
        "training.plot_every": "draws only",
        "training.loader_workers": "batches are the same for any number",
    }
)
"""Fields and blocks that can't change the finished model, each with the reason; `fingerprint` leaves them out."""
