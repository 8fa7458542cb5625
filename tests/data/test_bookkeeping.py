"""The books of a prepared folder: what counts as one, and what its digest is of."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from triform.data.bookkeeping import MANIFEST_NAME, Book, ManifestOf, plain, read_manifest, sha256_of_file
from triform.data.quarantine import Quarantined
from triform.errors import DataError


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    split: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Samples(ManifestOf[Sample]):
    BOOK = Book("samples of a test", 3, "samples_of_it", ("unit", "samples_of_it"))

    unit: str
    samples_of_it: tuple[Sample, ...]


def parse(tree):
    samples = tuple(Sample(one["name"], one["split"], tuple(one["size"])) for one in tree["samples_of_it"])
    return {"unit": tree["unit"], "samples_of_it": samples}


@pytest.fixture
def manifest(tmp_path: Path) -> Samples:
    samples = (Sample("a", "train", (1, 2)), Sample("b", "val", (3, 4)), Sample("c", "train", (5, 6)))
    made = Samples(tmp_path, "", (Quarantined("d", "d.ply", "empty"),), "m", samples).sealed()
    made.write()
    return made


def test_what_is_written_comes_back(manifest) -> None:
    assert read_manifest(Samples, manifest.prepared_dir, parse) == manifest
    tree = json.loads((manifest.prepared_dir / MANIFEST_NAME).read_bytes())
    assert list(tree) == ["format", "digest", "step_version", "unit", "samples_of_it", "quarantined"]
    assert (manifest.num_samples, manifest.count("train"), manifest.count("test")) == (3, 2, 0)
    assert [one.name for one in manifest.of_split("train")] == ["a", "c"]


def test_the_digest_is_of_what_is_written_and_not_of_the_place(manifest, tmp_path: Path) -> None:
    assert replace(manifest, prepared_dir=tmp_path / "elsewhere", quarantined=()).sealed().digest == manifest.digest
    assert replace(manifest, unit="cm").sealed().digest != manifest.digest


@pytest.mark.parametrize("change", [{"step_version": 4}, {"format": "samples of another"}])
def test_another_version_or_kind_is_none(manifest, change: dict[str, object]) -> None:
    path = manifest.prepared_dir / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert read_manifest(Samples, manifest.prepared_dir, parse) is None


@pytest.mark.parametrize("change", [{"unit": "cm"}, {"samples_of_it": None}, {"quarantined": [{}]}, {"digest": 0}])
def test_a_changed_one_is_refused(manifest, change: dict[str, object]) -> None:
    path = manifest.prepared_dir / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match="is not as it was written"):
        read_manifest(Samples, manifest.prepared_dir, parse)


def test_plain_is_what_json_gives_back() -> None:
    value = {"one": Sample("a", "train", (1, 2)), "folder": Path("x/y"), "more": ((1.5, None), [True])}
    assert plain(value) == json.loads(json.dumps(plain(value)))
    assert plain(value)["one"] == {"name": "a", "split": "train", "size": [1, 2]}
    assert plain(value)["folder"] == "x/y"


def test_a_file_that_is_gone_has_no_digest(tmp_path: Path) -> None:
    assert sha256_of_file(tmp_path / "gone") == ""
    (tmp_path / "there").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "there").startswith("ba7816bf")
