#!/usr/bin/env bash
# The day of a time in a Parquet file, as four engines compute it on machines in different time zones.
#
# The column is TIMESTAMP in milliseconds with isAdjustedToUTC, as EventBridge and Firehose times are usually stored.
#
# Guessed: the day in UTC, everywhere. Seen for 2026-03-01T23:30:00Z with the versions below:
#
#   engine              TZ=UTC       TZ=America/Los_Angeles   TZ=Pacific/Auckland
#   DuckDB 2.0.1        2026-03-01   2026-03-01               2026-03-02
#   Polars 2.1.0        2026-03-01   2026-03-01               2026-03-01
#   pandas 3.1.1        2026-03-01   2026-03-01               2026-03-01
#   DataFusion 55.0.0   2026-03-01   2026-03-01               2026-03-01
#
# and for 2026-03-02T00:30:00Z DuckDB says 2026-03-01 in Los Angeles. So the same query over the same file counts another number of
# orders per day on a developer's machine than on a server. `SET TimeZone = 'UTC'` makes DuckDB agree with the others.
#
# usage: bash findings/days-of-parquet-times.sh    (needs Python 3.11 or newer and a package registry)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 polars==2.1.0 pandas==3.1.1 datafusion==55.0.0 pyarrow==26.0.1 tzdata==2026.2

cat >days.py <<'PYTHON'
import datetime
import os

import datafusion, duckdb, pandas, polars, pyarrow, pyarrow.parquet

ZONE = datetime.timezone.utc
TIMES = [datetime.datetime(2026, 3, 1, 23, 30, tzinfo=ZONE), datetime.datetime(2026, 3, 2, 0, 30, tzinfo=ZONE)]
pyarrow.parquet.write_table(pyarrow.table({"time": pyarrow.array(TIMES, pyarrow.timestamp("ms", tz="UTC"))}), "times.parquet")
QUERY = 'SELECT CAST("time" AS DATE) AS "day" FROM'


def with_datafusion():
    context = datafusion.SessionContext()
    context.register_parquet("times", "times.parquet")
    return [row["day"] for row in context.sql(f"{QUERY} times").to_pylist()]


def with_duckdb(before="SELECT 1"):
    connection = duckdb.connect()
    connection.execute(before)
    return [row[0] for row in connection.execute(f"{QUERY} 'times.parquet'").fetchall()]


ENGINES = {
    "duckdb": with_duckdb,
    "duckdb, UTC": lambda: with_duckdb("SET TimeZone = 'UTC'"),
    "polars": lambda: polars.read_parquet("times.parquet")["time"].dt.date().to_list(),
    "pandas": lambda: list(pandas.read_parquet("times.parquet")["time"].dt.date),
    "datafusion": with_datafusion,
}
for name, days in ENGINES.items():
    print(os.environ["TZ"], name, *(day.isoformat() for day in days()), sep=" | ")
PYTHON
for zone in UTC America/Los_Angeles Pacific/Auckland; do
  TZ=$zone venv/bin/python days.py
done | tee seen

cat >wanted <<'TEXT'
UTC | duckdb | 2026-03-01 | 2026-03-02
UTC | duckdb, UTC | 2026-03-01 | 2026-03-02
UTC | polars | 2026-03-01 | 2026-03-02
UTC | pandas | 2026-03-01 | 2026-03-02
UTC | datafusion | 2026-03-01 | 2026-03-02
America/Los_Angeles | duckdb | 2026-03-01 | 2026-03-01
America/Los_Angeles | duckdb, UTC | 2026-03-01 | 2026-03-02
America/Los_Angeles | polars | 2026-03-01 | 2026-03-02
America/Los_Angeles | pandas | 2026-03-01 | 2026-03-02
America/Los_Angeles | datafusion | 2026-03-01 | 2026-03-02
Pacific/Auckland | duckdb | 2026-03-02 | 2026-03-02
Pacific/Auckland | duckdb, UTC | 2026-03-01 | 2026-03-02
Pacific/Auckland | polars | 2026-03-01 | 2026-03-02
Pacific/Auckland | pandas | 2026-03-01 | 2026-03-02
Pacific/Auckland | datafusion | 2026-03-01 | 2026-03-02
TEXT
diff -u wanted seen && echo 'as recorded'
