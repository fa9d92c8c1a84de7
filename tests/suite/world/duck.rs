//! DuckDB in place of Firehose and Athena: `duck.py` converts lines to Parquet and runs SQL queries.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::{Folder, not_tested};

/// A Python interpreter with the module `duckdb`.
pub(crate) struct Duck(String);

/// A request to `duck.py`.
#[derive(Serialize)]
pub(crate) struct Request<'a> {
    /// The folder of the lines (`lines/arrived=2026-01-01/0.json`), in which the Parquet files are created.
    pub(crate) folder: &'a str,
    pub(crate) table: &'a str,
    /// The columns of the table with their types, without the partition column.
    pub(crate) columns: &'a [(String, String)],
    /// The views with their SQL. Each follows the views that it uses.
    pub(crate) views: &'a [(&'static str, String)],
    /// SQL queries.
    pub(crate) queries: &'a [String],
}

/// A row with every value as text.
pub(crate) type Row = BTreeMap<String, Option<String>>;

/// The answer of `duck.py`.
#[derive(Deserialize)]
pub(crate) struct Answer {
    /// The columns of each view with their types in DuckDB.
    pub(crate) views: BTreeMap<String, Vec<(String, String)>>,
    /// The rows that each query returned.
    pub(crate) answers: Vec<Vec<Row>>,
}

impl Duck {
    /// Finds the interpreter: `DUCKDB_PYTHON`, or `python3`. Returns `None` if it has no DuckDB: the test is then skipped
    /// with a message, or fails if `REQUIRE_DUCKDB` is set, as in CI.
    pub(crate) fn find(test: &str) -> Option<Self> {
        let python = std::env::var("DUCKDB_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let import = Command::new(&python).args(["-c", "import duckdb"]).stderr(Stdio::null()).status();
        if import.is_ok_and(|status| status.success()) {
            return Some(Self(python));
        }
        not_tested(test, &format!("{python} has no duckdb (pip install duckdb; DUCKDB_PYTHON)"), "REQUIRE_DUCKDB");
        None
    }

    /// Runs `duck.py` with this request.
    pub(crate) fn run(&self, request: &Request<'_>) -> Answer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/suite/world/duck.py");
        let mut command = Command::new(&self.0);
        let command = command.args(["-B", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // `take` closes the pipe after the request.
        child.stdin.take().unwrap().write_all(&serde_json::to_vec(request).unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The lines that Firehose receives, by date of arrival.
pub(crate) struct Lines {
    folder: Folder,
    count: usize,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self { folder: Folder::new(), count: 0 }
    }

    pub(crate) fn folder(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// Writes lines to a new file of this date.
    pub(crate) fn arrive(&mut self, date: &str, lines: &[String]) {
        let folder = self.folder.path().join("lines").join(format!("arrived={date}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.json", self.count)), lines.concat()).unwrap();
        self.count += 1;
    }
}
