//! Tests of the proxy: a few complete histories, each network fault separately, and detection of a wrong write.

use std::{thread, time::Duration};

use serde_json::json;

use super::*;
use crate::{
    faults::{Kind, Strike},
    plan::{Action, Mode, Step},
};

/// One sign-up that converts, with only these faults.
fn with_faults(worker: &Worker, faults: Vec<Strike>) -> State {
    let steps = vec![
        Step { at: 0, action: Action::Mint { user: 0 } },
        Step { at: 20_000, action: Action::Attribute { referee: 2, referrer: 0 } },
        Step { at: 40_000, action: Action::Order { user: 2, order: 4 } },
    ];
    let plan = Plan { seed: 1, mode: Mode::Stream, variant: 0, skew: None, steps };
    worker.run_plan(&plan, Faults::only(faults)).unwrap()
}

#[test]
fn some_histories_have_no_violations() {
    let run_seed = |seeds: [u64; 2]| {
        let worker = Worker::start().unwrap();
        seeds.map(|seed| {
            let state = worker.run_seed(seed).unwrap();
            assert_eq!(state.oracle.violations(), [""; 0], "seed {seed}: {:#?}", state.timeline);
            state.faults.struck().len()
        })
    };
    let strikes: usize = thread::scope(|scope| {
        let workers: Vec<_> = (1..=6).map(|seed| scope.spawn(move || run_seed([seed, seed + 6]))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).sum()
    });
    assert!(strikes >= 12, "{strikes} faults");
}

/// Each fault strikes while work is in progress, and each is tolerated: both rewards are booked.
#[test]
fn each_network_fault_strikes_and_is_tolerated() {
    let kinds = [
        Kind::AnswerLost,
        Kind::RequestLost,
        Kind::Throttled,
        Kind::Conflict,
        Kind::InternalError,
        Kind::SlowCall,
        Kind::BatchCut,
    ];
    thread::scope(|scope| {
        for kind in kinds {
            scope.spawn(move || {
                let worker = Worker::start().unwrap();
                let faults = vec![(kind, 1), (kind, 2)];
                let state = with_faults(&worker, faults.clone());
                assert_eq!(state.oracle.violations(), [""; 0], "{kind:?}: {:#?}", state.timeline);
                assert_eq!(state.faults.struck(), faults, "{:#?}", state.timeline);
                let booked = state.bookings.values().filter(|booking| booking.amount > 0).count();
                assert_eq!(booked, 2, "{kind:?}: {:#?}", state.timeline);
            });
        }
    });
}

/// Idle time is skipped.
#[test]
fn idle_minutes_are_skipped() {
    let worker = Worker::start().unwrap();
    let began = Instant::now();
    let state = with_faults(&worker, Vec::new());
    assert_eq!(state.oracle.violations(), [""; 0], "{:#?}", state.timeline);
    // The order is delivered again after a quarter of an hour.
    assert!(began.elapsed() < Duration::from_secs(300));
    assert!(clock::millis() > 900_000);
}

/// The oracle also sees a write that no function made.
#[test]
fn a_wrong_write_is_detected() {
    let worker = Worker::start().unwrap();
    worker.runtime.block_on(async {
        clock::begin();
        worker.relay.shared.begin(State::new(1, Faults::only(Vec::new()), true));
        let mut line = TableConnection::open(&worker.definition).await.unwrap();
        let item = json!({ "pk": { "S": "REFEREE#cat" }, "sk": { "S": "REFERRAL" }, "status": { "S": "rewarded" } });
        let body = json!({ "TableName": "referrals", "Item": item }).to_string();
        let head = "POST / HTTP/1.1\r\nhost: table\r\ncontent-type: application/x-amz-json-1.0\r\n\
                    x-amz-target: DynamoDB_20120810.PutItem\r\nx-amz-date: 20261122T120000Z\r\n\
                    authorization: AWS4-HMAC-SHA256 Credential=k/20261122/us-east-1/dynamodb/aws4_request, \
                    SignedHeaders=host, Signature=s\r\n";
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        let request = http::Message::read(&mut request.as_bytes()).await.unwrap().unwrap();
        let answer = line.call(&worker.relay.shared, "PutItem", &request).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        let state = worker.relay.shared.end().unwrap();
        assert_eq!(state.oracle.violations().len(), 1, "{:?}", state.oracle.violations());
        assert!(state.oracle.violations()[0].starts_with("REFEREE#cat"));
        assert_eq!(line.close(&state.table).await.unwrap(), None);
    });
}

#[tokio::test]
async fn a_message_is_read_completely_or_not_at_all() {
    let whole = "POST /a HTTP/1.1\r\nX-Amz-Target: T.Op\r\nContent-Length: 3\r\n\r\nabc";
    let message = http::Message::read(&mut whole.as_bytes()).await.unwrap().unwrap();
    assert_eq!((message.first_line(), message.header("x-amz-target")), ("POST /a HTTP/1.1", "T.Op"));
    assert_eq!(message.bytes(), whole.as_bytes());
    let other = message.with_body(b"defgh".to_vec()).bytes();
    let expected = "POST /a HTTP/1.1\r\nX-Amz-Target: T.Op\r\ncontent-length: 5\r\n\r\ndefgh";
    assert_eq!(String::from_utf8_lossy(&other), expected);
    for end in 0..whole.len() {
        assert!(http::Message::read(&mut &whole.as_bytes()[..end]).await.unwrap().is_none(), "{end}");
    }
}
