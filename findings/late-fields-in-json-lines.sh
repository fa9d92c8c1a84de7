#!/usr/bin/env bash
# JSON lines in which a field first appears after 30,000 lines, or an integer first has a fraction there, read by five engines.
#
# Exports of a service's events look like this: a rare field, such as the reason of a void, is missing in most lines, and amounts
# are whole until the first percentage.
#
# Guessed: the field is null where it is missing; an amount of 1.5 makes the column a decimal, or is an error.
# Seen with the versions below:
#
#   engine             a new field          1.5 after 30,000 integers
#   DuckDB 2.0.1       an error             2
#   Polars 2.1.0       the field is lost    an error
#   DataFusion 55.0.0  the field is lost    1
#   pandas 3.1.1       read                 1.5
#   pyarrow 26.0.1     read                 1.5
#
# Only errors name the sample of lines from which the types were inferred. Pass a schema, or infer it from all lines.
#
# usage: bash findings/late-fields-in-json-lines.sh    (needs Python 3.11 or newer and a package registry)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 polars==2.1.0 datafusion==55.0.0 pandas==3.1.1 pyarrow==26.0.1

cat >read.py <<'PYTHON'
import json

import datafusion, duckdb, pandas, polars, pyarrow.json

LINES = {
    "field.ndjson": ({"status": "pending"}, {"status": "voided", "void_reason": "fraud"}),
    "amount.ndjson": ({"amount": 1}, {"amount": 1.5}),
}
for name, (early, late) in LINES.items():
    with open(name, "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in [early] * 30_000 + [late])


def with_datafusion(file):
    context = datafusion.SessionContext()
    context.register_json("lines", file, file_extension=".ndjson")
    # Several threads read the file, so the lines have no order. The late one has the greatest value.
    return context.sql("SELECT * FROM lines ORDER BY 1").to_pylist()[-1]


def with_duckdb(file):
    relation = duckdb.connect().execute(f"SELECT * FROM read_json('{file}')")
    names = [column[0] for column in relation.description]
    return dict(zip(names, relation.fetchall()[-1]))


ENGINES = {
    "duckdb": with_duckdb,
    "polars": lambda file: polars.read_ndjson(file).to_dicts()[-1],
    "datafusion": with_datafusion,
    "pandas": lambda file: pandas.read_json(file, lines=True).to_dict("records")[-1],
    "pyarrow": lambda file: pyarrow.json.read_json(file).to_pylist()[-1],
}
for name, read in ENGINES.items():
    for file in LINES:
        try:
            seen = json.dumps(read(file), sort_keys=True)
        except Exception as problem:
            seen = type(problem).__name__
        print(name, file, seen, sep=" | ")
PYTHON
venv/bin/python read.py | tee seen

cat >wanted <<'TEXT'
duckdb | field.ndjson | InvalidInputException
duckdb | amount.ndjson | {"amount": 2}
polars | field.ndjson | {"status": "voided"}
polars | amount.ndjson | ComputeError
datafusion | field.ndjson | {"status": "voided"}
datafusion | amount.ndjson | {"amount": 1}
pandas | field.ndjson | {"status": "voided", "void_reason": "fraud"}
pandas | amount.ndjson | {"amount": 1.5}
pyarrow | field.ndjson | {"status": "voided", "void_reason": "fraud"}
pyarrow | amount.ndjson | {"amount": 1.5}
TEXT
diff -u wanted seen && echo 'as recorded'
