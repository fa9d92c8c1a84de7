//! Samples: the items of one real referral, which are copied for all others.

use std::{collections::HashMap, path::Path, time::Duration};

use dynoxide::types::{AttributeValue, Item};
use local::Service;
use referrals::{
    analytics::items::{BOARD, SCORE},
    domain::time::Timestamp,
    referral::Lane,
    store::keys::{self, DUE_AT, Key, PK, REFERRED_AT, WORK, WORK_SHARDS},
};
use serde_json::{Value, json};

use super::{Cast, Trouble, later, serve};

/// The stage of a referral.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stage {
    Pending,
    /// Converted, and on hold for a long time.
    Held,
    /// Converted, and due for an hour.
    Due,
    /// Its rewards are on their way; the sweep looks at them in two hours.
    OnItsWay,
    Delivered,
}

impl Stage {
    /// Of ten referrals one is pending, one is on hold, the rewards of one are on their way, and the others are delivered.
    pub(crate) fn usual(referee: usize) -> Self {
        match referee % 10 {
            0 => Self::Pending,
            1 => Self::Held,
            2 => Self::OnItsWay,
            _ => Self::Delivered,
        }
    }
}

/// A sample of every item of a referrer and of a referral.
pub(crate) struct Samples {
    /// The names of the main table and of the analytics table.
    pub(crate) tables: [String; 2],
    /// The ids in the samples.
    first: Cast,
    referrer: [Vec<Item>; 2],
    referral: HashMap<Stage, Item>,
    facts: Item,
    now: Timestamp,
}

impl Samples {
    /// Takes one referral through its life, on tables that are made in this folder.
    pub(crate) async fn collect(folder: &Path) -> Result<Self, Trouble> {
        let service = serve(folder, |_| ()).await?;
        let tables = [
            service.env().required("TABLE_NAME")?.to_owned(),
            service.env().required("METRICS_TABLE_NAME")?.to_owned(),
        ];
        let first = Cast::of(999_999_999, 999_999_999);
        let mut life = Life { service: &service, tables: &tables, cast: &first };
        life.invoke("AttributionFunction", first.event("attribution-mint-vanity")?).await?;
        life.invoke("AttributionFunction", first.event("attribution-attribute")?).await?;
        let pending = life.referral().await?;
        life.invoke("ConversionFunction", first.event("conversion-order-completed")?).await?;
        let converted = life.referral().await?;
        life.invoke("SweepFunction", first.event("sweep-schedule")?).await?;
        let issued = life.referral().await?;
        life.deliver().await?;
        let delivered = life.referral().await?;
        life.invoke("AnalyticsFunction", record(&service, &first).await?).await?;
        let [table, analytics] = life.items().await?;
        service.stop().await;

        let now = due_at(&converted)?;
        let is_named = |item: &&Item, name: &str| {
            item.values().any(|value| matches!(value, AttributeValue::S(text) if text.contains(name)))
        };
        let of = |items: &[Item], name: &str, unless: &str| -> Vec<Item> {
            items.iter().filter(|item| is_named(item, name) && !is_named(item, unless)).cloned().collect()
        };
        let referrer = [of(&table, &first.referrer, &first.referee), of(&analytics, &first.referrer, &first.referee)];
        let facts = of(&analytics, &first.referee, "\0").pop().ok_or("no facts were recorded")?;
        let referral = HashMap::from([
            (Stage::Pending, pending),
            (Stage::Held, converted.clone()),
            (Stage::Due, converted),
            (Stage::OnItsWay, issued),
            (Stage::Delivered, delivered),
        ]);
        Ok(Self { tables, first, referrer, referral, facts, now })
    }

    /// All items of a referrer, in both tables.
    pub(crate) fn referrer(&self, referrer: usize) -> [Vec<Item>; 2] {
        let cast = Cast::of(referrer, 0);
        self.referrer
            .each_ref()
            .map(|items| items.iter().map(|item| on_board(self.copy(item, &cast), &cast, referrer)).collect())
    }

    /// A referral's item, and its facts.
    pub(crate) fn referral(&self, cast: &Cast, referee: usize, stage: Stage) -> [Item; 2] {
        let mut item = self.copy(&self.referral[&stage], cast);
        if item.contains_key(WORK) {
            item.insert(WORK.to_owned(), text(keys::work_partition(Lane::Due, shard(&cast.referee))));
            item.insert(DUE_AT.to_owned(), text(self.due_at(referee, stage).to_string()));
        }
        [item, self.copy(&self.facts, cast)]
    }

    /// The stream record of a referral that went from one stage to another.
    pub(crate) fn record(
        &self,
        cast: &Cast,
        referee: usize,
        before: Option<Stage>,
        after: Stage,
    ) -> Result<Value, Trouble> {
        let image = |stage| serde_json::to_value(&self.referral(cast, referee, stage)[0]);
        let mut record = cast.event("rewards-stream")?["Records"][0].take();
        if let Some(before) = before {
            record["eventName"] = json!("MODIFY");
            record["dynamodb"]["OldImage"] = image(before)?;
        }
        record["dynamodb"]["NewImage"] = image(after)?;
        Ok(record)
    }

    /// The time at which the sweep looks at this referral.
    pub(crate) fn due_at(&self, referee: usize, stage: Stage) -> Timestamp {
        const HOUR: Duration = Duration::from_secs(3600);
        let from = match stage {
            Stage::Due => Timestamp::from_millis(self.now.millis() - 3_600_000).unwrap_or(self.now),
            Stage::Held => self.now.plus(HOUR * 24 * 30),
            _ => self.now.plus(HOUR * 2),
        };
        later(from, referee)
    }

    /// A referral's sort key in the list of its referrer.
    pub(crate) fn place(&self, cast: &Cast) -> String {
        match self.referral[&Stage::Pending].get(REFERRED_AT) {
            Some(AttributeValue::S(place)) => cast.replace(&self.first, place),
            _ => String::new(),
        }
    }

    /// A sample with the ids of `cast`.
    fn copy(&self, sample: &Item, cast: &Cast) -> Item {
        let mut item = sample.clone();
        for value in item.values_mut() {
            if let AttributeValue::S(text) = value {
                *text = cast.replace(&self.first, text);
            }
        }
        item
    }
}

/// Gives a referrer's item a distinct score, if it is on a leaderboard.
fn on_board(mut item: Item, cast: &Cast, referrer: usize) -> Item {
    if let Some(AttributeValue::S(board)) = item.get(BOARD) {
        let board = board.rsplit_once('#').map_or("", |(board, _)| board);
        let board = text(format!("{board}#{}", shard(&cast.referrer)));
        item.insert(BOARD.to_owned(), board);
        item.insert(SCORE.to_owned(), AttributeValue::N(score(referrer)));
    }
    item
}

/// The score of one net conversion, with the referrer's number as the tie-break.
pub(crate) fn score(referrer: usize) -> String {
    format!("1{referrer:018}")
}

pub(crate) fn shard(user: &str) -> u32 {
    user.parse().map(|user| keys::shard_of(&user, WORK_SHARDS)).unwrap_or_default()
}

fn text(text: String) -> AttributeValue {
    AttributeValue::S(text)
}

fn due_at(item: &Item) -> Result<Timestamp, Trouble> {
    match item.get(DUE_AT) {
        Some(AttributeValue::S(at)) => Ok(at.parse()?),
        _ => Err("the converted referral has no due time".into()),
    }
}

/// The referral that goes through the functions.
struct Life<'a> {
    service: &'a Service,
    tables: &'a [String; 2],
    cast: &'a Cast,
}

impl Life<'_> {
    async fn invoke(&mut self, function: &str, event: Value) -> Result<(), Trouble> {
        self.service.invoke(function, event).await?;
        Ok(())
    }

    async fn deliver(&mut self) -> Result<(), Trouble> {
        let text = self.cast.event("delivery-queue")?.to_string();
        for side in ["referrer", "referee"] {
            let event =
                text.replace(&format!("{}:referrer", self.cast.referee), &format!("{}:{side}", self.cast.referee));
            self.invoke("DeliveryFunction", serde_json::from_str(&event)?).await?;
        }
        Ok(())
    }

    async fn referral(&self) -> Result<Item, Trouble> {
        Ok(serde_json::from_value(image(self.service, self.cast).await?)?)
    }

    /// All items of both tables.
    async fn items(&self) -> Result<[Vec<Item>; 2], Trouble> {
        let [table, analytics] = self.tables;
        Ok([self.scan(table).await?, self.scan(analytics).await?])
    }

    async fn scan(&self, table: &str) -> Result<Vec<Item>, Trouble> {
        let items = self.service.dynamodb().scan().table_name(table).send().await?.items.unwrap_or_default();
        items.into_iter().map(|item| Ok(serde_json::from_value(json_of(item)?)?)).collect()
    }
}

fn json_of(item: keys::Item) -> Result<Value, Trouble> {
    Ok(serde_json::to_value(serde_dynamo::Item::from(item))?)
}

/// The item of this referral, as a stream record shows it.
async fn image(service: &Service, cast: &Cast) -> Result<Value, Trouble> {
    let key = Key::referral(&cast.referee.parse()?).attributes();
    let read = service.dynamodb().get_item().table_name(service.env().required("TABLE_NAME")?).set_key(Some(key));
    json_of(read.consistent_read(true).send().await?.item.ok_or("there is no such referral")?)
}

/// The stream record of this referral in its present state.
pub(crate) async fn record(service: &Service, cast: &Cast) -> Result<Value, Trouble> {
    let image = image(service, cast).await?;
    let mut batch = cast.event("rewards-stream")?;
    let record = &mut batch["Records"][0];
    record["dynamodb"]["Keys"][PK] = image[PK].clone();
    record["dynamodb"]["NewImage"] = image;
    record["eventName"] = json!("MODIFY");
    Ok(batch)
}
