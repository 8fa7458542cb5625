"""The shares of a profile."""

from triform.backends.torch_profile import _parts
from triform.experiment import load
from triform.pipeline.build import build_backend
from triform.pipeline.prepare import load_splits, located, prepare


def test_parts_are_shares_of_the_time_without_the_profiler(tiny_mesh_experiment):
    """The profiler slows a step down many times; what it times counts only by its share."""
    experiment = located(load(tiny_mesh_experiment).experiment)
    data = load_splits(experiment, prepare(experiment).prepared_dir, ("train",))["train"]
    backend, _ = build_backend(experiment, data.facts, num_threads=1)
    task = experiment.task.build()
    epoch, indices = task.select(data, 0, seed=0, batch_size=8)
    found = _parts(backend, task.batch(data, indices, seed=0, epoch=epoch), 1e-6)
    assert {name for name, share in found.items() if share > 0} == {"knn", "edge_conv", "point", "head", "loss"}
    assert 1e-7 < sum(found.values()) <= 1.001e-6
