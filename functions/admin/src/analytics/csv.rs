//! Answers as CSV (`text/csv`, RFC 4180), for spreadsheets.

use std::collections::BTreeSet;

use lambda_http::{
    Body, Response,
    http::{HeaderValue, header::CONTENT_TYPE},
};
use referrals::{
    analytics::{
        Counters,
        counters::{self, Kind, Stage},
    },
    lambda::http::problem::Problem,
    program::Program,
    referral::VoidReason,
};

/// A table with a header line.
pub(crate) struct Csv {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// One value of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cell {
    Text(String),
    Number(i128),
    Empty,
}

/// A spreadsheet evaluates a cell that begins with one of these characters.
/// <https://owasp.org/www-community/attacks/CSV_Injection>
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

impl Cell {
    /// The cell as written. Unless `raw`, a text that a spreadsheet would evaluate gets an apostrophe in front, which makes
    /// it text. A number is never evaluated.
    fn written(&self, raw: bool) -> String {
        match self {
            Self::Text(text) if !raw && text.starts_with(FORMULA) => format!("'{text}"),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Empty => String::new(),
        }
    }
}

impl Csv {
    /// The response: for a spreadsheet, or for programs if `raw`.
    pub(crate) fn respond(&self, raw: bool) -> Result<Response<Body>, Problem> {
        let mut response = Response::new(Body::from(self.text(raw).map_err(Problem::unavailable)?));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/csv"));
        Ok(response)
    }

    fn text(&self, raw: bool) -> Result<String, Box<dyn std::error::Error>> {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns)?;
        for row in &self.rows {
            writer.write_record(row.iter().map(|cell| cell.written(raw)))?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }
}

/// The stages of rewards that are counted by day and by referrer.
const STAGES: [Stage; 4] = [Stage::Issued, Stage::Delivered, Stage::Failed, Stage::Reversed];

/// The columns of voids and rewards. They depend on the configuration and not on the rows, because pages and days must have
/// the same columns: one column per void reason, and per stage two for each configured kind of rewards and one that counts
/// the rewards of all other kinds.
pub(crate) struct Columns {
    kinds: BTreeSet<Kind>,
}

impl Columns {
    /// The columns for a program's rewards.
    pub(crate) fn of(program: &Program) -> Self {
        let promises = [program.terms.referrer, program.terms.referee];
        Self { kinds: promises.iter().map(|promise| promise.decide().into()).collect() }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let reasons = VoidReason::all().map(|reason| format!("voided_{}", reason.as_str()));
        reasons.chain(STAGES.into_iter().flat_map(|stage| {
            let of = move |kind: &Kind| ["count", "amount"].map(|sum| format!("{}_{sum}", reward_name(stage, *kind)));
            self.kinds.iter().flat_map(of).chain([format!("{}_other_count", stage.as_str())])
        }))
    }

    /// The values of these columns.
    pub(crate) fn counts(&self, counters: &Counters) -> Vec<i128> {
        let rewards = counters.rewards();
        let reasons = VoidReason::all().map(|reason| counters.get(&counters::voided(reason)));
        let sums = STAGES.into_iter().flat_map(|stage| {
            let sum = |kind: &Kind| rewards.get(&(stage, *kind)).copied().unwrap_or_default();
            let others = rewards.iter().filter(|((at, kind), _)| *at == stage && !self.kinds.contains(kind));
            let others = others.map(|(_, sum)| sum.count).sum();
            let known: Vec<_> = self.kinds.iter().map(sum).flat_map(|sum| [sum.count, sum.amount]).collect();
            known.into_iter().chain([others])
        });
        reasons.chain(sums).collect()
    }
}

fn reward_name(stage: Stage, kind: Kind) -> String {
    let currency = kind.currency.map(|currency| format!("_{currency}")).unwrap_or_default();
    format!("{}_{}{currency}", stage.as_str(), kind.r#type.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn cells_with_special_characters_are_quoted() {
        let table =
            Csv { columns: vec!["a".to_owned(), "b,c".to_owned()], rows: vec![vec![text("1 \"2\""), text("x\ny")]] };
        assert_eq!(table.text(false).unwrap(), "a,\"b,c\"\n\"1 \"\"2\"\"\",\"x\ny\"\n");
    }

    #[test]
    fn a_text_that_a_spreadsheet_would_evaluate_gets_an_apostrophe_and_a_number_never() {
        for formula in ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1"] {
            assert_eq!(text(formula).written(false), format!("'{formula}"));
            assert_eq!(text(formula).written(true), formula);
        }
        for plain in ["alice", "a-1", "1", "|x", "'x", ""] {
            assert_eq!(text(plain).written(false), plain);
        }
        assert_eq!((Cell::Number(-5).written(false), Cell::Empty.written(false)), ("-5".to_owned(), String::new()));
    }
}
