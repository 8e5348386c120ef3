"""Tidy rows as Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pytest_codexbench.errors import WrongInput
from pytest_codexbench.reports.rows import Columns, Row


def write_parquet(rows: Iterable[Row], columns: Columns, path: Path) -> None:
    """Write the rows to ``path``; columns keep their type, also where nothing is known.

    Raises:
        WrongInput: where pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # it is Cython, and carries no annotations
        from pyarrow import parquet
    except ImportError as error:
        raise WrongInput("--format=parquet needs pyarrow: pip install 'pytest-codexbench[parquet]'") from error
    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
