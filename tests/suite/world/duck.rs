//! DuckDB, in the place of Firehose and Athena: `duck.py` makes Parquet of lines and answers in SQL.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::{Folder, not_tested};

/// A Python that has DuckDB.
pub(crate) struct Duck(String);

/// What is asked.
#[derive(Serialize)]
pub(crate) struct Request<'a> {
    /// Where lines are (`lines/arrived=2026-01-01/0.json`), and files will be.
    pub(crate) folder: &'a str,
    /// The table's name.
    pub(crate) table: &'a str,
    /// Its columns with their types, but for the partition.
    pub(crate) columns: &'a [(String, String)],
    /// Views with their SQL, each behind those that it builds on.
    pub(crate) views: &'a [(&'static str, String)],
    /// In SQL.
    pub(crate) questions: &'a [String],
}

/// A row, each value as text.
pub(crate) type Row = BTreeMap<String, Option<String>>;

/// What comes of it.
#[derive(Deserialize)]
pub(crate) struct Answer {
    /// The columns of each view, with DuckDB's types.
    pub(crate) views: BTreeMap<String, Vec<(String, String)>>,
    /// The rows that each question has for an answer.
    pub(crate) answers: Vec<Vec<Row>>,
}

impl Duck {
    /// The Python that `DUCKDB_PYTHON` names, or `python3`. `None` where it has no DuckDB, which is said aloud, and is
    /// a failure where `REQUIRE_DUCKDB` is set, as it is in CI.
    pub(crate) fn find(test: &str) -> Option<Self> {
        let python = std::env::var("DUCKDB_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let import = Command::new(&python).args(["-c", "import duckdb"]).stderr(Stdio::null()).status();
        if import.is_ok_and(|status| status.success()) {
            return Some(Self(python));
        }
        not_tested(test, &format!("{python} has no duckdb (pip install duckdb; DUCKDB_PYTHON)"), "REQUIRE_DUCKDB");
        None
    }

    /// Asks.
    pub(crate) fn ask(&self, request: &Request<'_>) -> Answer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/suite/world/duck.py");
        let mut command = Command::new(&self.0);
        let command = command.args(["-B", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Taken, so that it ends with the request.
        child.stdin.take().unwrap().write_all(&serde_json::to_vec(request).unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The lines that Firehose is given, by the date on which they arrive.
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

    /// Puts lines into one more file of a date.
    pub(crate) fn arrive(&mut self, date: &str, lines: &[String]) {
        let folder = self.folder.path().join("lines").join(format!("arrived={date}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.json", self.count)), lines.concat()).unwrap();
        self.count += 1;
    }
}
