//! Budgets: the counted costs of a step, compared with the costs that are recorded for a build of the same name.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Trouble, callgrind,
    function::{Function, Running},
    scratch::Scratch,
    store::Store,
};

/// The costs of a step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// Bytes of the binary.
    binary: u64,
    /// Instructions until the function requests its first invocation, of the first call, and of a warm call.
    start: u64,
    first: u64,
    warm: u64,
    /// The maximum memory, in bytes, after a few calls.
    resident: u64,
    /// The traffic of a warm call.
    round_trips: usize,
    write_units: f64,
    read_units: f64,
    bytes_sent: usize,
}

/// The recorded costs, by build and step.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Budgets(BTreeMap<String, BTreeMap<String, Budget>>);

/// The head of the printed table.
pub(crate) const HEAD: &str = "\
step          binary    start     first      warm  resident  trips  write   read   bytes
                      ----- instructions ----     KB  of a warm call";

/// The allowed difference from the record, in percent.
const TOLERANCE: f64 = 2.0;

impl Budget {
    pub(crate) async fn of(function: &Function, store: &Store) -> Result<Self, Trouble> {
        let instructions = callgrind::count(function, store).await?;
        Ok(Self {
            binary: function.size()?,
            start: instructions.start,
            first: instructions.first,
            warm: instructions.warm,
            resident: resident(function, store).await?,
            round_trips: store.warm.round_trips,
            write_units: store.warm.write_units,
            read_units: store.warm.read_units,
            bytes_sent: store.warm.bytes,
        })
    }

    pub(crate) fn print(&self, step: &str) {
        println!(
            "{step:10} {:>9} {:>9} {:>9} {:>9}  {:>8}  {:>5} {:>6} {:>6} {:>7}",
            self.binary,
            self.start,
            self.first,
            self.warm,
            self.resident / 1024,
            self.round_trips,
            self.write_units,
            self.read_units,
            self.bytes_sent,
        );
    }

    /// The values by name, each with its allowed difference from the record in percent. The first call is compared together with the
    /// start: some work of a start is counted before or after its end, depending on the order of concurrent answers.
    #[allow(clippy::cast_precision_loss, reason = "a number of ten digits")]
    fn values(&self) -> [(&'static str, f64, f64); 9] {
        [
            ("binary", self.binary as f64, TOLERANCE),
            ("start", self.start as f64, TOLERANCE),
            ("start and first", (self.start + self.first) as f64, TOLERANCE),
            ("warm", self.warm as f64, TOLERANCE),
            ("resident", self.resident as f64, TOLERANCE),
            ("round_trips", self.round_trips as f64, 0.0),
            ("write_units", self.write_units, 0.0),
            ("read_units", self.read_units, 0.0),
            ("bytes_sent", self.bytes_sent as f64, TOLERANCE),
        ]
    }
}

/// The maximum memory of a process after a few calls: the median of many processes, because the number of mapped pages varies.
/// The kernel maps more pages of a file that was just written than of an older one, so each measurement runs a fresh copy.
async fn resident(function: &Function, store: &Store) -> Result<u64, Trouble> {
    let fresh = Scratch::new();
    // Another program makes the copy: if this process had the file open for writing, a child started meanwhile would inherit it,
    // and the file could not be executed.
    if !Command::new("cp").arg(&function.binary).arg(fresh.path()).status()?.success() {
        return Err(format!("{} cannot be copied", function.binary.display()).into());
    }
    let function = Function { binary: fresh.path().to_owned(), ..function.clone() };
    let mut found = Vec::new();
    for _ in 0..25 {
        let line = store.play(Duration::ZERO).await?;
        let mut running = Running::start(&function, &[], &store.settings, line).await?;
        for _ in 0..10 {
            running.call(&store.event).await?;
        }
        found.push(running.resident()?);
        running.end().await?;
    }
    found.sort_unstable();
    Ok(found[found.len() / 2])
}

impl Budgets {
    pub(crate) fn read(path: &Path) -> Result<Self, Trouble> {
        if path.exists() { Ok(serde_json::from_str(&fs::read_to_string(path)?)?) } else { Ok(Self::default()) }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Trouble> {
        Ok(fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// Records these costs for the build.
    pub(crate) fn record(&mut self, build: &str, found: BTreeMap<String, Budget>) -> &Self {
        self.0.entry(build.to_owned()).or_default().extend(found);
        self
    }

    /// The steps whose costs differ from the record. Prints the costs that differ.
    pub(crate) fn differing(&self, build: &str, found: &BTreeMap<String, Budget>) -> Vec<String> {
        let recorded = |step: &String| self.0.get(build).and_then(|steps| steps.get(step));
        let differs = |(step, budget): &(&String, &Budget)| {
            let off = match recorded(step) {
                Some(record) => differences(step, record, budget),
                None => vec![format!("{step}: nothing is recorded for {build}")],
            };
            off.iter().for_each(|line| println!("{line}"));
            !off.is_empty()
        };
        found.iter().filter(differs).map(|(step, _)| step.clone()).collect()
    }
}

fn differences(step: &str, recorded: &Budget, found: &Budget) -> Vec<String> {
    let pairs = recorded.values().into_iter().zip(found.values());
    let off = pairs.filter(|((_, was, tolerance), (_, is, _))| (is - was).abs() > was * tolerance / 100.0);
    let line = |((name, was, _), (_, is, _))| format!("{step}: {name} is {is}, recorded is {was}");
    off.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(warm: u64, round_trips: usize) -> Budget {
        let (write_units, read_units) = (2.0, 4.0);
        let (binary, start, first, resident, bytes_sent) = (4_000_000, 2_000_000, 900_000, 8_000_000, 3000);
        Budget { binary, start, first, warm, resident, round_trips, write_units, read_units, bytes_sent }
    }

    #[test]
    fn work_may_move_between_start_and_first_call() {
        let recorded = budget(800_000, 2);
        let moved = Budget { start: recorded.start + 30_000, first: recorded.first - 30_000, ..recorded.clone() };
        assert_eq!(differences("issue", &recorded, &moved), Vec::<String>::new());
        let more = Budget { first: recorded.first + 60_000, ..recorded.clone() };
        assert_eq!(differences("issue", &recorded, &more), ["issue: start and first is 2960000, recorded is 2900000"]);
    }

    #[test]
    fn a_value_that_differs_is_reported_whether_better_or_worse() {
        let recorded = budget(800_000, 2);
        for same in [784_000, 800_000, 816_000] {
            assert_eq!(differences("mint", &recorded, &budget(same, 2)), Vec::<String>::new());
        }
        for off in [783_000, 817_000] {
            let expected = format!("mint: warm is {off}, recorded is 800000");
            assert_eq!(differences("mint", &recorded, &budget(off, 2)), [expected]);
        }
        assert_eq!(differences("mint", &recorded, &budget(800_000, 3)), ["mint: round_trips is 3, recorded is 2"]);
    }

    #[test]
    fn a_step_without_a_record_fails() {
        let found = BTreeMap::from([("mint".to_owned(), budget(1, 1))]);
        let mut budgets = Budgets::default();
        assert_eq!(budgets.differing("released", &found), ["mint"]);
        assert_eq!(budgets.record("released", found.clone()).differing("released", &found), Vec::<String>::new());
        assert_eq!(budgets.differing("another", &found), ["mint"]);
    }
}
