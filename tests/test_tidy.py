"""House rules that matter, as tests: layers, purity, sizes, nothing dead, nothing left over, documents kept true.

Every rule is a function from a parsed file to a list of findings; the samples at the end show that each can fail.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from apprentice_events.document import events_markdown
from apprentice_events.vocabulary import EVENTS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"apprentice_events": "events", "apprentice_actors": "actors", "apprentice": "."}
ABOVE = {"apprentice_events": {"apprentice_actors", "apprentice"}, "apprentice_actors": {"apprentice"}}

PURE = re.compile(
    r"apprentice_events\.(vocabulary|codec|chain|task_state|versions_state|evidence|spend)$"
    r"|apprentice_actors\.(commands|settings|decide\w*|decision|journey|lessons|policy(\.\w+)*)$"
)
IMPURE_IMPORTS = {
    *("aiosqlite", "anyio", "asyncio", "httpx", "io", "logging", "multiprocessing", "os", "queue", "random"),
    *("secrets", "shutil", "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "uuid"),
}
IMPURE_CALLS = {"now", "utcnow", "today"}
IMPURE_BUILTINS = {"open", "print", "input"}

LINES_MAX = 400
FUNCTION_LINES_MAX = 60
LONGER = {"apprentice_events.vocabulary": "one literal table of all events, which has to stay in one place"}
LEFT_OVER = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|HA[C]K)\b")  # brackets, so that this line does not find itself


@dataclass(frozen=True)
class Source:
    """A Python file of the project. ``module`` is its dotted name; files outside the packages have their path."""

    module: str
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def says_pure(self) -> bool:
        """Whether the module's docstring declares "Pure."; it is then held to its word."""
        return "Pure." in (ast.get_docstring(self.tree) or "")

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    @cached_property
    def imports(self) -> set[str]:
        """Dotted names that are imported; for ``from a import b`` both ``a`` and ``a.b``."""
        found: set[str] = set()
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                found.add(origin)
                found.update(f"{origin}.{alias.name}" for alias in node.names)
        return found

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parents = self.module.split(".")
        base = parents[: len(parents) - node.level + self.is_package]
        return ".".join([*base, node.module] if node.module else base)

    @cached_property
    def named(self) -> set[str]:
        """Strings that could name a module to be imported or run later, such as ``"a.b"`` or ``"a.b:main"``."""
        texts = (node.value for node in self.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
        return {text.partition(":")[0] for text in texts if text.startswith("apprentice")}


def _read(path: Path, base: Path) -> Source:
    parts = path.relative_to(base).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    return Source(".".join(parts[:-1] if is_package else parts), path.read_text(encoding="utf-8"), is_package)


def _sources() -> Iterator[Source]:
    for package, folder in PACKAGES.items():
        base = ROOT / folder
        yield from (_read(path, base) for path in sorted((base / package).rglob("*.py")))


MODULES = {source.module: source for source in _sources()}
OTHERS = [_read(path, ROOT) for folder in ("tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]


# ---------------------------------------------------------------- rules on one file


def upward_imports(source: Source) -> list[str]:
    """A floor knows nothing of the floors above it."""
    return sorted(name for name in source.imports if name.partition(".")[0] in ABOVE.get(source.package, ()))


def impurities(source: Source) -> list[str]:
    """A pure module reads no clock, draws no chance, does no input or output."""
    found = [f"imports {name}" for name in source.imports if name.partition(".")[0] in IMPURE_IMPORTS]
    for node in source.nodes:
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name in IMPURE_CALLS:
                found.append(f"calls .{name}() in line {node.lineno}")
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_BUILTINS:
                found.append(f"calls {name}() in line {node.lineno}")
    return sorted(found)


def too_long(source: Source) -> list[str]:
    """Files and functions that one reader can hold in mind."""
    lines = source.text.count("\n")
    found = [f"{lines} lines"] if lines > LINES_MAX and source.module not in LONGER else []
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append(f"{node.name}() has {length} lines")
    return found


def left_over(source: Source) -> list[str]:
    """What is worth doing is done, or written down where plans are kept."""
    lines = enumerate(source.text.splitlines(), start=1)
    return [f"line {number}: {line.strip()}" for number, line in lines if LEFT_OVER.search(line)]


def real_sleeps(source: Source) -> list[str]:
    """Tests synchronise on events; only ``asyncio.sleep(0)``, which takes no time, is allowed."""
    found = [f"imports {name}" for name in ("time.sleep", "asyncio.sleep") if name in source.imports]
    for node in source.nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[ast.Constant(value=0)]):
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "asyncio" as module), attr="sleep")):
                found.append(f"calls {module}.sleep() in line {node.lineno}")
    return found


# ---------------------------------------------------------------- rules on the whole


def reached(starts: set[str], modules: dict[str, Source], *, by_name: bool = False) -> set[str]:
    """The modules that importing ``starts`` brings in; ``by_name`` follows module names in strings too."""
    seen: set[str] = set()
    waiting = [name for name in starts if name in modules]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        source = modules[name]
        parents = {name.rsplit(".", level)[0] for level in range(1, name.count(".") + 1)}
        onward = source.imports | parents | (source.named if by_name else set())
        waiting.extend(onward & modules.keys())
    return seen


def entry_points() -> set[str]:
    """Where life begins: the public face, the commands, what is run with ``-m``, and the public tools for tests."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("scripts", {})
    starts = {"apprentice", *(target.partition(":")[0] for target in scripts.values())}
    for name, source in MODULES.items():
        if name.endswith(".__main__") or 'if __name__ == "__main__"' in source.text:
            starts.add(name)
    return starts | {name for name in MODULES if name.startswith("apprentice.testing.")}


def findings(rule: Callable[[Source], list[str]], sources: list[Source]) -> list[str]:
    return [f"{source.module}: {finding}" for source in sources for finding in rule(source)]


def expect_none(found: list[str]) -> None:
    assert not found, "\n".join(found)


def test_no_floor_looks_up():
    expect_none(findings(upward_imports, list(MODULES.values())))


def test_pure_modules_are_pure_and_so_is_all_they_import():
    pure = {name for name, source in MODULES.items() if PURE.match(name) or source.says_pure}
    assert "apprentice_events.vocabulary" in pure
    expect_none(findings(impurities, [MODULES[name] for name in sorted(reached(pure, MODULES))]))


def test_files_and_functions_are_short():
    expect_none(findings(too_long, [*MODULES.values(), *OTHERS]))


def test_every_exception_to_the_length_is_needed():
    assert [name for name in LONGER if MODULES[name].text.count("\n") <= LINES_MAX] == []


def test_nothing_is_left_over():
    expect_none(findings(left_over, [*MODULES.values(), *OTHERS]))


def test_no_test_really_sleeps():
    expect_none(findings(real_sleeps, [source for source in OTHERS if source.package == "tests"]))


def test_no_module_is_dead():
    alive = reached(entry_points(), MODULES, by_name=True)
    dead = sorted(name for name, source in MODULES.items() if name not in alive and not source.is_package)
    expect_none([f"{name}: nothing uses it; wire it in or delete it" for name in dead])


def test_the_document_of_the_events_is_true():
    document = events_markdown()
    assert [tag for tag in EVENTS if f"`{tag}`" not in document] == []
    written = (ROOT / "docs" / "EVENTS.md").read_text(encoding="utf-8")
    assert written == document, "write it anew: python -m apprentice_events.document > docs/EVENTS.md"


# ---------------------------------------------------------------- the rules can fail


@pytest.mark.parametrize(
    ("rule", "module", "bad", "good"),
    [
        (upward_imports, "apprentice_events.log", "from apprentice_actors import ports", "import apprentice_events"),
        (upward_imports, "apprentice_actors.task", "import apprentice.config", "import apprentice_events.log"),
        (upward_imports, "apprentice_actors.a.b", "from ...apprentice import x", "from ..a import c"),
        (impurities, "m", "import asyncio", "import math"),
        (impurities, "m", "from os import path", "from collections import deque"),
        (impurities, "m", "datetime.datetime.now(UTC)", "datetime.datetime.fromtimestamp(0, UTC)"),
        (impurities, "m", "open('x')", "reopen('x')"),
        (too_long, "m", "x = 1\n" * 401, "x = 1\n" * 400),
        (too_long, "m", "def f():\n" + "    x = 1\n" * 60, "def f():\n" + "    x = 1\n" * 59),
        (left_over, "m", "# TO-DO later".replace("-", ""), "# to do or not to do"),
        (real_sleeps, "m", "asyncio.sleep(0.1)", "asyncio.sleep(0)"),
        (real_sleeps, "m", "time.sleep(0)", "clock.sleep(9)"),
        (real_sleeps, "m", "from time import sleep", "from time import monotonic"),
    ],
)
def test_each_rule_finds_the_bad_and_lets_the_good_pass(
    rule: Callable[[Source], list[str]], module: str, bad: str, good: str
):
    assert rule(Source(module, bad)) != []
    assert rule(Source(module, good)) == []


def test_what_is_reached_follows_imports_parents_and_names():
    texts = {
        "a": "from a.b import c",
        "a.b": "",
        "a.b.c": "from . import d\nRUN = 'apprentice.worker:main'",
        "a.b.d": "",
        "apprentice.worker": "",
        "a.dead": "import a",
    }
    modules = {name: Source(name, text, is_package=name in ("a", "a.b")) for name, text in texts.items()}
    assert reached({"a"}, modules) == {"a", "a.b", "a.b.c", "a.b.d"}
    assert reached({"a"}, modules, by_name=True) == {*texts} - {"a.dead"}
