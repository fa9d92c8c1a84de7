#!/usr/bin/env bash
# Ten percent of 100,000 orders of 1.25, and a third of a refund of 1000.00, computed from DECIMAL columns of a Parquet file.
#
# Amounts have two places. The rate 0.10 is stored once with two places, as 0.10, and once with four, as 0.1000. The part of the
# refund is `refund * (item / total)` with an item of 1.00 and a total of 3.00.
#
# Guessed before the first run: a product of decimals is exact, as in SQL, where it has the places of both factors.
# Guessed before the second run: Polars' SQL does as its expressions, and the zeros at the end of the rate change nothing. The
# refund was added afterwards. Seen with the versions below:
#
#   engine                                10 % of 1.25   sum      sum, rate 0.1000   a third of 1000.00, as cents
#   DuckDB 2.0.1                          0.125          12500    12500              333.33
#   DataFusion 55.0.0                     0.125          12500    12500              333.33
#   pandas 3.1.1 with pyarrow's types     0.125          12500    12500              333.33
#   Polars 2.1.0, SQL                     0.125          12500    12500              333.33
#   Polars 2.1.0, expressions             0.12           12000    12500              330.00
#   Polars 2.1.0, streaming expressions   0.12           12000    12500              330.00
#
# Polars rounds each product and each quotient to the places of the operand that has more (its pull request 24542), and a half to
# even. There is no error. The same formula in Polars' own SQL is not rounded. So the rewards are 4 % too low here, and 3.33 of
# the refund are lost. Cast one factor to the places that the result needs, as `polars, cast` does here.
#
# usage: bash findings/shares-of-parquet-decimals.sh    (needs Python 3.11 or newer and a package registry)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 datafusion==55.0.0 pandas==3.1.1 pyarrow==26.0.1 polars==2.1.0

cat >shares.py <<'PYTHON'
from decimal import Decimal

import datafusion, duckdb, pandas, polars, pyarrow, pyarrow.parquet

FILE, ORDERS = "orders.parquet", 100_000
COLUMNS = {"amount": ("1.25", 2), "rate": ("0.10", 2), "long_rate": ("0.10", 4), "refund": ("1000.00", 2), "item": ("1.00", 2), "total": ("3.00", 2)}
pyarrow.parquet.write_table(
    pyarrow.table({name: pyarrow.array([Decimal(value)] * ORDERS, pyarrow.decimal128(10, places)) for name, (value, places) in COLUMNS.items()}),
    FILE,
)
QUERY = """SELECT max(amount * rate) AS share, sum(amount * rate) AS shares, sum(amount * long_rate) AS long_shares,
                  max(refund * (item / total)) AS part FROM orders"""


def with_duckdb():
    connection = duckdb.connect()
    connection.execute(f"CREATE VIEW orders AS FROM '{FILE}'")
    return connection.execute(QUERY).fetchone()


def with_datafusion():
    context = datafusion.SessionContext()
    context.register_parquet("orders", FILE)
    return list(context.sql(QUERY).to_pylist()[0].values())


def with_pandas():
    orders = pandas.read_parquet(FILE, dtype_backend="pyarrow")
    share, long_share = orders["amount"] * orders["rate"], orders["amount"] * orders["long_rate"]
    return share.max(), share.sum(), long_share.sum(), (orders["refund"] * (orders["item"] / orders["total"])).max()


def with_polars(engine, cast=lambda column: column):
    amount, rate, long_rate, refund, item, total = map(polars.col, COLUMNS)
    share = amount * cast(rate)
    part = refund * (cast(item) / total)
    orders = polars.scan_parquet(FILE)
    return orders.select(a=share.max(), b=share.sum(), c=(amount * long_rate).sum(), d=part.max()).collect(engine=engine).row(0)


ENGINES = {
    "duckdb": with_duckdb,
    "datafusion": with_datafusion,
    "pandas, pyarrow": with_pandas,
    "polars, sql": lambda: polars.SQLContext(orders=polars.scan_parquet(FILE)).execute(QUERY, eager=True).row(0),
    "polars": lambda: with_polars("in-memory"),
    "polars, streaming": lambda: with_polars("streaming"),
    "polars, cast": lambda: with_polars("in-memory", lambda column: column.cast(polars.Decimal(38, 8))),
}
for name, compute in ENGINES.items():
    share, shares, long_shares, part = compute()
    print(name, *(f"{value.normalize():f}" for value in (share, shares, long_shares)), f"{part:.2f}", sep=" | ")
PYTHON
venv/bin/python shares.py | tee seen

cat >wanted <<'TEXT'
duckdb | 0.125 | 12500 | 12500 | 333.33
datafusion | 0.125 | 12500 | 12500 | 333.33
pandas, pyarrow | 0.125 | 12500 | 12500 | 333.33
polars, sql | 0.125 | 12500 | 12500 | 333.33
polars | 0.12 | 12000 | 12500 | 330.00
polars, streaming | 0.12 | 12000 | 12500 | 330.00
polars, cast | 0.125 | 12500 | 12500 | 333.33
TEXT
diff -u wanted seen && echo 'as recorded'
