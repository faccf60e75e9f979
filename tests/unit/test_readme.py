"""What the documents at the front door say is true: links lead somewhere, commands exist, the example fits the code."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from typer.main import get_command

from apprentice import Result, Runtime
from apprentice.config import load
from apprentice.faces.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("docs/ARCHITECTURE.md", "docs/VERSIONS.md", "benchmarks/LOG.md"),
]
LINK = re.compile(r"\]\((?!https?://)([^)#]+)[^)]*\)")
COMMAND = re.compile(r"(?:`|^)apprentice ([a-z]+)", re.MULTILINE)
MAKE = re.compile(r"(?:`|^)make ([a-z]+)", re.MULTILINE)
FILE = re.compile(r"`((?:apprentice|actors|events|tests|benchmarks|docs)/[\w./]*\w)/?`")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def example() -> list[ast.Call]:
    """The method calls in the README's example, as if it stood in a coroutine."""
    (found,) = re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL)
    tree = ast.parse("async def example():\n" + "".join(f"    {line}\n" for line in found.splitlines()))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_named_files_exist(name):
    text = read(name)
    linked = {((ROOT / name).parent / target).resolve() for target in LINK.findall(text)}
    named = {ROOT / target for target in FILE.findall(text)}
    assert [str(path) for path in sorted(linked | named) if not path.exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    assert set(MAKE.findall(read(name))) <= targets


def test_the_readme_lists_every_command_and_no_other():
    commands = set(get_command(app).commands)
    named = set(COMMAND.findall(read("README.md")))
    assert named == commands


def test_options_of_commands_exist():
    commands = get_command(app).commands
    lines = [line.strip() for line in re.findall(r"apprentice [a-z]+[^`\n]*", read("README.md"))]
    used = {(line.split()[1], option) for line in lines for option in re.findall(r"--[a-z-]+", line)}
    used |= {("config", "--check")}  # stands apart from its command in the table
    assert len(used) > 3
    known = {(name, option) for name, one in commands.items() for each in one.params for option in each.opts}
    assert used - known == set()


def test_the_example_calls_what_exists_as_it_wants_to_be_called():
    runtime = [call for call in example() if isinstance(call.func.value, ast.Name) and call.func.value.id == "runtime"]
    assert {call.func.attr for call in runtime} == {"submit", "explain", "status", "correct"}
    for call in runtime:
        named = {keyword.arg: None for keyword in call.keywords}
        inspect.signature(getattr(Runtime, call.func.attr)).bind(None, *call.args, **named)
    assert {"output", "request_id"} <= set(Result.__struct_fields__)


def test_the_example_fits_the_example_configuration():
    task = load(ROOT / "apprentice.yaml").task("classify_ticket")
    checked = []
    for call in example():
        match call:
            case ast.Call(func=ast.Attribute(attr="submit"), args=[ast.Constant(value="classify_ticket"), given]):
                checked.append(task.input_schema.check(ast.literal_eval(given)))
            case ast.Call(func=ast.Attribute(attr="correct"), args=[_, output]):
                checked.append(task.output_schema.check(ast.literal_eval(output)))
    assert checked == [None, None]


def test_every_measured_figure_stands_in_the_log_of_measurements():
    measured = read("README.md").partition("## Measured")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in measured.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 3
    log = read("benchmarks/LOG.md")
    assert [row[1] for row in rows if row[1] not in log] == []
