"""The typed tree of a whole run. The unions in this file are the list of what exists."""

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import Field

from triform.datasets.cmu_bvh import CmuBvh
from triform.datasets.h36m_motionbert import H36mMotionBert
from triform.datasets.h36m_videopose3d import H36mVideoPose3D
from triform.datasets.maize_field3d import MaizeField3D
from triform.datasets.mesh_files import MeshFiles
from triform.datasets.mesh_hdf5 import MeshHdf5
from triform.datasets.mpi_inf_3dhp import MpiInf3dhp
from triform.datasets.mpi_inf_3dhp_npz import MpiInf3dhpNpz
from triform.datasets.ply_clouds import PlyClouds
from triform.datasets.pose_npz import PoseNpz
from triform.settings import settings
from triform.tasks.human_pose.config import PoseLifting, PosePretraining
from triform.tasks.mesh_identity.config import MeshIdentity
from triform.tasks.point_autoencoder.config import PointAutoencoder
from triform.training.config import Training

Clouds = PlyClouds | MaizeField3D
Meshes = MeshHdf5 | MeshFiles
Poses = PoseNpz | CmuBvh | H36mVideoPose3D | H36mMotionBert | MpiInf3dhp | MpiInf3dhpNpz
Data = Annotated[Clouds | Meshes | Poses, Field(discriminator="kind")]
Task = Annotated[PointAutoencoder | MeshIdentity | PosePretraining | PoseLifting, Field(discriminator="kind")]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


@settings
class Experiment:
    """One whole run: what is learned, from which data, by which training."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the run and of its folder."""
    seed: Annotated[int, Interval(ge=0, le=2**32 - 1)] = 0
    """Key of every random choice: first weights, order, augmentation, dropout."""
    backend: Literal["auto", "torch", "mlx"] = "auto"
    """Framework that trains the model (auto: MLX on Apple silicon for tasks that have it, else PyTorch)."""
    init_from: str = ""
    """A finished run, or a model file of one, whose weights this run starts with as far as they fit (empty: none)."""
    data: Data
    """Where the samples come from and how they are prepared."""
    task: Task
    """What is learned."""
    training: Training = field(default_factory=Training)
    """How it is learned."""


OPERATIONAL: Mapping[str, str] = MappingProxyType(
    {
        "name": "says where a run lies",
        "backend": "a run may go on in another framework; its history says from which step",
        "init_from": "the run keeps the digest of the weights it started with",
        "data.cache_data": "the meshes are the same from memory and from the file",
        "data.data_dir": "the prepared data's digest says what lay there",
        "data.prepared_dir": "the prepared data's digest says what lay there",
        "data.max_quarantine_fraction": "lets prepare go on or stops it, changes no sample",
        "data.mirror_indices": "the prepared data's digest says what they were",
        "data.vertex_indices": "the prepared data's digest says what they were",
        "training.checkpoints": "a resumed run is equal bit for bit",
        "training.mlx_cache_limit_mb": "memory only",
        "training.mlx_memory_limit_mb": "memory only",
        "training.plot_every": "draws only",
        "training.loader_workers": "batches are the same for any number",
    }
)
"""Fields and blocks that can't change the finished model, each with the reason; `fingerprint` leaves them out."""
