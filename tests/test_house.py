"""The rules of the house: no circle of imports, small folders, small files, short signatures."""

import ast
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "fmrilm"
MOST_FILES, MOST_LINES, MOST_PARAMETERS = 14, 400, 7
# Entry points: their parameters are the options of a verb of the command line.
ENTRY_POINTS = {
    "prepare",
    "describe",
    "explain",
    "benchmark",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def imports_of(name: str) -> set[str]:
    """Modules of ours that a module imports anywhere: at its top, in a function, for its types."""
    imported = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                imported.add(whole if whole in FILES else node.module)
    return {module for module in imported if module in FILES and module != name}


IMPORTS = {name: imports_of(name) for name in FILES}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                components.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return components


def test_circles_are_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_no_circle_of_modules():
    assert circles(IMPORTS) == []


def folder_graph(depth: int) -> dict[str, set[str]]:
    graph = defaultdict(set)
    for name, imported in IMPORTS.items():
        own = folder(name, depth)
        graph[own] |= {folder(other, depth) for other in imported} - {own}
    return graph


def folder(module: str, depth: int) -> str:
    """The folder a module lies in, at most ``depth`` floors below the package."""
    parts = module.split(".")
    is_package = FILES[module].name == "__init__.py"
    return ".".join(parts[: depth + 1]) if is_package else ".".join(parts[:-1][: depth + 1])


def test_no_circle_of_top_folders():
    graph = folder_graph(1)
    graph.pop("fmrilm")  # its files lie on several floors: `cli` above all, `errors` below
    assert circles({name: others - {"fmrilm"} for name, others in graph.items()}) == []


@pytest.mark.parametrize("path", sorted({path.parent for path in FILES.values()}), ids=str)
def test_folders_are_small(path):
    assert len(list(path.glob("*.py"))) <= MOST_FILES


def test_files_are_short():
    lengths = {n: len(p.read_text(encoding="utf-8").splitlines()) for n, p in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_signatures_are_short():
    long = {}
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = node.args
                names = [
                    a.arg
                    for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                    if a.arg not in ("self", "cls")
                ]
                if len(names) > MOST_PARAMETERS and node.name not in ENTRY_POINTS:
                    long[f"{name}:{node.name}"] = len(names)
    assert long == {}


def test_nothing_but_the_known_lies_in_the_repository() -> None:
    """A command of a test or of the fuzzer that wrote beside README.md, committed by mistake."""
    root = SOURCE.parents[1]
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in listing.stdout.split("\0") if name}
    scripts = {"dataset.py", "eval_zeroshot.py", "merge_deepspeed_checkpoint.py"}
    scripts |= {
        f"train_{stage}.py" for stage in ("instruction", "pretrain_paired", "quantizer_contr")
    }
    about = {"README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile"}
    tools = {".ci", ".gitignore", "constraints.txt", "demo-requirements.txt", "pyproject.toml"}
    rooms = {"benchmarks", "configs", "docs", "examples", "scripts", "src", "tests"}
    assert top <= scripts | about | tools | rooms
