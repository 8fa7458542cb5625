import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from triform.data.meshes import prepare as module
from triform.data.meshes import prepared_files as files
from triform.data.meshes.manifest import load_manifest
from triform.data.meshes.meshes import load_meshes
from triform.data.meshes.prepare import finalize, load_plan, plan, prepare, prepare_batch, prepared_already
from triform.data.split import SPLITS
from triform.errors import CannotWrite, DataError
from triform.geometry.normals import vertex_normals


def content(folder: Path) -> dict[str, object]:
    """All that counts: the manifest, the lists and every array."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in folder.glob("*.json*")}
    for path in folder.glob("*.h5"):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item, at=path.name: found.update({f"{at}:{name}": item[()].tobytes()} if hasattr(item, "shape") else {})
            )
    return found


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("*.h5")}


def test_end_to_end(raw, settings_for) -> None:
    seen: list[tuple[int, int]] = []
    manifest = prepare(settings_for(raw.write()), progress=lambda done, total: seen.append((done, total)))
    assert manifest.prepared_dir == raw.path.with_name("meshes.prepared-20")
    assert seen == [(done, 18) for done in range(1, 19)]
    assert (manifest.num_samples, [manifest.count(split) for split in SPLITS]) == (18, [9, 3, 6])
    assert load_manifest(manifest.prepared_dir) == manifest
    assert sorted(path.name for path in (manifest.prepared_dir / "plan").iterdir() if path.suffix == ".npz") == [
        path.name for path in (manifest.prepared_dir / "plan").glob("template-*.npz")
    ]
    assert not list(manifest.prepared_dir.rglob("*.tmp"))


def test_correspondence_and_normals_of_the_whole_surface(raw, settings_for) -> None:
    manifest = prepare(settings_for(raw.write()))
    kept = plan(settings_for(raw.path)).template.kept
    meshes = load_meshes(manifest.prepared_dir, "train")
    coordinates, normals = meshes.read(range(9))
    for index, name in enumerate(meshes.names):
        whole = raw.arrays["train"][f"{name}/coordinates"]
        np.testing.assert_array_equal(coordinates[index], whole[kept])
        np.testing.assert_allclose(normals[index], vertex_normals(whole, raw.arrays["train"]["faces"])[kept], atol=1e-6)


def test_scale_by_hand(raw, settings_for) -> None:
    manifest = prepare(settings_for(raw.write(), num_vertices=0))
    squares = []
    for name, array in raw.arrays["train"].items():
        if name.endswith("coordinates"):
            squares.append(((array - array.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=1).mean())
    assert manifest.scale == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-6)


def test_a_prepared_folder_is_raw_data_too(raw, settings_for, tmp_path: Path) -> None:
    first = prepare(settings_for(raw.write()))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in [*first.prepared_dir.glob("*_metadata.json"), *first.prepared_dir.glob("*.h5")]:
        shutil.copy(path, copy)
    again = prepare(settings_for(copy, num_vertices=0))
    for split in SPLITS:
        one, other = load_meshes(first.prepared_dir, split), load_meshes(again.prepared_dir, split)
        np.testing.assert_array_equal(one.read(range(3))[0], other.read(range(3))[0])
        np.testing.assert_allclose(one.read(range(3))[1], other.read(range(3))[1], atol=1e-6)
        np.testing.assert_array_equal(one.faces, other.faces)
        np.testing.assert_array_equal(one.mirror, other.mirror)


def test_the_digest_knows_no_paths_and_times(raw, settings_for, tmp_path: Path) -> None:
    first = prepare(settings_for(raw.write()))
    (tmp_path / "list.txt").write_text(" ".join(map(str, [*range(18), 18, 23])))
    raw.path = tmp_path / "elsewhere"
    again = prepare(settings_for(raw.write()), workers=1)
    assert again.digest == first.digest
    assert content(again.prepared_dir) == content(first.prepared_dir)
    assert prepare(settings_for(raw.path, unit="cm", prepared_dir=str(tmp_path / "cm"))).digest != first.digest
    lists = []
    for place in ("a", "b"):
        listed = tmp_path / place / "list.txt"
        listed.parent.mkdir()
        shutil.copy(tmp_path / "list.txt", listed)
        lists.append(prepare(settings_for(raw.path, vertex_indices=str(listed), prepared_dir=str(tmp_path / f"by {place}"))))
    assert lists[0].digest == lists[1].digest != first.digest


def test_nothing_is_written_again_that_is_there(raw, settings_for) -> None:
    manifest = prepare(settings_for(raw.write()))
    before = stamps(manifest.prepared_dir)
    assert prepare(settings_for(raw.path)) == manifest
    assert stamps(manifest.prepared_dir) == before
    raw.arrays["val"]["subject_0003/mesh_000001/coordinates"][3] += 0.5
    raw.write()
    changed = prepare(settings_for(raw.path))
    assert changed.digest != manifest.digest
    fresh = prepare(settings_for(raw.path, prepared_dir=str(raw.path.with_name("fresh"))))
    assert content(fresh.prepared_dir) == content(changed.prepared_dir)


def test_only_what_changed_is_sampled_again(raw, settings_for, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(settings_for(raw.write()))
    raw.arrays["val"]["subject_0003/mesh_000001/coordinates"][3] += 0.5
    raw.write()
    sampled: list[str] = []
    real = module.sample_mesh
    monkeypatch.setattr(module, "sample_mesh", lambda *a, name, **k: (sampled.append(name), real(*a, name=name, **k))[1])
    prepare(settings_for(raw.path))
    assert sampled == ["subject_0003/mesh_000001"]


def test_damage_is_found_and_mended(raw, settings_for) -> None:
    manifest = prepare(settings_for(raw.write()))
    whole = content(manifest.prepared_dir)
    with h5py.File(manifest.prepared_dir / "train_data.h5", "r+") as file:
        file["subject_0001/mesh_000002/normals"][0, 0] += 1
    with pytest.raises(DataError, match=r"subject_0001/mesh_000002 is not what was prepared.*triform prepare"):
        load_meshes(manifest.prepared_dir, "train")
    (manifest.prepared_dir / "test_data.h5").write_bytes(b"torn")
    assert prepare(settings_for(raw.path)) == manifest
    assert content(manifest.prepared_dir) == whole


@pytest.mark.parametrize("crash", ["batch", "gather", "manifest"])
def test_killed_anywhere_the_next_run_ends_the_same(raw, settings_for, monkeypatch: pytest.MonkeyPatch, crash: str) -> None:
    expected = content(prepare(settings_for(raw.write(), prepared_dir=str(raw.path.with_name("whole")))).prepared_dir)
    settings = settings_for(raw.path)
    # An earlier preparation of other meshes lies there.
    whole = raw.arrays["train"]["subject_0000/mesh_000000/coordinates"].copy()
    raw.arrays["train"]["subject_0000/mesh_000000/coordinates"][0] += 1
    prepare(settings_for(raw.write()))
    raw.arrays["train"]["subject_0000/mesh_000000/coordinates"] = whole
    raw.write()
    where, name = {"batch": (module, "batch_bytes"), "gather": (files, "_fsync"), "manifest": (module, "metadata_bytes")}[crash]
    real, calls = getattr(where, name), []

    def die(*given: object) -> object:
        calls.append(given)
        if len(calls) == (2 if crash == "gather" else 1):  # one of three files has its name already
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, die)
        with pytest.raises(KeyboardInterrupt):
            prepare(settings)
    assert content(prepare(settings).prepared_dir) == expected


def test_pieces_in_any_order_and_at_once(raw, settings_for) -> None:
    expected = content(prepare(settings_for(raw.write(), prepared_dir=str(raw.path.with_name("whole")))).prepared_dir)
    made = plan(settings_for(raw.path))
    small = replace(made, batch_size=5)
    tree = json.loads((made.prepared_dir / "plan" / "plan.json").read_text()) | {"batch_size": 5}
    (made.prepared_dir / "plan" / "plan.json").write_text(json.dumps(tree))
    loaded = load_plan(made.prepared_dir)
    assert (loaded.digest, loaded.num_batches) == (small.digest, 4)
    with pytest.raises(DataError, match="Batch 0 of 4 is not prepared"):
        finalize(loaded)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: prepare_batch(loaded, number), [3, 1, 0, 2, 1, 3, 0, 2]))
    barrier = threading.Barrier(2)

    def end(_: int) -> str:
        barrier.wait()
        return finalize(loaded).digest

    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(end, range(2)))) == 1
    assert content(made.prepared_dir) == expected
    assert finalize(load_plan(made.prepared_dir)).digest == load_manifest(made.prepared_dir).digest


def test_whoever_ends_second_finds_all_there(raw, settings_for) -> None:
    made = replace(plan(settings_for(raw.write())), batch_size=5)
    for number in range(made.num_batches):
        prepare_batch(made, number)
    first: list[str] = []

    def another_ends() -> None:
        if not first:
            first.append("")
            first[0] = finalize(made).digest

    assert finalize(made, on_file=another_ends).digest == first[0]
    assert load_manifest(made.prepared_dir).digest == first[0]


def test_prepared_data_is_taken_as_it_is(raw, settings_for) -> None:
    manifest = prepare(settings_for(raw.write()))
    assert prepared_already(settings_for(raw.path)) is None
    assert prepared_already(settings_for(manifest.prepared_dir)) == replace(manifest, prepared_dir=manifest.prepared_dir)
    with pytest.raises(DataError, match=r"num_vertices is 20, not 10; unit is 'm', not 'mm'"):
        prepared_already(settings_for(manifest.prepared_dir, num_vertices=10, unit="mm"))


def test_a_changed_manifest_is_refused(raw, settings_for) -> None:
    manifest = prepare(settings_for(raw.write()))
    path = manifest.prepared_dir / "manifest.json"
    path.write_text(path.read_text().replace('"label": 0', '"label": 7', 1))
    with pytest.raises(DataError, match="not as it was written"):
        load_manifest(manifest.prepared_dir)


def test_other_peoples_folders_are_left_alone(raw, settings_for) -> None:
    raw.write()
    with pytest.raises(CannotWrite, match="holds other files"):
        plan(settings_for(raw.path, prepared_dir=str(raw.path)))


def test_bad_meshes_are_set_aside(raw, settings_for) -> None:
    raw.arrays["train"]["subject_0000/mesh_000000/coordinates"][2, 1] = np.nan  # the template must come from another one
    raw.arrays["test"]["subject_0004/mesh_000001/coordinates"][:] = 1.0
    with pytest.raises(
        DataError, match=r"2 of 18 files can't be used:\n  train_data.h5:subject_0000/mesh_000000: 1 vertices are not finite"
    ):
        prepare(settings_for(raw.write()))
    manifest = prepare(settings_for(raw.path, max_quarantine_fraction=0.2))
    assert [(bad.name, bad.reason) for bad in manifest.quarantined] == [
        ("subject_0000/mesh_000000", "1 vertices are not finite"),
        ("subject_0004/mesh_000001", "all vertices coincide"),
    ]
    assert (manifest.num_samples, len((manifest.prepared_dir / "quarantine.jsonl").read_text().splitlines())) == (16, 2)
    assert "subject_0000/mesh_000000" not in load_meshes(manifest.prepared_dir, "train").names


def test_normals_that_are_not_finite(raw, settings_for) -> None:
    raw.arrays["val"]["subject_0003/mesh_000000/normals"] = np.full((36, 3), np.inf)
    with pytest.raises(DataError, match="36 normals are not finite"):
        prepare(settings_for(raw.write()))


def test_equal_content_in_two_splits(raw, settings_for) -> None:
    raw.arrays["test"]["subject_0005/mesh_000002/coordinates"] = raw.arrays["train"]["subject_0001/mesh_000001/coordinates"].astype(float)
    with pytest.raises(DataError, match=r"subject_0001/mesh_000001 in train and subject_0005/mesh_000002 in test are the same mesh"):
        prepare(settings_for(raw.write()))


def test_what_is_left_must_keep_the_protocol(closed, settings_for) -> None:
    for mesh in range(2):
        closed.arrays["train"][f"subject_0001/mesh_{mesh:06d}/coordinates"][0] = np.nan
    with pytest.raises(DataError, match="train has no mesh of subject_0001"):
        prepare(settings_for(closed.write(), protocol="closed_set", max_quarantine_fraction=0.5))


def test_unregistered_meshes(raw, settings_for) -> None:
    manifest = prepare(settings_for(raw.write(), registered=False))
    assert manifest.prepared_dir.name == "meshes.prepared-20-unregistered"
    meshes = load_meshes(manifest.prepared_dir, "train")
    assert (meshes.registered, meshes.faces, meshes.mirror) == (False, None, None)
    coordinates, normals = meshes.read([0, 1])
    chosen = []
    for index in range(2):
        whole = raw.arrays["train"][f"{meshes.names[index]}/coordinates"]
        places = [int(np.flatnonzero((whole == vertex).all(axis=1))[0]) for vertex in coordinates[index]]
        assert len(set(places)) == 20
        np.testing.assert_allclose(normals[index], vertex_normals(whole, raw.arrays["train"]["faces"])[places], atol=1e-6)
        chosen.append(places)
    assert sorted(chosen[0]) != chosen[0]
    assert chosen[0] != chosen[1]
    assert content(prepare(settings_for(raw.path, registered=False, prepared_dir=str(raw.path.with_name("b")))).prepared_dir) == content(
        manifest.prepared_dir
    )
    other = prepare(settings_for(raw.path, registered=False, split_seed=1, prepared_dir=str(raw.path.with_name("c"))))
    assert not np.array_equal(load_meshes(other.prepared_dir, "train").read([0])[0], coordinates[:1])


def test_scans_of_many_sizes(raw, settings_for) -> None:
    del raw.arrays["train"]["faces"]
    name = "subject_0001/mesh_000001/coordinates"
    raw.arrays["train"][name] = raw.arrays["train"][name][:25]
    with pytest.raises(DataError, match=r"subject_0001/mesh_000001 has 25 vertices, subject_0000/mesh_000000 has 36"):
        prepare(settings_for(raw.write()))
    assert prepare(settings_for(raw.path, registered=False)).num_samples == 18
    with pytest.raises(DataError, match="25 vertices, fewer than num_vertices 30"):
        prepare(settings_for(raw.path, registered=False, num_vertices=30))


def test_a_small_first_scan_is_one_bad_scan(raw, settings_for) -> None:
    del raw.arrays["train"]["faces"]
    name = "subject_0000/mesh_000000/coordinates"
    raw.arrays["train"][name] = raw.arrays["train"][name][:10]
    manifest = prepare(settings_for(raw.write(), registered=False, max_quarantine_fraction=0.1))
    assert [(bad.name, bad.reason) for bad in manifest.quarantined] == [
        ("subject_0000/mesh_000000", "10 vertices, fewer than num_vertices 20")
    ]


def test_slashes_in_names(raw, settings_for, tmp_path: Path) -> None:
    for sample in raw.samples["train"][:3]:
        name = f"{sample['subject_id']}/{sample['mesh_id']}/coordinates"
        sample |= {"subject_id": "Grüße/人", "mesh_id": f"a/{sample['mesh_id']}"}
        raw.arrays["train"][f"{sample['subject_id']}/{sample['mesh_id']}/coordinates"] = raw.arrays["train"].pop(name)
    first = prepare(settings_for(raw.write()))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in [*first.prepared_dir.glob("*_metadata.json"), *first.prepared_dir.glob("*.h5")]:
        shutil.copy(path, copy)
    again = prepare(settings_for(copy, num_vertices=0))
    assert [(mesh.name, mesh.subject) for mesh in again.meshes] == [(mesh.name, mesh.subject) for mesh in first.meshes]


def test_triangles_of_fractions(raw, settings_for) -> None:
    raw.arrays["train"]["subject_0000/mesh_000001/faces"] = np.zeros((4, 3), np.float32)
    with pytest.raises(DataError, match="mesh_000001: faces are no triangles of 36 vertices"):
        prepare(settings_for(raw.write()))


def test_back_to_other_settings_after_a_kill_before_the_manifest(raw, settings_for, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(raw.path.with_name("one folder"))
    for arrays in raw.arrays.values():  # what all share would tell the files apart
        del arrays["faces"], arrays["mirror"]
    expected = content(prepare(settings_for(raw.write(), prepared_dir=folder)).prepared_dir)

    def killed(prepared_dir: Path, *rest: object) -> None:
        files.write_data_files(prepared_dir, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_data_files", killed)
        prepare(settings_for(raw.path, prepared_dir=folder, num_vertices=12))
    with pytest.raises(DataError, match="triform prepare"):
        load_meshes(folder, "train")
    assert content(prepare(settings_for(raw.path, prepared_dir=folder)).prepared_dir) == expected


def test_a_list_of_vertices(raw, settings_for, tmp_path: Path) -> None:
    kept = [7, 3, 30, 11]
    for split in SPLITS:
        del raw.arrays[split]["mirror"]
    np.save(tmp_path / "kept.npy", np.array(kept))
    manifest = prepare(settings_for(raw.write(), num_vertices=0, vertex_indices=str(tmp_path / "kept.npy")))
    whole = raw.arrays["train"]["subject_0000/mesh_000000/coordinates"]
    np.testing.assert_array_equal(load_meshes(manifest.prepared_dir, "train").read([0])[0][0], whole[kept])
    for wrong, text in [({"num_vertices": 5}, "4 numbers up to 30"), ({"registered": False}, "registered")]:
        with pytest.raises(DataError, match=text):
            plan(settings_for(raw.path, vertex_indices=str(tmp_path / "kept.npy"), **({"num_vertices": 0} | wrong)))


def test_more_vertices_than_there_are(raw, settings_for) -> None:
    with pytest.raises(DataError, match=r"36 vertices, fewer than num_vertices 37.*36 or less"):
        plan(settings_for(raw.write(), num_vertices=37))


def test_killed_by_a_signal_it_goes_on(raw, settings_for) -> None:
    expected = content(prepare(settings_for(raw.write(), prepared_dir=str(raw.path.with_name("whole")))).prepared_dir)
    code = (
        "import os, signal, sys\n"
        "from triform.data.meshes import prepare\n"
        "from triform.data.meshes.config import MeshSettings\n"
        "done = lambda done, total: done == 7 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare.prepare(MeshSettings(data_dir=sys.argv[1], num_vertices=20), progress=done)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(raw.path)], check=False).returncode == -9
    assert content(prepare(settings_for(raw.path)).prepared_dir) == expected
