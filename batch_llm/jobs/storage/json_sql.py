"""SQL that replaces infinity and NaN, which JSON cannot represent, by null at any depth of a value."""

from __future__ import annotations

from typing import cast

import duckdb
from duckdb.sqltypes import DuckDBPyType

from .duckdb_session import name, text


def finite_values(value: str, kind: str) -> str:
    """Return SQL for a value in which infinity and NaN are replaced by null.

    Args:
        value: SQL of the value.
        kind: DuckDB type of the value.
    """
    return _finite(value, duckdb.sqltype(kind)) if "DOUBLE" in kind or "FLOAT" in kind else value


def _finite(value: str, kind: DuckDBPyType) -> str:
    match kind.id:
        case "float" | "double":
            return f"CASE WHEN isfinite({value}) THEN {value} END"
        case "list" | "array":
            return _finite_list(value, _parts(kind)[0][1])
        case "map":
            values = _finite_list(f"map_values({value})", _parts(kind)[1][1])
            return f"CASE WHEN {value} IS NOT NULL THEN map(map_keys({value}), {values}) END"
        case "struct":
            fields = (f"{name(field)} := {_finite(f'{value}.{name(field)}', of)}" for field, of in _parts(kind))
            return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({', '.join(fields)}) END"
        case "union":
            whens = (_finite_member(value, tag, of, kind) for tag, of in _parts(kind)[1:])
            return f"CASE union_tag({value}) {' '.join(whens)} END"
        case _:
            return value


def _finite_member(value: str, tag: str, of: DuckDBPyType, union: DuckDBPyType) -> str:
    member = _finite(f"union_extract({value}, {text(tag)})", of)
    return f"WHEN {text(tag)} THEN union_value({name(tag)} := {member})::{union}"


def _finite_list(values: str, kind: DuckDBPyType) -> str:
    return f"list_transform({values}, lambda each: {_finite('each', kind)})"


def _parts(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """Return the types inside a type; an array's size comes after its type, a union's tag before its types."""
    return cast("list[tuple[str, DuckDBPyType]]", kind.children)
