//! Analytics queries: their parameters, and the parts that several answers have in common.

use std::{collections::BTreeMap, str::FromStr};

use lambda_http::{Request, http::HeaderValue};
use referrals::{
    analytics::{
        Counters,
        counters::{Kind, Stage, Sum},
    },
    domain::{id::ProgramId, money::Currency},
    lambda::http::{problem::Problem, request},
    referral::reward::RewardType,
};
use serde::Serialize;

use crate::{App, problem::program_not_found};

/// The format of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Format {
    #[default]
    Json,
    /// A table for a spreadsheet, or for programs if `raw`.
    Csv { raw: bool },
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv { raw: false }),
            _ => Err("expected json or csv"),
        }
    }
}

impl Format {
    pub(crate) fn of(request: &Request) -> Result<Self, Problem> {
        let raw = request::parameter(request, "raw")?.unwrap_or_default();
        Ok(match request::parameter(request, "format")?.unwrap_or_default() {
            Self::Json => Self::Json,
            Self::Csv { .. } => Self::Csv { raw },
        })
    }
}

/// Parses the program in a path.
pub(crate) fn program(text: &str) -> Result<ProgramId, Problem> {
    request::parse("program", text)
}

/// Refuses a program that is neither configured nor counted, because a row of zeros would hide a mistyped program.
pub(crate) async fn require_known(app: &App, program: &ProgramId) -> Result<(), Problem> {
    let is_known = app.program.id == *program || app.analytics.has_counted(program).await?;
    is_known.then_some(()).ok_or_else(program_not_found)
}

/// A range of days or weeks, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span<T> {
    pub(crate) from: T,
    pub(crate) to: T,
}

/// The rules for ranges of one unit: days or weeks.
pub(crate) struct Spans<T> {
    /// The length of the range when the request does not name both ends.
    pub(crate) default: i64,
    /// The maximum length.
    pub(crate) maximum: i64,
    /// Adds units.
    pub(crate) plus: fn(T, i64) -> T,
    /// The number of units from the second to the first.
    pub(crate) since: fn(T, T) -> i64,
}

impl<T: Copy + FromStr<Err: std::fmt::Display>> Spans<T> {
    /// The range that the parameters `from` and `to` describe. Without `to`, it ends at `now` or has the default length.
    pub(crate) fn parse(&self, request: &Request, now: T) -> Result<Span<T>, Problem> {
        let (from, to) = (request::parameter(request, "from")?, request::parameter(request, "to")?);
        let span = match (from, to) {
            (Some(from), Some(to)) => Span { from, to },
            (Some(from), None) => Span { from, to: (self.plus)(from, self.default - 1) },
            (None, to) => {
                let to = to.unwrap_or(now);
                Span { from: (self.plus)(to, 1 - self.default), to }
            }
        };
        match (self.since)(span.to, span.from) {
            between if between < 0 => Err(Problem::invalid("from: is later than to")),
            between if between >= self.maximum => Err(Problem::invalid(format!("from, to: at most {}", self.maximum))),
            _ => Ok(span),
        }
    }

    /// Every day or week of a range, in order.
    pub(crate) fn each(&self, span: Span<T>) -> impl Iterator<Item = T> {
        (0..=(self.since)(span.to, span.from)).map(move |place| (self.plus)(span.from, place))
    }
}

/// Rewards of one kind, by stage.
#[derive(Serialize)]
pub(crate) struct RewardsView {
    r#type: RewardType,
    currency: Option<Currency>,
    currency_exponent: Option<u16>,
    issued: Sum,
    delivered: Sum,
    /// Refused permanently, and not delivered since.
    failed: Sum,
    /// Taken back, whether or not it had been delivered.
    reversed: Sum,
}

/// Sums of rewards by kind and stage.
pub(crate) struct ByKind(BTreeMap<Kind, BTreeMap<Stage, Sum>>);

impl ByKind {
    pub(crate) fn of(counters: &Counters) -> Self {
        let mut kinds: BTreeMap<Kind, BTreeMap<Stage, Sum>> = BTreeMap::new();
        for ((stage, kind), sum) in counters.rewards() {
            kinds.entry(kind).or_default().insert(stage, sum);
        }
        Self(kinds)
    }

    /// Calls `view` for each kind with a function that returns the sum of a stage.
    pub(crate) fn each<V>(&self, view: impl Fn(Kind, &dyn Fn(Stage) -> Sum) -> V) -> Vec<V> {
        self.0
            .iter()
            .map(|(kind, stages)| view(*kind, &|stage| stages.get(&stage).copied().unwrap_or_default()))
            .collect()
    }
}

/// The rewards by kind, for an answer.
pub(crate) fn rewards(counters: &Counters) -> Vec<RewardsView> {
    ByKind::of(counters).each(|Kind { r#type, currency }, at| RewardsView {
        r#type,
        currency,
        currency_exponent: currency.and_then(Currency::exponent),
        issued: at(Stage::Issued),
        delivered: at(Stage::Delivered),
        failed: at(Stage::Failed),
        reversed: at(Stage::Reversed),
    })
}

/// The `Link` header to the next page, for formats that cannot contain a cursor.
pub(crate) fn link_to_next(query: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("<?{query}>; rel=\"next\"")).ok()
}
