//! The operations that are measured: each step of one more referral, and both ends of every list.

use local::Service;
use referrals::{domain::time::Timestamp, lambda::http::request::Cursor};
use serde_json::{Value, json};

use super::{
    Cast, Filled, Stage, Trouble,
    samples::{record, score, shard},
};

/// An operation, and the function that does it.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) function: &'static str,
    event: Event,
}

/// The event that the function receives.
enum Event {
    /// A file of `events/`, with the ids of the scene.
    File(&'static str),
    /// The same with ids that are not in the table.
    Newcomer(&'static str),
    /// A file, after one more referral became due.
    WhenDue(&'static str),
    /// The stream record of the scene's referral in its present state.
    Record,
    /// A file that requests a page of a list: the limit, and the position after which the page begins.
    Page(&'static str, usize, fn(&Scene<'_>, usize) -> Option<String>),
}

const fn operation(name: &'static str, function: &'static str, event: Event) -> Operation {
    Operation { name, function, event }
}

/// All operations, in sequence: each one continues with the results of those before it.
pub(crate) const OPERATIONS: [Operation; 20] = [
    operation("mint", "attribution", Event::Newcomer("attribution-mint")),
    operation("land", "attribution", Event::File("attribution-land")),
    operation("attribute", "attribution", Event::File("attribution-attribute")),
    operation("read", "attribution", Event::File("attribution-referral")),
    operation("convert", "conversion", Event::File("conversion-order-completed")),
    operation("repeat", "conversion", Event::File("conversion-order-completed")),
    operation("issue", "rewards", Event::Record),
    operation("deliver", "delivery", Event::File("delivery-queue")),
    operation("count", "analytics", Event::Record),
    operation("sweep", "sweep", Event::WhenDue("sweep-schedule")),
    operation("one referral", "attribution", Event::Page("attribution-referrals-of-user", 1, begin)),
    operation("referrals, begin", "attribution", Event::Page("attribution-referrals-of-user", 50, begin)),
    operation("referrals, end", "attribution", Event::Page("attribution-referrals-of-user", 50, end_of_referrals)),
    operation("rewards, begin", "attribution", Event::Page("attribution-rewards-of-user", 50, begin)),
    operation("rewards, end", "attribution", Event::Page("attribution-rewards-of-user", 50, end_of_referrals)),
    operation("undelivered, begin", "admin", Event::Page("admin-undelivered", 5, begin)),
    operation("undelivered, end", "admin", Event::Page("admin-undelivered", 5, end_of_undelivered)),
    operation("referrers, begin", "admin", Event::Page("admin-referrers", 5, begin)),
    operation("referrers, end", "admin", Event::Page("admin-referrers", 5, end_of_referrers)),
    operation("liability", "admin", Event::File("admin-liability")),
];

impl Operation {
    /// Whether the operation is about one referrer, so that its cost might depend on the number of their referees.
    pub(crate) fn is_of_referrer(&self) -> bool {
        let is_theirs =
            matches!(self.event, Event::Page("attribution-referrals-of-user" | "attribution-rewards-of-user", ..));
        is_theirs || matches!(self.name, "land" | "attribute" | "read" | "convert" | "issue" | "deliver" | "count")
    }

    /// Whether a list of `referees` entries fills this page.
    pub(crate) fn fits(&self, referees: usize) -> bool {
        !matches!(self.event, Event::Page(_, limit, _) if self.is_of_referrer() && limit > referees)
    }

    /// Whether there are enough referrers that each of a leaderboard's ten shards fills this page, as in any large table.
    pub(crate) fn fits_among(&self, referrers: usize) -> bool {
        !matches!(self.event, Event::Page("admin-referrers", limit, _) if referrers < 40 * limit)
    }

    /// The logical id of the function in the template.
    pub(crate) fn logical_id(&self) -> String {
        let (first, rest) = self.function.split_at(1);
        format!("{}{rest}Function", first.to_uppercase())
    }

    /// Does what has to happen before, and returns the event.
    pub(crate) async fn prepare(&self, service: &Service, scene: &Scene<'_>) -> Result<Value, Trouble> {
        match self.event {
            Event::File(file) => scene.cast.event(file),
            Event::Newcomer(file) => scene.newcomer.event(file),
            Event::WhenDue(file) => {
                service.invoke("AttributionFunction", scene.other.event("attribution-attribute")?).await?;
                service.invoke("ConversionFunction", scene.other.event("conversion-order-completed")?).await?;
                scene.other.event(file)
            }
            Event::Record => record(service, &scene.cast).await,
            Event::Page(file, limit, place) => page(scene.cast.event(file)?, limit, place(scene, limit)),
        }
    }
}

/// A new referee who signs up with the code of a referrer in the table.
pub(crate) struct Scene<'a> {
    filled: &'a Filled,
    referrer: usize,
    pub(crate) cast: Cast,
    /// Another new referee with that code.
    other: Cast,
    newcomer: Cast,
}

impl<'a> Scene<'a> {
    /// The scene for the code of this referrer.
    pub(crate) fn of(filled: &'a Filled, referrer: usize) -> Self {
        // Numbers that are not in the table, different for each referrer.
        let new = filled.population.referrals() + 2 * referrer;
        Self {
            filled,
            referrer,
            cast: Cast::of(referrer, new),
            other: Cast::of(referrer, new + 1),
            newcomer: Cast::of(filled.population.referrers() + referrer, new),
        }
    }

    /// The number of this referrer's referees.
    pub(crate) fn referees(&self) -> usize {
        self.filled.population.referees_of(self.referrer).len()
    }
}

fn page(mut event: Value, limit: usize, place: Option<String>) -> Result<Value, Trouble> {
    let cursor = place.map(|place| Cursor::new(place).to_text());
    let mut parameters = json!({"limit": limit.to_string(), "status": "issued", "period": "all"});
    let mut query = format!("limit={limit}&status=issued&period=all");
    if let Some(cursor) = cursor {
        query = format!("{query}&cursor={cursor}");
        parameters["cursor"] = json!(cursor);
    }
    event["rawQueryString"] = json!(query);
    event["queryStringParameters"] = parameters;
    Ok(event)
}

fn begin(_: &Scene<'_>, _: usize) -> Option<String> {
    None
}

/// The newest referrals come first, so the oldest `limit` have the lowest numbers.
fn end_of_referrals(scene: &Scene<'_>, limit: usize) -> Option<String> {
    let before = scene.filled.population.referees_of(scene.referrer).nth(limit)?;
    Some(scene.filled.samples.place(&Cast::of(scene.referrer, before)))
}

/// The list goes through the partitions in sequence, so its end is in the last one.
fn end_of_undelivered(scene: &Scene<'_>, limit: usize) -> Option<String> {
    let cast = |referee| Cast::of(0, referee).referee;
    let mut last =
        scene.filled.population.at_stage(Stage::OnItsWay).rev().filter(|referee| shard(&cast(*referee)) == 9);
    let before = last.nth(limit)?;
    let due_at = scene.filled.samples.due_at(before, Stage::OnItsWay);
    Some(format!("{}#d9#{due_at}#{}", Timestamp::LAST, cast(before)))
}

/// The highest scores come first.
fn end_of_referrers(_: &Scene<'_>, limit: usize) -> Option<String> {
    Some(format!("{}#{}", score(limit), Cast::of(limit, 0).referrer))
}
