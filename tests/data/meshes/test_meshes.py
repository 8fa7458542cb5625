import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from triform.data.meshes.meshes import load_meshes
from triform.data.meshes.prepare import prepare
from triform.errors import DataError


def test_names_subjects_and_labels(raw, settings_for) -> None:
    for sample in raw.samples["train"]:  # the data's own numbers don't decide the classes
        sample["label"] = 40 - sample["label"]
    folder = prepare(settings_for(raw.write())).prepared_dir
    train, test = load_meshes(folder, "train"), load_meshes(folder, "test")
    assert train.names[:2] == ("subject_0000/mesh_000000", "subject_0000/mesh_000001")
    np.testing.assert_array_equal(train.labels, np.repeat([0, 1, 2], 3))
    np.testing.assert_array_equal(train.subjects, np.repeat([0, 1, 2], 3))
    np.testing.assert_array_equal(test.labels, np.full(6, -1))
    np.testing.assert_array_equal(test.subjects, np.repeat([0, 1], 3))
    assert test.subject_names == ("subject_0004", "subject_0005")
    assert train.facts == test.facts == {"num_vertices": 20, "num_classes": 3}
    assert (train.up_axis, train.unit, train.registered, train.digest) == ("y", "m", True, test.digest)


def test_labels_of_a_closed_set(closed, settings_for) -> None:
    folder = prepare(settings_for(closed.write(), protocol="closed_set")).prepared_dir
    np.testing.assert_array_equal(load_meshes(folder, "val").labels, [0, 1, 2])


def test_the_cache_gives_the_same(raw, settings_for) -> None:
    folder = prepare(settings_for(raw.write())).prepared_dir
    plain, cached = load_meshes(folder, "train"), load_meshes(folder, "train", cache=True)
    chosen = [5, 0, 5]
    for one, other in zip(plain.read(chosen), cached.read(chosen), strict=True):
        assert (one.shape, one.dtype) == ((3, 20, 3), np.float32)
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(np.linalg.norm(plain.read(chosen)[1], axis=-1), 1, atol=1e-6)
    (folder / "train_data.h5").unlink()
    cached.read(chosen)[0][:] = 0  # a copy
    assert cached.read(chosen)[0].any()


def test_threads_read_through_handles_of_their_own(raw, settings_for) -> None:
    meshes = load_meshes(prepare(settings_for(raw.write())).prepared_dir, "train")
    expected = meshes.read(range(9))[0]
    barrier, handles = threading.Barrier(3), set()

    def read(seed: int) -> bool:
        barrier.wait()
        order = np.random.default_rng(seed).permutation(9)
        same = all(np.array_equal(meshes.read(order)[0], expected[order]) for _ in range(10))
        handles.add(id(meshes._local.handle))
        barrier.wait()
        return same

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(read, range(3)))
    assert len(handles) == 3


def test_faces_and_mirror_go_along(raw, settings_for) -> None:
    meshes = load_meshes(prepare(settings_for(raw.write())).prepared_dir, "train")
    assert meshes.faces.max() < 20
    assert len(meshes.faces) > 10
    np.testing.assert_array_equal(meshes.mirror[meshes.mirror], np.arange(20))
    middle = meshes.read([0])[0][0]
    image = middle[meshes.mirror]
    assert np.abs((middle + image)[:, 0] / 2 - 5).max() < 0.05
    assert np.abs((middle - image)[:, 1]).max() < 0.1


def test_what_is_not_prepared(raw, settings_for) -> None:
    with pytest.raises(DataError, match="triform prepare"):
        load_meshes(raw.write(), "train")
    folder = prepare(settings_for(raw.path)).prepared_dir
    (folder / "val_data.h5").unlink()
    with pytest.raises(DataError, match=r"val_data.h5 does not exist"):
        load_meshes(folder, "val")


def test_files_that_another_preparation_replaced(raw, settings_for) -> None:
    settings = {"registered": False, "prepared_dir": str(raw.path.with_name("shared"))}
    folder = prepare(settings_for(raw.write(), **settings)).prepared_dir
    meshes, open_already = load_meshes(folder, "val"), load_meshes(folder, "val")
    expected = open_already.read([0])[0]
    prepare(settings_for(raw.path, split_seed=1, **settings))
    np.testing.assert_array_equal(open_already.read([0])[0], expected)
    with pytest.raises(DataError, match="replaced while it was in use"):
        meshes.read([0])


def test_all_splits_know_the_first_training_mesh_where_there_are_faces(raw, settings_for) -> None:
    folder = prepare(settings_for(raw.write())).prepared_dir
    first = load_meshes(folder, "train").read([0])[0][0]
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(load_meshes(folder, split).template, first)
    for arrays in raw.arrays.values():
        del arrays["faces"]
    assert load_meshes(prepare(settings_for(raw.write())).prepared_dir, "val").template is None
