"""Replaces Firehose and Athena with DuckDB: converts JSON lines to Parquet, creates views, runs queries.

Reads one request from standard input (see duck.rs) and writes the answer to standard output, every value as text.
"""

import json
import sys
from pathlib import Path

import duckdb


def main():
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    database = duckdb.connect()
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in request["columns"])
    for lines in sorted(folder.glob("lines/*/*.json")):
        parquet = folder / "events" / lines.parent.name / f"{lines.stem}.parquet"
        parquet.parent.mkdir(parents=True, exist_ok=True)
        source = f"read_json('{lines}', format = 'newline_delimited', columns = {{{columns}}})"
        database.execute(f"COPY (SELECT * FROM {source}) TO '{parquet}' (FORMAT parquet, COMPRESSION snappy)")
    files = f"read_parquet('{folder}/events/*/*.parquet', hive_partitioning = true, hive_types_autocast = false)"
    database.execute(f"CREATE VIEW {request['table']} AS SELECT * FROM {files}")
    views = {}
    for name, sql in request["views"]:
        database.execute(f"CREATE VIEW {name} AS {sql}")
        views[name] = [row[:2] for row in database.execute(f"DESCRIBE {name}").fetchall()]
    answers = [rows(database.execute(query)) for query in request["queries"]]
    json.dump({"views": views, "answers": answers}, sys.stdout)


def rows(result):
    names = [column[0] for column in result.description]
    values = ([None if value is None else str(value) for value in row] for row in result.fetchall())
    return [dict(zip(names, row)) for row in values]


main()
