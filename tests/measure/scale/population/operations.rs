//! What is asked of a table full of people: each step of one more life, and both ends of every list.

use local::Service;
use referrals::{http::input::Cursor, time::Timestamp};
use serde_json::{Value, json};

use super::{
    Cast, Settled, Stand, Trouble,
    mould::{record, score, shard},
};

/// An operation, and the function that does it.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) function: &'static str,
    event: Event,
}

/// What the function is sent.
enum Event {
    /// A file of `events/`, about the people of the scene.
    File(&'static str),
    /// The same about somebody who is new in every respect.
    Newcomer(&'static str),
    /// A file, when one more referral is due.
    WhenDue(&'static str),
    /// The stream's record of the scene's referral as it is.
    Record,
    /// A file that asks for so many of a list, from behind a place on.
    Page(&'static str, usize, fn(&Scene<'_>, usize) -> Option<String>),
}

const fn operation(name: &'static str, function: &'static str, event: Event) -> Operation {
    Operation { name, function, event }
}

/// All of them; each finds what those before it have left.
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
    /// Whether it is about one referrer, and so may change as their circle grows.
    pub(crate) fn is_of_referrer(&self) -> bool {
        let is_theirs =
            matches!(self.event, Event::Page("attribution-referrals-of-user" | "attribution-rewards-of-user", ..));
        is_theirs || matches!(self.name, "land" | "attribute" | "read" | "convert" | "issue" | "deliver" | "count")
    }

    /// Whether a list is long enough for this page of it to be a full one.
    pub(crate) fn fits(&self, circle: usize) -> bool {
        !matches!(self.event, Event::Page(_, limit, _) if self.is_of_referrer() && limit > circle)
    }

    /// Whether there are so many referrers that each of a board's ten shards fills this page, as in any large table.
    pub(crate) fn fits_among(&self, referrers: usize) -> bool {
        !matches!(self.event, Event::Page("admin-referrers", limit, _) if referrers < 40 * limit)
    }

    /// As the template names the function.
    pub(crate) fn logical_id(&self) -> String {
        let (first, rest) = self.function.split_at(1);
        format!("{}{rest}Function", first.to_uppercase())
    }

    /// Has happen what comes before, and gives the event.
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

/// Somebody comes by the code of somebody in the table.
pub(crate) struct Scene<'a> {
    settled: &'a Settled,
    referrer: usize,
    pub(crate) cast: Cast,
    /// Another one who comes by that code.
    other: Cast,
    newcomer: Cast,
}

impl<'a> Scene<'a> {
    /// By the code of this referrer.
    pub(crate) fn of(settled: &'a Settled, referrer: usize) -> Self {
        // Numbers beyond all that were given out, others for each referrer.
        let new = settled.population.referrals() + 2 * referrer;
        Self {
            settled,
            referrer,
            cast: Cast::of(referrer, new),
            other: Cast::of(referrer, new + 1),
            newcomer: Cast::of(settled.population.referrers() + referrer, new),
        }
    }

    pub(crate) fn circle(&self) -> usize {
        self.settled.population.circle(self.referrer).len()
    }
}

fn page(mut event: Value, limit: usize, place: Option<String>) -> Result<Value, Trouble> {
    let cursor = place.map(|place| Cursor::new(place).to_text());
    let mut asked = json!({"limit": limit.to_string(), "status": "issued", "period": "all"});
    let mut query = format!("limit={limit}&status=issued&period=all");
    if let Some(cursor) = cursor {
        query = format!("{query}&cursor={cursor}");
        asked["cursor"] = json!(cursor);
    }
    event["rawQueryString"] = json!(query);
    event["queryStringParameters"] = asked;
    Ok(event)
}

fn begin(_: &Scene<'_>, _: usize) -> Option<String> {
    None
}

/// The newest come first, so the oldest `limit` are those with the lowest numbers.
fn end_of_referrals(scene: &Scene<'_>, limit: usize) -> Option<String> {
    let before = scene.settled.population.circle(scene.referrer).nth(limit)?;
    Some(scene.settled.moulds.place(&Cast::of(scene.referrer, before)))
}

/// Partition after partition, so the end is in the last.
fn end_of_undelivered(scene: &Scene<'_>, limit: usize) -> Option<String> {
    let cast = |referee| Cast::of(0, referee).referee;
    let mut last =
        scene.settled.population.standing(Stand::OnItsWay).rev().filter(|referee| shard(&cast(*referee)) == 9);
    let before = last.nth(limit)?;
    let due_at = scene.settled.moulds.due_at(before, Stand::OnItsWay);
    Some(format!("{}#d9#{due_at}#{}", Timestamp::LAST, cast(before)))
}

/// The highest scores come first.
fn end_of_referrers(_: &Scene<'_>, limit: usize) -> Option<String> {
    Some(format!("{}#{}", score(limit), Cast::of(limit, 0).referrer))
}
