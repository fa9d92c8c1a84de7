//! A table with many referrers and their referees, filled with the items that our own code writes. One referral goes through
//! the functions; the others are copies of its items with other ids.

mod cast;
mod operations;
mod samples;

use std::{error::Error, path::Path, time::Duration};

use dynoxide::{Database, ImportOptions, types::Item};
use local::{Options, Service};
use referrals::domain::time::Timestamp;

pub(crate) use cast::Cast;
pub(crate) use operations::{OPERATIONS, Operation, Scene};
use samples::Samples;
pub(crate) use samples::{Stage, shard};

/// The reason why a table cannot be filled.
pub(crate) type Trouble = Box<dyn Error + Send + Sync>;

/// The number of referrals of the first referrer, enough for two pages of any list, and of each other referrer.
const REFERRALS: [usize; 2] = [100, 10];

/// The referrers and referees of a table. Referees are numbered across all referrers.
#[derive(Clone)]
pub(crate) struct Population {
    /// The number of referrals of each referrer.
    by_referrer: Vec<usize>,
    stage: fn(usize) -> Stage,
}

/// The contents of a filled table.
pub(crate) struct Filled {
    pub(crate) population: Population,
    /// The number of items that were written.
    pub(crate) items: usize,
    pub(crate) samples: Samples,
}

impl Population {
    /// `referrals` referrals at the stages that are usual in a table that has been in use for a while.
    pub(crate) fn of(referrals: usize) -> Self {
        let [first, other] = REFERRALS;
        let others = vec![other; referrals.saturating_sub(first) / other];
        Self::of_referrers([vec![first.min(referrals)], others].concat())
    }

    /// Referrers with these numbers of referrals.
    pub(crate) fn of_referrers(by_referrer: Vec<usize>) -> Self {
        Self { by_referrer, stage: Stage::usual }
    }

    /// `referrals` referrals that are all due.
    pub(crate) fn due(referrals: usize) -> Self {
        let [each, _] = REFERRALS;
        Self { by_referrer: vec![each; referrals / each], stage: |_| Stage::Due }
    }

    /// `referrals` referrals, of which those in one partition of the index `work` are due.
    pub(crate) fn due_in_one_partition(referrals: usize) -> Self {
        let stage = |referee| match shard(&Cast::of(0, referee).referee) {
            0 => Stage::Due,
            _ => Stage::Delivered,
        };
        Self { by_referrer: vec![referrals], stage }
    }

    pub(crate) fn referrals(&self) -> usize {
        self.by_referrer.iter().sum()
    }

    /// The numbers of a referrer's referees.
    pub(crate) fn referees_of(&self, referrer: usize) -> std::ops::Range<usize> {
        let begin = self.by_referrer[..referrer].iter().sum();
        begin..begin + self.by_referrer[referrer]
    }

    /// The numbers of the referees whose referral is at this stage.
    pub(crate) fn at_stage(&self, stage: Stage) -> impl DoubleEndedIterator<Item = usize> {
        let of = self.stage;
        (0..self.referrals()).filter(move |referee| of(*referee) == stage)
    }

    pub(crate) fn referrers(&self) -> usize {
        self.by_referrer.len()
    }

    /// Makes the tables in this folder and fills them.
    pub(crate) async fn fill(self, folder: &Path) -> Result<Filled, Trouble> {
        let samples = Samples::collect(folder).await?;
        let database = Database::new(&folder.join("dynamodb.sqlite").display().to_string())?;
        database.enable_bulk_loading()?;
        let mut writer = Writer { database, samples: &samples, waiting: [Vec::new(), Vec::new()], written: 0 };
        for referrer in 0..self.referrers() {
            writer.referrer(referrer)?;
            for referee in self.referees_of(referrer) {
                writer.referral(referrer, referee, (self.stage)(referee))?;
            }
        }
        writer.flush(0)?;
        let items = writer.written;
        Ok(Filled { population: self, items, samples })
    }
}

/// Starts the service on the tables in this folder, without its stream and its schedule.
pub(crate) async fn serve(folder: &Path, change: impl FnOnce(&mut Options)) -> Result<Service, Trouble> {
    let mut options = Options { data: Some(folder.to_owned()), ..Options::default() };
    (options.pace.stream, options.pace.schedule) = (false, false);
    options.pace.delay = Duration::from_secs(3600);
    // Issued rewards stay within the grace period during the whole measurement.
    let env = std::mem::take(&mut options.env).with("GRACE_SECONDS", "86400");
    // The orders in `events/` are as old as the files.
    options.env = env.with("ORDER_LEAD_SECONDS", "3153600000").with("DELAY_SECONDS", "0");
    change(&mut options);
    Ok(Service::start(options).await?)
}

/// Writes items in large transactions.
struct Writer<'a> {
    database: Database,
    samples: &'a Samples,
    /// Items of the main table, and of the analytics table.
    waiting: [Vec<Item>; 2],
    written: usize,
}

impl Writer<'_> {
    const AT_ONCE: usize = 10_000;

    fn referrer(&mut self, referrer: usize) -> Result<(), Trouble> {
        let [table, analytics] = self.samples.referrer(referrer);
        self.write(table, analytics)
    }

    fn referral(&mut self, referrer: usize, referee: usize, stage: Stage) -> Result<(), Trouble> {
        let [item, facts] = self.samples.referral(&Cast::of(referrer, referee), referee, stage);
        // Where many referrals are due, `analytics` is late, too.
        self.write([item], (stage != Stage::Due).then_some(facts))
    }

    fn write(
        &mut self,
        table: impl IntoIterator<Item = Item>,
        analytics: impl IntoIterator<Item = Item>,
    ) -> Result<(), Trouble> {
        self.waiting[0].extend(table);
        self.waiting[1].extend(analytics);
        self.flush(Self::AT_ONCE)
    }

    /// Writes the waiting items of a table if there are more than `more_than`.
    fn flush(&mut self, more_than: usize) -> Result<(), Trouble> {
        for (waiting, table) in self.waiting.iter_mut().zip(&self.samples.tables) {
            if waiting.len() > more_than {
                self.written += waiting.len();
                self.database.import_items(table, std::mem::take(waiting), ImportOptions::default())?;
            }
        }
        Ok(())
    }
}

/// The time `millis` milliseconds after `moment`.
fn later(moment: Timestamp, millis: usize) -> Timestamp {
    moment.plus(Duration::from_millis(millis as u64))
}
