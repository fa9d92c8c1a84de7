#!/usr/bin/env bash
# Amounts in DECIMAL(10,2) columns (of 32 bits: DECIMAL(9,2)) of Parquet files, written and read by JavaScript libraries.
#
# The amounts are all cents from -100.00 to 100.00, orders and their refunds, as JavaScript numbers. DuckDB reads what was written.
#
# Guessed: an amount is rounded to the nearest cent, so all are right, and a reader gives 12.34; `100n` is 100.00, as `100` is.
# (Only the code of @dsnp/parquetjs and of hyparquet-writer was seen before the run.)
# Seen with the versions below:
#
#   writer                             19.99   0.29   -1.10   100n       wrong amounts of 20001   sum (right: 0)
#   @dsnp/parquetjs 1.8.9              19.98   0.28   -1.11   an error   1146                     -11.46
#   hyparquet-writer 0.17.0            19.99   0.29   -1.10   1.00       0                        0
#   @uwdata/flechette 2.6.0, 64 bits   19.98   0.28   -1.10   1.00       1146                     0
#   @uwdata/flechette 2.6.0, 32 bits   0.39    0.00   -0.02   1.00       20000                    0
#   @duckdb/node-api 1.5.6-r.1         19.99   0.29   -1.10              0                        0
#
#   reader of 12.34                    Number(amount)   JSON
#   apache-arrow 21.2.0                1234             "\"1234\""
#   @uwdata/flechette 2.6.0            12.34            12.34
#   @dsnp/parquetjs 1.8.9              12.34            12.34
#   hyparquet 1.31.5                   12.34            12.34
#   @duckdb/node-api 1.5.6-r.1         12.34            "12.34"
#
# Two writers lose a cent of some amounts, without an error. @dsnp/parquetjs rounds the product with 100 down (its issue 182), so
# an order is a cent too low where its refund is right, or the refund a cent too high. Flechette cuts it off, and multiplies by the
# scale, 2, instead of 100 if the decimal has 32 bits; its files come from its Arrow table through parquet-wasm. A bigint is
# an unscaled value to hyparquet-writer and Flechette, so 100n is a hundredth of 100. apache-arrow gives the unscaled value (its
# issue 77). Write cents as an INT64 column, or pass bigints of cents and read a file back with another library.
#
# usage: bash findings/cents-in-javascript-parquet.sh    (needs Node.js 20 or newer and a package registry)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# @dsnp/parquetjs 1.8.9 asks for a newer Node.js, but runs on Node.js 20.
npm install --silent --no-audit --no-fund --ignore-scripts @dsnp/parquetjs@1.8.9 hyparquet-writer@0.17.0 hyparquet@1.31.5 \
  @uwdata/flechette@2.6.0 parquet-wasm@0.8.0 apache-arrow@21.2.0 @duckdb/node-api@1.5.6-r.1

cat >cents.mjs <<'JAVASCRIPT'
import { readFileSync, writeFileSync } from "node:fs";
import * as flechette from "@uwdata/flechette";
import parquetjs from "@dsnp/parquetjs";
import { DuckDBDecimalValue, DuckDBInstance } from "@duckdb/node-api";
import { tableFromIPC } from "apache-arrow";
import { parquetReadObjects } from "hyparquet";
import { parquetWriteBuffer } from "hyparquet-writer";
import * as wasm from "parquet-wasm";

const FILE = "amounts.parquet";
const duckdb = await (await DuckDBInstance.create()).connect();

async function withParquetjs(amounts) {
  const schema = new parquetjs.ParquetSchema({ amount: { type: "DECIMAL", precision: 10, scale: 2 } });
  const writer = await parquetjs.ParquetWriter.openFile(schema, FILE);
  for (const amount of amounts) await writer.appendRow({ amount });
  await writer.close();
}

async function withHyparquet(amounts) {
  const decimal = { type: "INT64", converted_type: "DECIMAL", precision: 10, scale: 2, repetition_type: "REQUIRED" };
  const schema = [{ name: "root", num_children: 1 }, { name: "amount", ...decimal }];
  writeFileSync(FILE, Buffer.from(parquetWriteBuffer({ columnData: [{ name: "amount", data: amounts }], schema })));
}

const withFlechette = (precision, bits) => async (amounts) => {
  const table = flechette.tableFromArrays({ amount: amounts }, { types: { amount: flechette.decimal(precision, 2, bits) } });
  const stream = flechette.tableToIPC(table, { format: "stream" });
  writeFileSync(FILE, wasm.writeParquet(wasm.Table.fromIPCStream(stream)));
};

async function withDuckdb(amounts) {
  await duckdb.run("CREATE OR REPLACE TABLE amounts (amount DECIMAL(10,2))");
  const appender = await duckdb.createAppender("amounts");
  for (const amount of amounts) {
    appender.appendDecimal(DuckDBDecimalValue.fromDouble(amount, 10, 2));
    appender.endRow();
  }
  appender.closeSync();
  await duckdb.run(`COPY amounts TO '${FILE}'`);
}

async function written(write, amounts) {
  await write(amounts);
  return (await duckdb.runAndReadAll(`SELECT amount::VARCHAR FROM '${FILE}'`)).getRowsJson().map(([amount]) => amount);
}

const WRITERS = {
  "@dsnp/parquetjs": withParquetjs,
  "hyparquet-writer": withHyparquet,
  "flechette, 64 bits": withFlechette(10, 64),
  "flechette, 32 bits": withFlechette(9, 32),
  "@duckdb/node-api": withDuckdb,
};
const cents = Array.from({ length: 20_001 }, (_, number) => number - 10_000);
for (const [name, write] of Object.entries(WRITERS)) {
  const some = await written(write, [19.99, 0.29, -1.1]);
  const bigint = write === withDuckdb ? "" : await written(write, [100n]).catch((error) => error.name);
  const all = (await written(write, cents.map((cent) => cent / 100))).map((amount) => Math.round(Number(amount) * 100));
  const sum = all.reduce((total, cent) => total + cent, 0) / 100;
  console.log([name, ...some, bigint, all.filter((cent, number) => cent !== cents[number]).length, sum].join(" | "));
}

// DuckDB writes this file, as an INT64 column.
await duckdb.run(`COPY (SELECT 12.34::DECIMAL(10,2) AS amount) TO '${FILE}' (COMPRESSION uncompressed)`);
const file = readFileSync(FILE);
const stream = wasm.readParquet(new Uint8Array(file)).intoIPCStream();
const reader = await parquetjs.ParquetReader.openFile(FILE);
const READERS = {
  "apache-arrow": tableFromIPC(stream).get(0),
  flechette: flechette.tableFromIPC(stream).get(0),
  "@dsnp/parquetjs": await reader.getCursor().next(),
  hyparquet: (await parquetReadObjects({ file: file.buffer.slice(file.byteOffset, file.byteOffset + file.length) }))[0],
  "@duckdb/node-api": (await duckdb.runAndReadAll(`FROM '${FILE}'`)).getRowObjectsJson()[0],
};
await reader.close();
for (const [name, row] of Object.entries(READERS)) console.log([name, Number(row.amount), JSON.stringify(row.amount)].join(" | "));
JAVASCRIPT
node cents.mjs | tee seen

cat >wanted <<'TEXT'
@dsnp/parquetjs | 19.98 | 0.28 | -1.11 | TypeError | 1146 | -11.46
hyparquet-writer | 19.99 | 0.29 | -1.10 | 1.00 | 0 | 0
flechette, 64 bits | 19.98 | 0.28 | -1.10 | 1.00 | 1146 | 0
flechette, 32 bits | 0.39 | 0.00 | -0.02 | 1.00 | 20000 | 0
@duckdb/node-api | 19.99 | 0.29 | -1.10 |  | 0 | 0
apache-arrow | 1234 | "\"1234\""
flechette | 12.34 | 12.34
@dsnp/parquetjs | 12.34 | 12.34
hyparquet | 12.34 | 12.34
@duckdb/node-api | 12.34 | "12.34"
TEXT
diff -u wanted seen && echo 'as recorded'
