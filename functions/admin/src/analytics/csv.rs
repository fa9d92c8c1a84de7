//! Answers as CSV (`text/csv`, RFC 4180), for spreadsheets.

use std::collections::BTreeSet;

use lambda_http::{
    Body, Response,
    http::{HeaderValue, header::CONTENT_TYPE},
};
use referrals::{
    analytics::{
        Counters,
        counters::{Kind, Stage, Sum},
    },
    lambda::http::problem::Problem,
};

/// A table with a header line.
pub(crate) struct Csv {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Csv {
    /// The response.
    pub(crate) fn respond(&self) -> Result<Response<Body>, Problem> {
        let mut response = Response::new(Body::from(self.text().map_err(Problem::unavailable)?));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/csv"));
        Ok(response)
    }

    fn text(&self) -> Result<String, Box<dyn std::error::Error>> {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns)?;
        for row in &self.rows {
            writer.write_record(row)?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }
}

/// The columns that depend on the rows: one per void reason, and two per stage and kind of rewards.
pub(crate) struct Columns {
    reasons: BTreeSet<String>,
    rewards: BTreeSet<(Stage, Kind)>,
}

impl Columns {
    pub(crate) fn of<'a>(rows: impl Iterator<Item = &'a Counters>) -> Self {
        let mut columns = Self { reasons: BTreeSet::new(), rewards: BTreeSet::new() };
        for counters in rows {
            columns.reasons.extend(counters.voided().map(|(reason, _)| reason.to_owned()));
            columns.rewards.extend(counters.rewards().into_keys());
        }
        columns
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let reasons = self.reasons.iter().map(|reason| format!("voided_{reason}"));
        reasons.chain(self.rewards.iter().flat_map(|(stage, kind)| {
            let name = reward_name(*stage, *kind);
            [format!("{name}_count"), format!("{name}_amount")]
        }))
    }

    pub(crate) fn cells(&self, counters: &Counters) -> Vec<String> {
        let (voided, rewards): (std::collections::BTreeMap<_, _>, _) =
            (counters.voided().collect(), counters.rewards());
        let reasons = self.reasons.iter().map(|reason| voided.get(reason.as_str()).copied().unwrap_or_default());
        let sums = self.rewards.iter().flat_map(|of| {
            let Sum { count, amount } = rewards.get(of).copied().unwrap_or_default();
            [count, amount]
        });
        reasons.chain(sums).map(|number| number.to_string()).collect()
    }
}

fn reward_name(stage: Stage, kind: Kind) -> String {
    let currency = kind.currency.map(|currency| format!("_{currency}")).unwrap_or_default();
    format!("{}_{}{currency}", stage.as_str(), kind.r#type.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_special_characters_are_quoted() {
        let table = Csv {
            columns: vec!["a".to_owned(), "b,c".to_owned()],
            rows: vec![vec!["1 \"2\"".to_owned(), "x\ny".to_owned()]],
        };
        assert_eq!(table.text().unwrap(), "a,\"b,c\"\n\"1 \"\"2\"\"\",\"x\ny\"\n");
    }
}
