"""What many tests share: small prepared data sets and commands on the tests' NumPy backend."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from triform.training.process import keep_kernels

keep_kernels()  # commands and tests compile once

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


POSE_EXPERIMENT = """
name: tiny_pose
data: {{kind: pose_npz, data_dir: "{data}", num_frames: 9, clip_stride: 9, virtual_cameras: 2, val_fraction: 0.25, test_fraction: 0.25}}
task:
  kind: pose_lifting
  encoder: {{kind: alternating, depth: 2, width: 16, heads: 2, dropout: 0.1}}
  losses: {{velocity: 1.0}}
  layer_decay: 0.8
  augmentation: {{rotate_up_degrees: 30, scale_range: [0.9, 1.1], speed_range: [0.8, 1.25], noise_std: 0.01, joint_dropout: 0.05}}
training: {{num_epochs: 3, batch_size: 16, learning_rate: 0.005, num_threads: 1, plot_every: 1000, checkpoints: {{every_steps: 5}}}}
"""


PRETRAINING_EXPERIMENT = """
name: tiny_pretraining
data: {{kind: pose_npz, data_dir: "{data}", num_frames: 9, clip_stride: 9, virtual_cameras: 2, val_fraction: 0.25, test_fraction: 0.25}}
task:
  kind: pose_pretraining
  encoder: {{kind: alternating, depth: 2, width: 16, heads: 2, dropout: 0.1}}
  objective: {{kind: masked_autoencoder, frame_mask_ratio: 0.5, masked_joints: 3, decoder_depth: 1}}
training: {{num_epochs: 2, batch_size: 16, learning_rate: 0.005, num_threads: 1, plot_every: 1000, checkpoints: {{every_steps: 5}}}}
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


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """Three people in two takes of each of three actions, 45 frames each."""
    from triform.datasets.synthetic.people import write_people_folder

    folder = tmp_path_factory.mktemp("data") / "people"
    write_people_folder(folder, num_subjects=3, num_takes=2, num_frames=45, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiny_pose_experiment(people, tmp_path_factory) -> Path:
    """An experiment file of few steps: 2D to 3D, with all that is random switched on."""
    path = tmp_path_factory.mktemp("experiment") / "tiny_pose.yaml"
    path.write_text(POSE_EXPERIMENT.format(data=people))
    return path


@pytest.fixture(scope="session")
def tiny_pretraining_experiment(people, tmp_path_factory) -> Path:
    """An experiment file of few steps: the encoder of `tiny_pose_experiment`, pretrained on 2D alone."""
    path = tmp_path_factory.mktemp("experiment") / "tiny_pretraining.yaml"
    path.write_text(PRETRAINING_EXPERIMENT.format(data=people))
    return path


@pytest.fixture(scope="session")
def train_torch() -> Callable[..., dict[str, Any]]:
    """Prepares and trains an experiment file in this process, in PyTorch; with `stop_after` until so many steps are done here."""
    from triform.experiment import load
    from triform.pipeline.prepare import located, prepare
    from triform.pipeline.train import train
    from triform.run.folder import RunFolder

    def run(experiment_file: Path, path: Path, *words: object, stop_after: int | None = None) -> dict[str, Any]:
        experiment, asked = located(load(experiment_file, [str(word) for word in words]).experiment), itertools.count(1)
        prepared = prepare(experiment).prepared_dir
        stop = lambda: "asked" if next(asked) == stop_after else None  # noqa: E731
        return train(experiment, RunFolder(path), prepared_dir=prepared, stop_requested=stop)

    return run


@pytest.fixture(scope="session")
def pretrained_run(tiny_pretraining_experiment, train_torch, tmp_path_factory) -> Path:
    """The folder of a finished run of `tiny_pretraining_experiment`; copy it before changing it."""
    path = tmp_path_factory.mktemp("pretrained") / "run"
    train_torch(tiny_pretraining_experiment, path)
    return path


@pytest.fixture(scope="session")
def lifting_run(tiny_pose_experiment, train_torch, tmp_path_factory) -> Path:
    """The folder of a finished run of `tiny_pose_experiment` from scratch; copy it before changing it."""
    path = tmp_path_factory.mktemp("lifting") / "run"
    train_torch(tiny_pose_experiment, path)
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
