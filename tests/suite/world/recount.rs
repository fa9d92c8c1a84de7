//! The recount: the expected counters, computed from all referrals without using any code of the analytics module.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate, Weekday};
use referrals::{
    domain::time::Timestamp,
    referral::{
        Referral, State,
        reward::{Benefit, RewardStatus, Side},
    },
    store::keys::Item,
};

/// Counters by subject and name, summed over the shards. Counters at zero are left out.
pub(crate) type Tally = BTreeMap<String, i128>;

/// Counts all referrals.
pub(crate) fn recount<'a>(referrals: impl IntoIterator<Item = &'a Referral>) -> Tally {
    let mut tally = Tally::new();
    referrals.into_iter().for_each(|referral| count(&mut tally, referral));
    tally.retain(|_, count| *count != 0);
    tally
}

fn count(tally: &mut Tally, referral: &Referral) {
    let mut add =
        |about: String, name: &str, count: i128| *tally.entry(format!("{about} {name}")).or_default() += count;
    let program = &referral.program;
    let day = |at: Timestamp| format!("day {program} {}", &at.to_string()[..10]);
    let all_time = format!("referrer {program} {} all", referral.referrer);
    let month = |at: Timestamp| format!("referrer {program} {} {}", referral.referrer, &at.to_string()[..7]);

    let created_at = referral.created_at;
    let mut happened = vec![(created_at, "attributed".to_owned())];
    let order = match &referral.state {
        State::Pending => None,
        State::Converted { conversion, .. } => Some((conversion, true)),
        State::Rewarded { conversion, rewards, .. } => {
            happened.push((rewards.issued_at, "rewarded".to_owned()));
            Some((conversion, true))
        }
        State::Reversed { at, reason, conversion, rewards, .. } => {
            happened.push((rewards.issued_at, "rewarded".to_owned()));
            happened.push((*at, format!("voided.{}", reason.as_str())));
            Some((conversion, false))
        }
        State::Voided { at, reason, conversion, .. } => {
            let reason = serde_json::to_value(reason).unwrap();
            happened.push((*at, format!("voided.{}", reason.as_str().unwrap())));
            conversion.as_ref().map(|conversion| (conversion, false))
        }
    };
    if let Some((conversion, is_net)) = order {
        happened.push((conversion.at, "converted".to_owned()));
        add(all_time.clone(), "score", is_net.into());
        add(month(conversion.at), "score", is_net.into());
        let seconds = conversion.at.since(created_at).as_secs();
        let bounds = [60, 600, 3600, 21_600, 86_400, 259_200, 604_800, 1_209_600, 2_592_000];
        let bucket = bounds.iter().filter(|bound| seconds >= **bound).count();
        add(day(conversion.at), &format!("took.{bucket}"), 1);
        let weeks = (monday(conversion.at) - monday(created_at)).num_weeks().clamp(0, 26);
        add(day(created_at), &format!("after.{weeks}"), 1);
    }
    for (at, what) in happened {
        add(day(at), &what, 1);
        add(month(at), &what, 1);
        add(all_time.clone(), &what, 1);
    }

    let mut worth = |about: String, stage: &str, benefit: &Benefit| {
        let currency = benefit.currency().map(|currency| format!(".{currency}")).unwrap_or_default();
        let name = format!("{stage}.{}{currency}", benefit.kind().as_str());
        add(about.clone(), &name, u64::from(benefit.amount()).into());
        add(about, &format!("{name}.n"), 1);
    };
    if let State::Converted { .. } = referral.state {
        worth(format!("owed {program}"), "held", &referral.terms.referrer.decide());
        worth(format!("owed {program}"), "held", &referral.terms.referee.decide());
    }
    let Some(rewards) = referral.rewards() else { return };
    for side in Side::BOTH {
        let reward = rewards.of(side);
        let delivery = &reward.delivery;
        let mut stages = vec![("issued", rewards.issued_at)];
        stages.extend(delivery.delivered_at.map(|at| ("delivered", at)));
        stages.extend(delivery.failed_at.filter(|_| delivery.delivered_at.is_none()).map(|at| ("failed", at)));
        if reward.status() == RewardStatus::Reversed {
            stages.extend(referral.voided().map(|voided| ("reversed", voided.at)));
        }
        if !matches!(reward.status(), RewardStatus::Delivered | RewardStatus::Reversed) {
            worth(format!("owed {program}"), stages.last().unwrap().0, &reward.benefit);
        }
        for (stage, at) in stages {
            worth(day(at), stage, &reward.benefit);
            if side == Side::Referrer {
                worth(month(at), stage, &reward.benefit);
                worth(all_time.clone(), stage, &reward.benefit);
            }
        }
    }
}

fn monday(at: Timestamp) -> NaiveDate {
    let day: NaiveDate = at.to_string()[..10].parse().unwrap();
    NaiveDate::from_isoywd_opt(day.iso_week().year(), day.iso_week().week(), Weekday::Mon).unwrap()
}

/// The counters in the items of the analytics table.
pub(crate) fn counted<'a>(items: impl IntoIterator<Item = &'a Item>) -> Tally {
    let mut tally = Tally::new();
    for item in items {
        let text = |name: &str| item[name].as_s().unwrap().as_str();
        let (pk, sk) = (text("pk"), text("sk"));
        let about = match pk.split('#').collect::<Vec<_>>()[..] {
            ["REFEREE", _] => continue,
            ["PROGRAM", program, "DAYS", _shard] => format!("day {program} {sk}"),
            ["PROGRAM", program, "REFERRER", referrer] => format!("referrer {program} {referrer} {sk}"),
            ["LIABILITY", _shard] => format!("owed {sk}"),
            _ => panic!("not an item of the analytics table: {item:?}"),
        };
        for (name, value) in item.iter().filter(|(name, _)| !["pk", "sk", "board"].contains(&name.as_str())) {
            let value: i128 = value.as_n().unwrap().parse().unwrap();
            // The part of a score below a quintillion only breaks ties between referrers.
            let value = if name == "score" { value / 1_000_000_000_000_000_000 } else { value };
            *tally.entry(format!("{about} {name}")).or_default() += value;
        }
    }
    tally.retain(|_, count| *count != 0);
    tally
}

/// The differences between two tallies, one message each.
pub(crate) fn difference(counted: &Tally, expected: &Tally) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = counted.keys().chain(expected.keys()).collect();
    let of = |tally: &Tally, name: &String| tally.get(name).copied().unwrap_or_default();
    let differ = names.into_iter().filter(|name| of(counted, name) != of(expected, name));
    differ.map(|name| format!("{name}: {} instead of {}", of(counted, name), of(expected, name))).collect()
}
