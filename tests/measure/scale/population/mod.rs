//! A table full of people: referrers, each with a circle of referees, and of every one of them the items that our own code
//! writes. One life is lived through the functions; the others are cast in its moulds.

mod mould;
mod operations;
mod people;

use std::{error::Error, path::Path, time::Duration};

use dynoxide::{Database, ImportOptions, types::Item};
use local::{Options, Service};
use referrals::time::Timestamp;

use mould::Moulds;
pub(crate) use mould::{Stand, shard};
pub(crate) use operations::{OPERATIONS, Operation, Scene};
pub(crate) use people::Cast;

/// Why there is no such table.
pub(crate) type Trouble = Box<dyn Error + Send + Sync>;

/// How many referrals the first referrer has, for two pages of any list, and how many each of the others.
const CIRCLES: [usize; 2] = [100, 10];

/// Who is to be in a table: the people of each circle are numbered on from those of the circle before.
#[derive(Clone)]
pub(crate) struct Population {
    circles: Vec<usize>,
    stand: fn(usize) -> Stand,
}

/// What there is in a table now.
pub(crate) struct Settled {
    pub(crate) population: Population,
    /// How many items were written.
    pub(crate) items: usize,
    pub(crate) moulds: Moulds,
}

impl Population {
    /// So many referrals, as far as they are in a table that has been in use for a while.
    pub(crate) fn of(referrals: usize) -> Self {
        let [first, other] = CIRCLES;
        let others = vec![other; referrals.saturating_sub(first) / other];
        Self::in_circles([vec![first.min(referrals)], others].concat())
    }

    /// Referrers with so many referrals each.
    pub(crate) fn in_circles(circles: Vec<usize>) -> Self {
        Self { circles, stand: Stand::usual }
    }

    /// So many referrals that are all due.
    pub(crate) fn due(referrals: usize) -> Self {
        let [circle, _] = CIRCLES;
        Self { circles: vec![circle; referrals / circle], stand: |_| Stand::Due }
    }

    /// So many referrals, of which those in one partition of the index of work are due.
    pub(crate) fn due_in_one_partition(referrals: usize) -> Self {
        let stand = |referee| match shard(&Cast::of(0, referee).referee) {
            0 => Stand::Due,
            _ => Stand::Delivered,
        };
        Self { circles: vec![referrals], stand }
    }

    pub(crate) fn referrals(&self) -> usize {
        self.circles.iter().sum()
    }

    /// The numbers of a circle's referees.
    pub(crate) fn circle(&self, referrer: usize) -> std::ops::Range<usize> {
        let begin = self.circles[..referrer].iter().sum();
        begin..begin + self.circles[referrer]
    }

    /// Those among the referees whose referral stands so, by number.
    pub(crate) fn standing(&self, stand: Stand) -> impl DoubleEndedIterator<Item = usize> {
        let of = self.stand;
        (0..self.referrals()).filter(move |referee| of(*referee) == stand)
    }

    pub(crate) fn referrers(&self) -> usize {
        self.circles.len()
    }

    /// Makes the tables in this folder and fills them.
    pub(crate) async fn settle(self, folder: &Path) -> Result<Settled, Trouble> {
        let moulds = Moulds::live(folder).await?;
        let database = Database::new(&folder.join("dynamodb.sqlite").display().to_string())?;
        database.enable_bulk_loading()?;
        let mut writer = Writer { database, moulds: &moulds, waiting: [Vec::new(), Vec::new()], written: 0 };
        for referrer in 0..self.referrers() {
            writer.referrer(referrer)?;
            for referee in self.circle(referrer) {
                writer.referral(referrer, referee, (self.stand)(referee))?;
            }
        }
        writer.flush(0)?;
        let items = writer.written;
        Ok(Settled { population: self, items, moulds })
    }
}

/// Starts the service on what is in this folder. Nothing happens there unless it is asked to.
pub(crate) async fn serve(folder: &Path, change: impl FnOnce(&mut Options)) -> Result<Service, Trouble> {
    let mut options = Options { data: Some(folder.to_owned()), ..Options::default() };
    (options.pace.stream, options.pace.schedule) = (false, false);
    options.pace.delay = Duration::from_secs(3600);
    // What is issued stays young for as long as anybody measures.
    options.env = std::mem::take(&mut options.env).with("GRACE_SECONDS", "86400");
    change(&mut options);
    Ok(Service::start(options).await?)
}

/// Writes items in large transactions.
struct Writer<'a> {
    database: Database,
    moulds: &'a Moulds,
    /// Items of the operational table, and of the metrics table.
    waiting: [Vec<Item>; 2],
    written: usize,
}

impl Writer<'_> {
    const AT_ONCE: usize = 10_000;

    fn referrer(&mut self, referrer: usize) -> Result<(), Trouble> {
        let [table, metrics] = self.moulds.referrer(referrer);
        self.write(table, metrics)
    }

    fn referral(&mut self, referrer: usize, referee: usize, stand: Stand) -> Result<(), Trouble> {
        let [item, facts] = self.moulds.referral(&Cast::of(referrer, referee), referee, stand);
        // Where many are due, `analytics` is as late as everybody else.
        self.write([item], (stand != Stand::Due).then_some(facts))
    }

    fn write(
        &mut self,
        table: impl IntoIterator<Item = Item>,
        metrics: impl IntoIterator<Item = Item>,
    ) -> Result<(), Trouble> {
        self.waiting[0].extend(table);
        self.waiting[1].extend(metrics);
        self.flush(Self::AT_ONCE)
    }

    /// Writes what waits, if it is more than so many.
    fn flush(&mut self, more_than: usize) -> Result<(), Trouble> {
        for (waiting, table) in self.waiting.iter_mut().zip(&self.moulds.tables) {
            if waiting.len() > more_than {
                self.written += waiting.len();
                self.database.import_items(table, std::mem::take(waiting), ImportOptions::default())?;
            }
        }
        Ok(())
    }
}

/// So long after this moment.
fn later(moment: Timestamp, millis: usize) -> Timestamp {
    moment.plus(Duration::from_millis(millis as u64))
}
