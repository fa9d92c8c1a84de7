#!/usr/bin/env bash
# Referral codes in a CSV file, read with type inference by seven CSV readers.
#
# A drawn code has eight characters of Crockford's base 32, which contains E and X. Three kinds of valid codes look like
# numbers: `1234E567` (an exponent), `0X1F4A2B` (hexadecimal) and `00412345` (only digits).
#
# Guessed: an exponent that no double can hold stays text; hexadecimal stays text; digits lose their leading zeros.
# Seen with the versions below:
#
#   reader           1234E567       0X1F4A2B     00412345     52340E12
#   pandas 3.1.1     infinity       text         412345       5.234e16
#   polars 2.1.0     infinity       text         412345       5.234e16
#   DuckDB 2.0.1     infinity       2050603      text         5.234e16
#   pyarrow 26.0.1   infinity       2050603      412345       5.234e16
#   papaparse 5.7.1  text           text         412345       text
#   csv-parse 7.0.3  text           0            412345       5.234e16
#   d3-dsv 3.0.2     infinity       2050603      412345       5.234e16
#
# No reader keeps all four as text, and none reports an error. Read columns with codes and ids as text.
#
# usage: bash findings/codes-in-csv.sh    (needs Python 3.11 or newer, Node.js 20 or newer, and package registries)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pandas==3.1.1 polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1
npm install --silent --no-audit --no-fund --ignore-scripts papaparse@5.7.1 csv-parse@7.0.3 d3-dsv@3.0.2

for code in 1234E567 0X1F4A2B 00412345 52340E12; do
  printf 'referrer,code\nada,%s\n' "$code" >"$code.csv"
done

cat >read.py <<'PYTHON'
import duckdb, pandas, polars, pyarrow.csv

CODES = ["1234E567", "0X1F4A2B", "00412345", "52340E12"]


def show(name, read):
    print(name, *(repr(read(f"{code}.csv")).replace("'", "") for code in CODES), sep=" | ")


show("pandas", lambda file: pandas.read_csv(file)["code"].tolist()[0])
show("polars", lambda file: polars.read_csv(file)["code"][0])
show("duckdb", lambda file: duckdb.connect().execute(f"SELECT code FROM read_csv('{file}')").fetchone()[0])
show("pyarrow", lambda file: pyarrow.csv.read_csv(file)["code"][0].as_py())
PYTHON
cat >read.mjs <<'JAVASCRIPT'
import { readFileSync } from "node:fs";
import Papa from "papaparse";
import { parse } from "csv-parse/sync";
import { autoType, csvParse } from "d3-dsv";

const codes = ["1234E567", "0X1F4A2B", "00412345", "52340E12"];
const show = (name, read) => console.log([name, ...codes.map((code) => read(readFileSync(`${code}.csv`, "utf8"))[0].code)].join(" | "));
show("papaparse", (text) => Papa.parse(text, { header: true, dynamicTyping: true, skipEmptyLines: true }).data);
show("csv-parse", (text) => parse(text, { columns: true, cast: true }));
show("d3-dsv", (text) => csvParse(text, autoType));
JAVASCRIPT
{ venv/bin/python read.py && node read.mjs; } | tee seen

cat >wanted <<'TEXT'
pandas | inf | 0X1F4A2B | 412345 | 5.234e+16
polars | inf | 0X1F4A2B | 412345 | 5.234e+16
duckdb | inf | 2050603 | 00412345 | 5.234e+16
pyarrow | inf | 2050603 | 412345 | 5.234e+16
papaparse | 1234E567 | 0X1F4A2B | 412345 | 52340E12
csv-parse | 1234E567 | 0 | 412345 | 52340000000000000
d3-dsv | Infinity | 2050603 | 412345 | 52340000000000000
TEXT
diff -u wanted seen && echo 'as recorded'
