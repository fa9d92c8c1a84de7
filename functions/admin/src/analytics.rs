//! Questions about the figures: how they are asked, and the parts of an answer that several have in common.

use std::{collections::BTreeMap, str::FromStr};

use lambda_http::{Request, http::HeaderValue};
use referrals::{
    analytics::{
        Figures,
        counters::{Kind, Stage, Sum},
    },
    http::{input, problem::Problem},
    id::ProgramId,
    money::Currency,
    reward::RewardType,
};
use serde::Serialize;

/// What an answer looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Format {
    #[default]
    Json,
    Csv,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err("expected json or csv"),
        }
    }
}

impl Format {
    pub(crate) fn of(request: &Request) -> Result<Self, Problem> {
        Ok(input::parameter(request, "format")?.unwrap_or_default())
    }
}

/// The program that a path names. One that nobody was ever attributed in has no figures.
pub(crate) fn program(text: &str) -> Result<ProgramId, Problem> {
    input::parse("program", text)
}

/// A span of days or weeks, both ends among it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span<T> {
    pub(crate) from: T,
    pub(crate) to: T,
}

/// How spans of these are asked for.
pub(crate) struct Spans<T> {
    /// How many there are where the question leaves an end open.
    pub(crate) usual: i64,
    /// The most that can be asked for.
    pub(crate) most: i64,
    /// Which one lies so many behind another.
    pub(crate) plus: fn(T, i64) -> T,
    /// How many lie between two.
    pub(crate) since: fn(T, T) -> i64,
}

impl<T: Copy + FromStr<Err: std::fmt::Display>> Spans<T> {
    /// What `from` and `to` name; where both are left out, up to `now`.
    pub(crate) fn asked(&self, request: &Request, now: T) -> Result<Span<T>, Problem> {
        let (from, to) = (input::parameter(request, "from")?, input::parameter(request, "to")?);
        let span = match (from, to) {
            (Some(from), Some(to)) => Span { from, to },
            (Some(from), None) => Span { from, to: (self.plus)(from, self.usual - 1) },
            (None, to) => {
                let to = to.unwrap_or(now);
                Span { from: (self.plus)(to, 1 - self.usual), to }
            }
        };
        match (self.since)(span.to, span.from) {
            between if between < 0 => Err(Problem::invalid("from: comes after to")),
            between if between >= self.most => Err(Problem::invalid(format!("from, to: at most {}", self.most))),
            _ => Ok(span),
        }
    }

    /// Each of a span, in order.
    pub(crate) fn each(&self, span: Span<T>) -> impl Iterator<Item = T> {
        (0..=(self.since)(span.to, span.from)).map(move |place| (self.plus)(span.from, place))
    }
}

/// Rewards of one kind that got this far.
#[derive(Serialize)]
pub(crate) struct RewardsView {
    r#type: RewardType,
    currency: Option<Currency>,
    issued: Sum,
    delivered: Sum,
    /// Refused for good, and not delivered since.
    failed: Sum,
}

/// Sums of rewards by kind and stage.
pub(crate) struct ByKind(BTreeMap<Kind, BTreeMap<Stage, Sum>>);

impl ByKind {
    pub(crate) fn of(figures: &Figures) -> Self {
        let mut kinds: BTreeMap<Kind, BTreeMap<Stage, Sum>> = BTreeMap::new();
        for ((stage, kind), sum) in figures.rewards() {
            kinds.entry(kind).or_default().insert(stage, sum);
        }
        Self(kinds)
    }

    /// What `view` makes of each kind, which can look up how much got how far.
    pub(crate) fn each<V>(&self, view: impl Fn(Kind, &dyn Fn(Stage) -> Sum) -> V) -> Vec<V> {
        self.0
            .iter()
            .map(|(kind, stages)| view(*kind, &|stage| stages.get(&stage).copied().unwrap_or_default()))
            .collect()
    }
}

/// Rewards by kind, as answers show them.
pub(crate) fn rewards(figures: &Figures) -> Vec<RewardsView> {
    ByKind::of(figures).each(|Kind { r#type, currency }, at| RewardsView {
        r#type,
        currency,
        issued: at(Stage::Issued),
        delivered: at(Stage::Delivered),
        failed: at(Stage::Failed),
    })
}

/// The header that leads to the next page, for formats that have no room for it.
pub(crate) fn link_to_next(query: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("<?{query}>; rel=\"next\"")).ok()
}
