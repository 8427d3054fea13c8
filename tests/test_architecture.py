"""Limits that keep the code readable: sizes of files, functions and folders, and who may import private names."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGES = ("batch_llm", "flows", "tests")
CODE = sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py"))

FILE_LINES = 300
LONG_FILES: dict[str, int] = {}
"""Files that still hold a second concept, with the lines that they may have until they are divided."""

FUNCTION_LINES = 50
FOLDER_FILES = 20
README_LINES = 200


def relative(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function, its docstring aside."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    documented = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - documented


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of each `from ... import ...`; a relative module gets the file's package."""
    package = path.parent.relative_to(CHECKOUT).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def test_no_file_of_the_package_has_more_than_300_lines() -> None:
    long = {relative(path): len(path.read_text().splitlines()) for path in CODE if "tests" not in path.parts}
    assert {file: lines for file, lines in long.items() if lines > LONG_FILES.get(file, FILE_LINES)} == {}


def test_no_function_of_the_package_has_more_than_50_lines_of_code() -> None:
    long = [
        f"{relative(path)}:{function.lineno} {function.name}"
        for path in CODE
        if relative(path).startswith(("batch_llm/", "flows/"))
        for function in functions(ast.parse(path.read_text()))
        if lines_of(function) > FUNCTION_LINES
    ]
    assert long == []


def test_no_folder_of_the_package_has_more_than_20_modules() -> None:
    folders = Counter(relative(path.parent) for path in CODE if relative(path).startswith("batch_llm/"))
    assert {folder: count for folder, count in folders.items() if count > FOLDER_FILES} == {}


def test_readme_has_at_most_200_lines() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("path", sorted((CHECKOUT / "batch_llm").rglob("__init__.py")), ids=relative)
def test_every_package_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_module_imports_private_names_of_another_package() -> None:
    private = [
        f"{relative(path)}: from {module} import {name}"
        for path in CODE
        for module, name in imported(path)
        if module.startswith("batch_llm")
        and any(part.startswith("_") and not part.startswith("__") for part in (*module.split("."), name))
        and not relative(path.parent).replace("/", ".").startswith(module.rpartition(".")[0])
    ]
    assert private == []


def test_flows_import_the_package_and_not_each_other() -> None:
    modules = {module for path in (CHECKOUT / "flows").glob("*.py") for module, _ in imported(path)}
    assert {module for module in modules if module.startswith(("flows", "tests"))} == set()
