"""What is built and installed is all of it: three packages, their markers and data, one version."""

import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import apprentice

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"apprentice": ".", "apprentice_actors": "actors", "apprentice_events": "events"}
NOT_SHIPPED = {"__pycache__"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(built) as opened:
        yield opened


def files_of(package: str) -> set[str]:
    base = ROOT / PACKAGES[package]
    found = (path for path in (base / package).rglob("*") if path.is_file())
    return {path.relative_to(base).as_posix() for path in found if not NOT_SHIPPED & set(path.parts)}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_every_file_of_the_package(wheel, package):
    assert files_of(package) - set(wheel.namelist()) == set()
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_wheel_holds_data_and_nothing_else(wheel):
    names = wheel.namelist()
    assert "apprentice/remote/prices.json" in names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_there_is_one_version(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert apprentice.__version__ == project["version"] == metadata.version("apprentice")
    (described,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    assert f"\nVersion: {project['version']}\n" in wheel.read(described).decode()


def test_every_dependency_is_pinned():
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    names = {name.casefold().replace("_", "-") for name in pinned}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["embedded"], *extras["serve"], *extras["dev"]]
    missing = {name for line in wanted if (name := _name(line)) not in names | {"apprentice"}}
    assert missing == set(), "write constraints.txt anew from an environment that passes the tests"


def _name(requirement: str) -> str:
    plain = requirement.partition(";")[0]
    for mark in "[<>=!~ ":
        plain = plain.partition(mark)[0]
    return plain.casefold().replace("_", "-")
