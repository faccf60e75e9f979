"""Versions on disk: whole or not at all, verified to the byte, never overwritten."""

from pathlib import Path

import pytest

from apprentice.training import versions
from apprentice.training.versions import (
    MANIFEST,
    VersionError,
    check_manifest,
    discard,
    list_versions,
    parse_version,
    remove_version,
    version_folder,
    write_version,
)


def write(folder: Path, version="tickets@v1", fill=None) -> str:
    def default(inside: Path) -> None:
        (inside / "weights.bin").write_bytes(b"0123456789")
        (inside / "card.json").write_text("{}")

    return write_version(
        folder,
        fill or default,
        version=version,
        base="embedded",
        parent=None,
        dataset="d" * 64,
        calibration="c" * 64,
        settings={"seed": 1},
        metrics={"agreement": 0.9},
        created="2026-01-01T00:00:00+00:00",
    )


def test_what_is_written_is_what_is_checked(tmp_path):
    folder = version_folder(tmp_path, "tickets@v1")
    digest = write(folder)
    manifest = check_manifest(folder, digest)
    assert folder == tmp_path / "tickets" / "v1"
    assert manifest.version == "tickets@v1"
    assert manifest.metrics == {"agreement": 0.9}
    assert manifest.files["weights.bin"].size_bytes == 10
    assert set(manifest.files) == {"weights.bin", "card.json"}


def test_files_in_subfolders_are_covered(tmp_path):
    def fill(inside: Path) -> None:
        (inside / "deep").mkdir()
        (inside / "deep" / "a.bin").write_bytes(b"a")

    write(tmp_path / "v1", fill=fill)
    (tmp_path / "v1" / "deep" / "a.bin").write_bytes(b"b")
    with pytest.raises(VersionError, match=r"deep/a\.bin has another sha256"):
        check_manifest(tmp_path / "v1")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "weights.bin").write_bytes(b"0123456780"), "weights.bin has another sha256"),
        (lambda folder: (folder / "weights.bin").write_bytes(b"0"), "weights.bin has 1 bytes instead of 10"),
        (lambda folder: (folder / "weights.bin").unlink(), "weights.bin is missing"),
        (lambda folder: (folder / "extra.py").write_text("x"), "extra.py does not stand in the manifest"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "is not a manifest"),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest.json cannot be read"),
    ],
)
def test_damage_is_named(tmp_path, damage, named):
    write(tmp_path / "v1")
    damage(tmp_path / "v1")
    with pytest.raises(VersionError, match=named):
        check_manifest(tmp_path / "v1")


def test_a_rewritten_manifest_is_caught_by_the_digest_in_the_log(tmp_path):
    digest = write(tmp_path / "v1")
    path = tmp_path / "v1" / MANIFEST
    path.write_text(path.read_text().replace("0.9", "1.0"))
    assert check_manifest(tmp_path / "v1").metrics == {"agreement": 1.0}
    with pytest.raises(VersionError, match="altered after training"):
        check_manifest(tmp_path / "v1", digest)


def test_a_name_is_never_written_twice(tmp_path):
    digest = write(tmp_path / "v1")
    with pytest.raises(VersionError, match="never written twice"):
        write(tmp_path / "v1")
    check_manifest(tmp_path / "v1", digest)


def test_a_failure_while_writing_leaves_nothing(tmp_path):
    def fill(inside: Path) -> None:
        (inside / "weights.bin").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "v1", fill=fill)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_folder_of_a_killed_process_is_no_version_and_no_obstacle(tmp_path):
    partial = tmp_path / "tickets" / ".v1.partial"
    partial.mkdir(parents=True)
    (partial / "rubbish").write_text("x")
    assert list_versions(tmp_path, "tickets") == []
    write(version_folder(tmp_path, "tickets@v1"))
    assert set(check_manifest(tmp_path / "tickets" / "v1").files) == {"weights.bin", "card.json"}
    assert not partial.exists()


def test_every_file_is_flushed_before_the_folder_appears(tmp_path, monkeypatch):
    flushed: list[tuple[str, bool]] = []
    monkeypatch.setattr(versions, "_flush", lambda path: flushed.append((path.name, (tmp_path / "v1").exists())))
    write(tmp_path / "v1")
    before = {name for name, appeared in flushed if not appeared}
    assert before == {"weights.bin", "card.json", MANIFEST, ".v1.partial"}
    assert flushed[-1] == (tmp_path.name, True)


def test_versions_are_listed_by_number_and_removed(tmp_path):
    for number in (10, 2, 1):
        write(version_folder(tmp_path, f"tickets@v{number}"), f"tickets@v{number}")
    (tmp_path / "tickets" / "notes").mkdir()
    assert list_versions(tmp_path, "tickets") == ["tickets@v1", "tickets@v2", "tickets@v10"]
    assert remove_version(tmp_path, "tickets@v2")
    assert not remove_version(tmp_path, "tickets@v2")
    assert list_versions(tmp_path, "tickets") == ["tickets@v1", "tickets@v10"]
    assert list_versions(tmp_path, "others") == []


def test_discard_removes_the_finished_and_the_unfinished(tmp_path):
    write(tmp_path / "v1")
    (tmp_path / ".v1.partial").mkdir()
    discard(tmp_path / "v1")
    discard(tmp_path / "v1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tickets", "tickets@1", "../x@v1", "a/b@v1", "@v1", "tickets@v", "tickets@v1/.."])
def test_odd_names_are_refused(tmp_path, name):
    with pytest.raises(VersionError, match="TASK@vN"):
        parse_version(name)
    with pytest.raises(VersionError, match="TASK@vN"):
        remove_version(tmp_path, name)
