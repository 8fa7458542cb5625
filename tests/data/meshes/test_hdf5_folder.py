import numpy as np
import pytest

from triform.data.meshes.hdf5_folder import list_hdf5_meshes, open_hdf5_meshes
from triform.data.meshes.plan import plan
from triform.errors import DataError


def test_what_is_listed(raw) -> None:
    listed = list_hdf5_meshes(raw.write())
    assert len(listed.meshes) == 18
    first = listed.meshes[0]
    assert (first.name, first.subject, first.label, first.split) == ("subject_0000/mesh_000000", "subject_0000", 0, "train")
    with open_hdf5_meshes(raw.path) as read:
        arrays = read(first)
    np.testing.assert_array_equal(arrays.coordinates, raw.arrays["train"]["subject_0000/mesh_000000/coordinates"])
    assert arrays.normals is None
    assert arrays.faces.shape == (50, 3)


def test_numbers_as_ids_and_both_precisions(raw) -> None:
    for sample in raw.samples["train"]:
        sample["subject_id"], sample["mesh_id"] = int(sample["subject_id"][-4:]), int(sample["mesh_id"][-6:])
    raw.arrays["val"] = {name: array.astype(float) if "coord" in name else array for name, array in raw.arrays["val"].items()}
    assert len(list_hdf5_meshes(raw.write()).meshes) == 18


def broken(change):
    """Name a change of the raw folder after its function."""
    return pytest.param(change, id=change.__name__)


def not_there(raw):
    del raw.arrays["test"]["subject_0004/mesh_000001/coordinates"]
    return r"test_data.h5 has no subject_0004/mesh_000001, which test_metadata.json lists"


def no_coordinates(raw):
    raw.arrays["test"]["subject_0004/mesh_000001/normals"] = raw.arrays["test"].pop("subject_0004/mesh_000001/coordinates")
    return "has no subject_0004/mesh_000001/coordinates"


def another_shape(raw):
    raw.arrays["test"]["subject_0004/mesh_000001/coordinates"] = np.zeros((35, 3))
    return "subject_0004/mesh_000001 has 35 vertices, subject_0000/mesh_000000 has 36"


def flat(raw):
    raw.arrays["val"]["subject_0003/mesh_000001/coordinates"] = np.zeros((36, 2))
    return r"is float64 \(36, 2\)"


def whole_numbers(raw):
    raw.arrays["val"]["subject_0003/mesh_000001/coordinates"] = np.zeros((36, 3), int)
    return r"is int64 \(36, 3\).*float32 or float64"


def normals_of_another_shape(raw):
    raw.arrays["train"]["subject_0000/mesh_000000/normals"] = np.zeros((30, 3))
    return r"coordinates \(36, 3\) and normals float64 \(30, 3\)"


def two_labels(raw):
    raw.samples["train"][1]["label"] = 9
    return "subject_0000 has the label 0 .* and 9"


def two_subjects_one_label(raw):
    for sample in raw.samples["test"][:3]:
        sample["label"] = 1
    return r"The label 1 belongs to subject_0001 \(train\) and to subject_0004 \(test\)"


def listed_twice(raw):
    raw.samples["train"].append(raw.samples["train"][0])
    return "subject_0000/mesh_000000 is listed twice in train"


def in_two_splits(raw):
    raw.add("val", 0, 0)
    return "subject_0000/mesh_000000 is listed in train and in val"


def no_label(raw):
    del raw.samples["train"][0]["label"]
    return "train_metadata.json has the sample"


def none_listed(raw):
    raw.samples["val"] = []
    return "lists no samples"


@pytest.mark.parametrize(
    "change",
    [
        broken(change)
        for change in (
            not_there, no_coordinates, another_shape, flat, whole_numbers, normals_of_another_shape, two_labels,
            two_subjects_one_label, listed_twice, in_two_splits, no_label, none_listed,
        )
    ],
)  # fmt: skip
def test_each_contradiction_is_named(raw, change) -> None:
    text = change(raw)
    with pytest.raises(DataError, match=text):
        list_hdf5_meshes(raw.write())


@pytest.mark.parametrize("name", ["val_metadata.json", "val_data.h5"])
def test_a_missing_or_torn_file(raw, name: str) -> None:
    path = raw.write() / name
    path.write_bytes(b"{torn")
    with pytest.raises(DataError, match=name):
        list_hdf5_meshes(raw.path)
    path.unlink()
    with pytest.raises(DataError, match=f"{name} does not exist"):
        list_hdf5_meshes(raw.path)


def test_shared_subjects_are_refused_in_an_open_set(closed, settings_for) -> None:
    with pytest.raises(DataError, match=r"train and val share subject_0000, subject_0001, subject_0002.*closed_set"):
        plan(settings_for(closed.write()))
    assert plan(settings_for(closed.path, protocol="closed_set")).num_batches == 1


def test_unknown_subjects_are_refused_in_a_closed_set(raw, settings_for) -> None:
    with pytest.raises(DataError, match=r"train has no mesh of subject_0003, which val has.*open_set"):
        plan(settings_for(raw.write(), protocol="closed_set"))


@pytest.mark.parametrize(
    ("mirror", "named"),
    [(np.zeros(36, int), "36 numbers"), (np.arange(5), "5 numbers"), (np.ones(36), "float64"), (np.array(3), "1 numbers")],
)
def test_a_mirror_that_is_none(raw, settings_for, mirror, named: str) -> None:
    with pytest.raises(DataError, match=named):
        plan(settings_for(raw.shared(mirror=mirror).write()))


def test_things_of_another_kind_under_the_names_of_arrays(raw, settings_for) -> None:
    raw.arrays["train"]["subject_0000/mesh_000000/coordinates/inside"] = raw.arrays["train"].pop("subject_0000/mesh_000000/coordinates")
    with pytest.raises(DataError, match="has no subject_0000/mesh_000000/coordinates"):
        plan(settings_for(raw.write()))
    raw.arrays["train"]["subject_0000/mesh_000000"] = raw.arrays["train"].pop("subject_0000/mesh_000000/coordinates/inside")
    with pytest.raises(DataError, match="has no subject_0000/mesh_000000/coordinates"):
        plan(settings_for(raw.write()))
    raw.arrays["train"]["subject_0000/mesh_000000/coordinates"] = raw.arrays["train"].pop("subject_0000/mesh_000000")
    raw.arrays["train"]["subject_0000/mesh_000000/normals/inside"] = np.zeros(3)
    raw.arrays["train"]["subject_0000/mesh_000000/faces/inside"] = np.zeros(3)
    with open_hdf5_meshes(raw.write()) as read:
        arrays = read(list_hdf5_meshes(raw.path).meshes[0])
    assert arrays.normals is None
    assert arrays.faces.shape == (50, 3)


@pytest.mark.parametrize("shared", ["faces", "mirror"])
def test_a_subject_called_as_what_all_share(raw, settings_for, shared: str) -> None:
    del raw.arrays["train"][shared]
    for sample in raw.samples["train"][:3]:
        name = f"{sample['subject_id']}/{sample['mesh_id']}/coordinates"
        sample["subject_id"] = shared
        raw.arrays["train"][f"{shared}/{sample['mesh_id']}/coordinates"] = raw.arrays["train"].pop(name)
    with pytest.raises(DataError, match=f'"{shared}" a subject.*rename'):
        plan(settings_for(raw.write()))


@pytest.mark.parametrize("id_", ["subject_id", "mesh_id"])
def test_a_name_that_no_file_can_hold(raw, id_: str) -> None:
    raw.samples["train"][0][id_] = "broken \ud800"
    with pytest.raises(DataError, match=r"train_metadata.json names .*broken \\ud800"):
        list_hdf5_meshes(raw.write())


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_open_set_in_which_none_can_be_recognised(raw, settings_for, split: str) -> None:
    subjects = {sample["subject_id"]: sample for sample in raw.samples[split]}
    raw.samples[split] = list(subjects.values())
    with pytest.raises(DataError, match=f"No subject in {split} has two meshes"):
        plan(settings_for(raw.write()))
