"""Small meshes with a subject's own shape, for the tests of the task."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest

from triform.tasks.mesh_identity.embedding_map import pca

_number = count()


@dataclass
class FewMeshes:
    """What the task asks of one split: each subject a random cloud, each of its meshes a little noise on that."""

    split: str = "train"
    num_subjects: int = 4
    meshes_per_subject: int = 3
    num_vertices: int = 24
    seed: int = 0
    noise: float = 0.02
    closed: bool = False
    registered: bool = True
    faces: np.ndarray | None = None
    mirror: np.ndarray | None = None
    scale: float = 2.0
    up_axis: str = "y"
    unit: str = "cm"
    num_classes: int = 4
    coordinates: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        generator, noise = (np.random.default_rng([self.seed, i]) for i in range(2))
        shapes = 2 * generator.standard_normal((self.num_subjects, self.num_vertices, 3))
        self.subjects = np.repeat(np.arange(self.num_subjects), self.meshes_per_subject)
        spread = noise.standard_normal((len(self.subjects), self.num_vertices, 3))
        if self.split != "train":
            spread = spread[::-1]
        self.coordinates = (shapes[self.subjects] + self.noise * spread + 5).astype(np.float32)
        self.subject_names = tuple(f"{'train' if self.closed else self.split}-{i}" for i in range(self.num_subjects))
        self.names = tuple(f"{self.subject_names[s]}/{self.split}-{i}" for i, s in enumerate(self.subjects))
        known = self.closed or self.split == "train"
        self.labels = self.subjects.copy() if known else np.full(len(self.subjects), -1)
        self.digest = f"data set {next(_number)}"
        self.template = None if self.faces is None else self.coordinates[0]
        self.facts = {"num_vertices": self.num_vertices, "num_classes": self.num_classes}

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        coordinates = self.coordinates[indices]
        offsets = coordinates - coordinates.mean(1, keepdims=True)
        return coordinates, offsets / np.linalg.norm(offsets, axis=2, keepdims=True)


@pytest.fixture(scope="session", autouse=True)
def _quick_maps() -> Iterator[None]:
    """UMAP compiles for ten seconds; a test of its own draws it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triform.tasks.mesh_identity.embedding_map.umap", lambda embedding, *, seed: pca(embedding))
        yield


@pytest.fixture(scope="session")
def few_meshes() -> Callable[..., FewMeshes]:
    return FewMeshes


@pytest.fixture(scope="session")
def vertices() -> Callable[..., dict[str, np.ndarray]]:
    """A prediction without a network: the embedding is the mesh's own coordinates, unit length; the logits are noise."""

    def predict(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = batch["coordinates"].reshape(len(batch["coordinates"]), -1)
        embedding = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return {"embedding": embedding.astype(np.float32), "logits": np.sin(50 * embedding[:, :4])}

    return predict
