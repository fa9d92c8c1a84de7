#!/usr/bin/env bash
# The sum of 300,000 orders of 100.00, stored in Parquet as cents in columns of 16, 32 and 64 bits, as five engines compute it.
#
# Glue's and Spark's `int` are 32 bits. Every amount fits into all three columns; the sum, 3000000000, needs more than 32 bits.
#
# Guessed before the first run, for the sum of 32 bits: all are right, because engines add integers in 64 bits. Guessed after it,
# before the columns of 16 bits were added: Polars is wrong for them too. Seen with the versions below:
#
#   engine                               sum of 16, 32 and 64 bits             last value of the running sum
#   DuckDB 2.0.1                         right     right         right         right      right         right
#   DataFusion 55.0.0                    right     right         right         right      right         right
#   pandas 3.1.1                         right     right         right         right      right         right
#   pandas 3.1.1 with pyarrow's types    right     right         right         an error   an error      right
#   pyarrow 26.0.1                       right     right         right         24064      -1294967296   right
#   Polars 2.1.0                         right     -1294967296   right         right      -1294967296   right
#
# Polars adds 8 and 16 bits in 64, but 32 bits in 32, without an error: also with `group_by`, in SQL and in its streaming engine
# (its issue 13782). The mean, 10000, is right. pyarrow widens a sum and not a running sum, and `cumulative_sum_checked` reports
# it. So a total of rewards or sales becomes negative when it passes 21,474,836.47, and in Polars a narrower column is safer.
# Cast such columns to 64 bits first, as `polars, cast` does here.
#
# usage: bash findings/sums-of-parquet-integers.sh    (needs Python 3.11 or newer and a package registry)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 datafusion==55.0.0 pandas==3.1.1 pyarrow==26.0.1 polars==2.1.0

cat >sums.py <<'PYTHON'
import datafusion, duckdb, pandas, polars, pyarrow, pyarrow.compute, pyarrow.parquet

FILE, COLUMNS = "orders.parquet", {"int16": pyarrow.int16(), "int32": pyarrow.int32(), "int64": pyarrow.int64()}
ORDERS = {name: pyarrow.array([10_000] * 300_000, kind) for name, kind in COLUMNS.items()}
pyarrow.parquet.write_table(pyarrow.table({"shop": ["a"] * 300_000, **ORDERS}), FILE)

SUM = "SELECT sum({}) AS total FROM orders"
RUNNING = "SELECT max(total) AS total FROM (SELECT sum({}) OVER (ORDER BY shop ROWS UNBOUNDED PRECEDING) AS total FROM orders) AS sums"
GROUPED = "SELECT shop, sum({}) AS total FROM orders GROUP BY shop"
ducks, fusion = duckdb.connect(), datafusion.SessionContext()
ducks.execute(f"CREATE VIEW orders AS SELECT * FROM '{FILE}'")
fusion.register_parquet("orders", FILE)
pandas_orders, arrow_orders = pandas.read_parquet(FILE), pandas.read_parquet(FILE, dtype_backend="pyarrow")
table, frame, scan = pyarrow.parquet.read_table(FILE), polars.read_parquet(FILE), polars.scan_parquet(FILE)

ENGINES = {
    "duckdb": lambda name: ducks.execute(SUM.format(name)).fetchall()[0][0],
    "duckdb, running": lambda name: ducks.execute(RUNNING.format(name)).fetchall()[0][0],
    "datafusion": lambda name: fusion.sql(SUM.format(name)).to_pylist()[0]["total"],
    "datafusion, running": lambda name: fusion.sql(RUNNING.format(name)).to_pylist()[0]["total"],
    "pandas": lambda name: pandas_orders[name].sum(),
    "pandas, running": lambda name: pandas_orders[name].cumsum().iloc[-1],
    "pandas with pyarrow": lambda name: arrow_orders[name].sum(),
    "pandas with pyarrow, running": lambda name: arrow_orders[name].cumsum().iloc[-1],
    "pyarrow": lambda name: pyarrow.compute.sum(table[name]).as_py(),
    "pyarrow, running": lambda name: pyarrow.compute.cumulative_sum(table[name])[-1].as_py(),
    "polars": lambda name: frame[name].sum(),
    "polars, running": lambda name: frame[name].cum_sum()[-1],
    "polars, grouped": lambda name: frame.group_by("shop").agg(polars.col(name).sum())[name][0],
    "polars, SQL": lambda name: polars.SQLContext(orders=scan).execute(GROUPED.format(name), eager=True)["total"][0],
    "polars, streaming": lambda name: scan.select(polars.col(name).sum()).collect(engine="streaming").item(),
    "polars, mean": lambda name: frame[name].mean(),
    "polars, cast": lambda name: frame[name].cast(polars.Int64).sum(),
}
for engine, ask in ENGINES.items():
    answers = []
    for name in COLUMNS:
        try:
            answers.append(int(ask(name)))
        except pyarrow.ArrowInvalid:
            answers.append("error")
    print(engine, *answers, sep=" | ")
PYTHON
venv/bin/python sums.py | tee seen

cat >wanted <<'TEXT'
duckdb | 3000000000 | 3000000000 | 3000000000
duckdb, running | 3000000000 | 3000000000 | 3000000000
datafusion | 3000000000 | 3000000000 | 3000000000
datafusion, running | 3000000000 | 3000000000 | 3000000000
pandas | 3000000000 | 3000000000 | 3000000000
pandas, running | 3000000000 | 3000000000 | 3000000000
pandas with pyarrow | 3000000000 | 3000000000 | 3000000000
pandas with pyarrow, running | error | error | 3000000000
pyarrow | 3000000000 | 3000000000 | 3000000000
pyarrow, running | 24064 | -1294967296 | 3000000000
polars | 3000000000 | -1294967296 | 3000000000
polars, running | 3000000000 | -1294967296 | 3000000000
polars, grouped | 3000000000 | -1294967296 | 3000000000
polars, SQL | 3000000000 | -1294967296 | 3000000000
polars, streaming | 3000000000 | -1294967296 | 3000000000
polars, mean | 10000 | 10000 | 10000
polars, cast | 3000000000 | 3000000000 | 3000000000
TEXT
diff -u wanted seen && echo 'as recorded'
