"""What many tests share: a small prepared data set and commands on the tests' NumPy backend."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TINY_COMMAND = Path(__file__).parent / "tiny" / "command.py"
EXPERIMENT = """
name: tiny
data: {{kind: ply_clouds, num_points: 48, data_dir: "{data}", val_fraction: 0.2, test_fraction: 0.2}}
task:
  kind: point_autoencoder
  latent_dim: 3
  encoder: {{kind: pointnet2_ssg, levels: [{{num_centers: 12, radius: 0.4, num_neighbors: 4, widths: [4, 8]}}], global_widths: [8]}}
  decoder: {{kind: mlp, widths: [16]}}
training: {{num_epochs: 8, batch_size: 2, num_threads: 1, plot_every: 1000, checkpoints: {{every_steps: 5}}}}
"""


MESH_EXPERIMENT = """
name: tiny_mesh
data: {{kind: mesh_files, num_vertices: 48, data_dir: "{data}", val_fraction: 0.25, test_fraction: 0.25}}
task:
  kind: mesh_identity
  k: 5
  layers: [{{width: 8, graph: spatial}}, {{width: 8, graph: dynamic, keep_vertices: 24}}]
  point_width: 16
  hidden_widths: [16]
  embedding_dim: 8
  dropout: 0.1
  triplets: {{meshes_per_subject: 2}}
  augmentation: {{jitter_std: 0.002, vertex_dropout: 0.05, edge_dropout: 0.1}}
training: {{num_epochs: 6, batch_size: 8, learning_rate: 0.01, num_threads: 1, plot_every: 1000, checkpoints: {{every_steps: 5}}}}
"""


@pytest.fixture(autouse=True)
def _own_state(monkeypatch):
    """No test touches the user's server, or hears of a cluster."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def plants(tmp_path_factory) -> Path:
    """Twelve small plants as .ply files, prepared beside."""
    from triform.datasets.synthetic.maize import write_maize_folder

    folder = tmp_path_factory.mktemp("data") / "plants"
    write_maize_folder(folder, num_plants=12, num_points=200, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiny_experiment(plants, tmp_path_factory) -> Path:
    """An experiment file of 28 steps."""
    path = tmp_path_factory.mktemp("experiment") / "tiny.yaml"
    path.write_text(EXPERIMENT.format(data=plants))
    return path


@pytest.fixture(scope="session")
def bodies(tmp_path_factory) -> Path:
    """Eight small registered bodies in five poses each."""
    from triform.datasets.synthetic.bodies import write_body_folder

    folder = tmp_path_factory.mktemp("data") / "bodies"
    write_body_folder(folder, num_subjects=8, num_meshes=5, seed=1, cell_m=0.045)
    return folder


@pytest.fixture(scope="session")
def tiny_mesh_experiment(bodies, tmp_path_factory) -> Path:
    """An experiment file of 30 steps: who is it."""
    path = tmp_path_factory.mktemp("experiment") / "tiny_mesh.yaml"
    path.write_text(MESH_EXPERIMENT.format(data=bodies))
    return path


@dataclass
class Tiny:
    """Runs `triform` commands with the NumPy backend, each in a process of its own."""

    server: subprocess.Popen[str]
    log: Path

    def __call__(self, *argv: object, **env: object) -> int:
        """The exit code; negative: the signal that ended it."""
        command = {"argv": [str(word) for word in argv], "env": {name: str(value) for name, value in env.items()}, "log": str(self.log)}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(command) + "\n")
        self.server.stdin.flush()
        return int(json.loads(self.server.stdout.readline()))

    @property
    def output(self) -> str:
        """All that the commands printed so far."""
        return self.log.read_text()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Iterator[Tiny]:
    log = tmp_path_factory.mktemp("log") / "output.txt"
    log.touch()
    with subprocess.Popen([sys.executable, str(TINY_COMMAND), "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield Tiny(server, log)
        server.stdin.close()
