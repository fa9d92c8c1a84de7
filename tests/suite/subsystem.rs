//! Failing subsystems: each kind of failure has the documented result, and no other reward is delayed.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::json;
use tokio::time::sleep;
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::world::{
    Folder, World,
    process::Running,
    stand_in::{Received, Reply, SECRET, StandIn},
};

/// The expected end state of a reward and number of calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Delivered {
        calls: usize,
    },
    /// Permanently refused, at the first call that did not fail.
    Failed {
        calls: usize,
    },
    /// The queue gave up, and the sweep announced it again.
    Overtaken,
}

/// The number of attempts of a queue.
const TRIES: usize = 8;

/// A failure of a subsystem: its answers to the first calls with one key, before it works again.
struct Case {
    name: &'static str,
    script: Vec<Reply>,
    end: End,
}

fn cases(elsewhere: &StandIn) -> Vec<Case> {
    let case = |name, script: &[Reply], end| Case { name, script: script.to_vec(), end };
    let location = format!("location: {}", elsewhere.url());
    let delivered = |calls| End::Delivered { calls };
    let failed = |calls| End::Failed { calls };
    vec![
        case("well", &[], delivered(1)),
        case("error", &[Reply::Status(500)], delivered(2)),
        case("silent-after-booking", &[Reply::Silence], delivered(2)),
        case("reset-after-booking", &[Reply::Reset], delivered(2)),
        case("moved", &[Reply::With(301, location.clone())], failed(1)),
        case("moved-with-the-method", &[Reply::With(308, location)], failed(1)),
        case("refused", &[Reply::Status(400)], failed(1)),
        case("refused-at-length", &[Reply::Long(400)], failed(1)),
        case("error-at-length", &[Reply::Long(500)], delivered(2)),
        case("endless-yes", &[Reply::Endless(200)], delivered(1)),
        case("endless-error", &[Reply::Endless(500)], delivered(2)),
        case("endless-refusal", &[Reply::Endless(400)], failed(1)),
        case("trickling-yes", &[Reply::Trickle(201)], delivered(1)),
        case("trickling-error", &[Reply::Trickle(500)], delivered(2)),
        case("all-of-it", &[Reply::Reset, Reply::Long(503), Reply::Status(429), Reply::Status(400)], failed(4)),
        case("down", &[const { Reply::Status(503) }; TRIES], End::Overtaken),
    ]
}

impl Case {
    fn referee(&self) -> String {
        format!("bob-{}", self.name)
    }

    /// The reward whose subsystem fails.
    fn key(&self) -> String {
        format!("{}:referrer", self.referee())
    }
}

async fn reward(world: &World, referee: &str, side: usize) -> String {
    world.referral(referee).await["rewards"][side]["status"].as_str().unwrap_or_default().to_owned()
}

async fn until_reward(world: &World, referee: &str, side: usize, status: &str) {
    let what = format!("reward {side} of {referee} is {status}");
    world.until(&what, async || reward(world, referee, side).await == status).await;
}

/// Asserts that all these calls are identical.
fn assert_same(calls: &[Received], key: &str) {
    for call in calls {
        assert_eq!((call.key.as_str(), &call.body), (key, &calls[0].body));
    }
}

/// All cases run at the same time, each with its own referral. The referrer's credit goes to the failing subsystem and the
/// referee's coupon to a working one. (The stand-in rejects calls with an invalid signature.)
#[tokio::test]
async fn every_failure_has_the_documented_result_and_delays_no_other_reward() {
    let (credit, elsewhere) = (StandIn::start().await, StandIn::start().await);
    let mut world = World::with(|options| {
        let env = std::mem::take(&mut options.env).with("CREDIT_ENDPOINT", credit.url()).with("WEBHOOK_SECRET", SECRET);
        options.env = env.with("REFEREE_REWARD_TYPE", "coupon").with("GRACE_SECONDS", "1");
        options.pace.first_retry = Duration::from_millis(25);
    })
    .await;
    world.audit_stand_in(&credit);
    world.audit_stand_in(&elsewhere);
    let cases = cases(&elsewhere);
    join_all(cases.iter().map(async |case| {
        credit.script(&case.key(), case.script.clone());
        world.refer(&format!("alice-{}", case.name), &case.referee()).await;
        world.order(&case.referee(), &format!("o-{}", case.name)).await;
    }))
    .await;

    join_all(cases.iter().map(async |case| {
        until_reward(&world, &case.referee(), 1, "delivered").await;
        match case.end {
            End::Delivered { .. } => until_reward(&world, &case.referee(), 0, "delivered").await,
            End::Failed { .. } => until_reward(&world, &case.referee(), 0, "failed").await,
            End::Overtaken => {}
        }
    }))
    .await;
    // One subsystem delayed its answer until the timeout. All coupons were delivered long before.
    let silent = credit.calls_of("bob-silent-after-booking:referrer");
    let coupons: BTreeSet<_> =
        world.deliveries().await.iter().map(|call| call["received_at"].as_str().unwrap().to_owned()).collect();
    assert!(*coupons.last().unwrap() < silent[1].at.to_string(), "{coupons:?} {silent:?}");
    assert!(silent[1].at.since(silent[0].at) > Duration::from_secs(4), "{silent:?}");

    let dead = async || world.get("/_local/parked").await.with(200)["items"].as_array().unwrap().clone();
    let gave_up = async || dead().await.iter().any(|item| item["queue"] == "CreditDeadLetterQueue");
    world.until("the queue gave up on what was down", gave_up).await;
    assert_eq!(reward(&world, "bob-down", 0).await, "issued");
    assert_eq!(credit.calls_of("bob-down:referrer").len(), TRIES);
    let is_delivered = async || {
        world.service().sweep_now().await.unwrap();
        reward(&world, "bob-down", 0).await == "delivered"
    };
    world.until("the sweep brought it", is_delivered).await;
    world.until_idle().await;

    for case in &cases {
        let calls = credit.calls_of(&case.key());
        assert_same(&calls, &case.key());
        let (expected, is_booked) = match case.end {
            End::Delivered { calls } => (calls, true),
            // The first call was booked before the connection broke. A later refusal does not undo the booking.
            End::Failed { calls } => (calls, case.name == "all-of-it"),
            End::Overtaken => (TRIES + 1, true),
        };
        assert_eq!(calls.len(), expected, "{}: {calls:#?}", case.name);
        assert_eq!(credit.booked().contains_key(&case.key()), is_booked, "{}", case.name);
        if matches!(case.end, End::Failed { .. }) {
            let failure = world.stored(&case.referee()).await["rewards"]["referrer"]["failure"].clone();
            assert!((3..200).contains(&failure.as_str().unwrap().len()), "{}: {failure}", case.name);
        }
    }
    assert!(
        elsewhere.calls().is_empty() && elsewhere.aborted_connections() == 0,
        "a redirect was followed: {elsewhere:?}"
    );
    world.allow_obsolete_dead_letters();
    world.end().await;
}

/// `Retry-After` in seconds, as a date, and as a date in the past, which has no effect.
#[tokio::test]
async fn a_requested_pause_is_respected() {
    let credit = StandIn::start().await;
    let mut world = World::with_env([("CREDIT_ENDPOINT", credit.url()), ("WEBHOOK_SECRET", SECRET)]).await;
    world.audit_stand_in(&credit);
    let soon = (chrono::Utc::now() + Duration::from_secs(4)).format("%a, %d %b %Y %H:%M:%S GMT");
    for (user, status, wish) in [
        ("seconds", 429, "2".to_owned()),
        ("busy", 503, "2".to_owned()),
        ("date", 429, soon.to_string()),
        ("past", 429, "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
        ("nonsense", 429, "-1 or so".to_owned()),
    ] {
        credit.script(&format!("{user}:referrer"), [Reply::With(status, format!("retry-after: {wish}"))]);
        world.refer(&format!("alice-{user}"), user).await;
        world.order(user, &format!("o-{user}")).await;
    }
    let pause = |user: &str| {
        let calls = credit.calls_of(&format!("{user}:referrer"));
        assert_eq!(calls.len(), 2, "{user}");
        assert_same(&calls, &format!("{user}:referrer"));
        calls[1].at.since(calls[0].at)
    };
    for user in ["seconds", "busy", "date", "past", "nonsense"] {
        // The subsystem did not ask for a pause for the other side of the same referral.
        until_reward(&world, user, 1, "delivered").await;
        until_reward(&world, user, 0, "delivered").await;
    }
    world.until_idle().await;
    for user in ["seconds", "busy"] {
        assert!(pause(user) >= Duration::from_secs(2), "{user}: {:?}", pause(user));
    }
    // A date has no fractions of a second, and the time until the call counts.
    let calls = credit.calls_of("date:referrer");
    assert!(calls[1].at.to_string() >= (soon_at(&soon.to_string())), "{calls:?}");
    for user in ["past", "nonsense"] {
        assert!(pause(user) < Duration::from_secs(2), "{user}: {:?}", pause(user));
    }
    world.end().await;
}

/// Converts an HTTP date to the format of the service's times, so that they can be compared.
fn soon_at(date: &str) -> String {
    let date = chrono::NaiveDateTime::parse_from_str(date, "%a, %d %b %Y %H:%M:%S GMT").unwrap();
    referrals::domain::time::Timestamp::from(date.and_utc()).to_string()
}

/// The pause before a silent subsystem is called again is the configured timeout and the first retry delay.
#[tokio::test]
async fn a_call_waits_as_long_as_configured() {
    let credit = StandIn::start().await;
    let settings = [("CREDIT_ENDPOINT", credit.url()), ("WEBHOOK_SECRET", SECRET), ("SUBSYSTEM_TIMEOUT_SECONDS", "1")];
    let mut world = World::with_env(settings).await;
    world.audit_stand_in(&credit);
    credit.script("bob:referrer", [Reply::Silence]);
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    until_reward(&world, "bob", 0, "delivered").await;
    let calls = credit.calls_of("bob:referrer");
    assert_same(&calls, "bob:referrer");
    let pause = calls[1].at.since(calls[0].at);
    assert!(pause >= Duration::from_secs(1) && pause < Duration::from_secs(4), "{pause:?}");
    world.end().await;
}

/// Every call for points hangs until the test releases it. Meanwhile credits are delivered, for other referrals and the same
/// one.
#[tokio::test]
async fn a_hanging_subsystem_does_not_delay_other_rewards() {
    const REFERRALS: usize = 60;
    let points = StandIn::start().await;
    points.set_default_reply(Reply::Hold(200));
    let mut world = World::with_env([
        ("POINTS_ENDPOINT", points.url()),
        ("WEBHOOK_SECRET", SECRET),
        ("REFERRER_REWARD_TYPE", "points"),
    ])
    .await;
    world.audit_stand_in(&points);
    // More than the points queue processes concurrently, so that a shared limit would delay later rewards.
    join_all((0..REFERRALS).map(async |number| {
        let bob = format!("bob-{number}");
        world.refer(&format!("alice-{number}"), &bob).await;
        world.order(&bob, &format!("o-{number}")).await;
    }))
    .await;
    for number in 0..REFERRALS {
        until_reward(&world, &format!("bob-{number}"), 1, "delivered").await;
    }
    world.until("points are being asked for", async || !points.calls().is_empty()).await;
    world.refer("alice-late", "bob-late").await;
    world.order("bob-late", "o-late").await;
    until_reward(&world, "bob-late", 1, "delivered").await;

    assert!(points.booked().is_empty());
    for number in 0..REFERRALS {
        assert_eq!(reward(&world, &format!("bob-{number}"), 0).await, "issued");
    }
    points.release();
    world.until_idle().await;
    assert_eq!(points.booked().len(), REFERRALS + 1);
    world.end().await;
}

/// A CA, and the TLS configuration of a server with a certificate of this CA for `name`.
pub(crate) fn certified(name: SanType) -> (String, ServerConfig) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let trusted = authority.self_signed(&authority_key).unwrap().pem();
    let mut server = CertificateParams::default();
    server.subject_alt_names = vec![name];
    let key = KeyPair::generate().unwrap();
    let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(ring::default_provider().into()).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    (trusted, config.unwrap())
}

/// Runs in a separate process, because the trusted CAs are read from the environment of the process. The certificate of the
/// credit endpoint is valid, that of the coupon endpoint is for another name, and that of the points endpoint has an unknown
/// CA.
#[tokio::test]
async fn only_a_server_with_a_valid_certificate_gets_a_reward() {
    let here = || SanType::IpAddress(IpAddr::from([127, 0, 0, 1]));
    let elsewhere = SanType::DnsName("coupons.example.com".try_into().unwrap());
    let ((trusted, right), (trusted_too, wrong), (_, unknown)) =
        (certified(here()), certified(elsewhere), certified(here()));
    let credit = StandIn::with_tls(right).await;
    let coupon = StandIn::with_tls(wrong).await;
    let points = StandIn::with_tls(unknown).await;
    let data = Folder::new();
    let authorities = data.path().join("authorities.pem");
    std::fs::write(&authorities, trusted + &trusted_too).unwrap();
    let mut settings = [
        ("SSL_CERT_FILE", authorities.to_str().unwrap()),
        ("WEBHOOK_SECRET", SECRET),
        ("CREDIT_ENDPOINT", credit.url()),
        ("COUPON_ENDPOINT", coupon.url()),
        ("POINTS_ENDPOINT", points.url()),
        ("REFERRER_REWARD_TYPE", "coupon"),
        ("REFEREE_REWARD_TYPE", "credit"),
    ];
    let issued_and_delivered = json!(["rewarded", "issued", "delivered"]);
    for (kind, stand_in) in [("coupon", &coupon), ("points", &points)] {
        settings[5].1 = kind;
        let running = Running::start(&data.path().join(kind), &settings);
        running.attribute_bob().await;
        running.order("bob", "o-1").await;
        // A failed TLS handshake is not a refusal. It is retried, because the certificate can be replaced.
        let what = format!("the credit is given and the {kind} tried twice");
        let is_given =
            async || running.statuses("bob").await == issued_and_delivered && stand_in.aborted_connections() > 1;
        running.until(&what, is_given).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(running.statuses("bob").await, issued_and_delivered);
        assert!(stand_in.calls().is_empty() && stand_in.booked().is_empty(), "{stand_in:?}");
    }
    assert_eq!(credit.booked().into_keys().collect::<Vec<_>>(), ["bob:referee"]);
    // Two services, each with a reward of the same id: the subsystem recognised the second call.
    assert_eq!(credit.calls().len(), 2);
}
