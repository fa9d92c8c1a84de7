//! Landing: the cookie that a link sets, and how a sign-up uses it.

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{Answer, World};

const DAY: u32 = 24 * 60 * 60;

/// The time this many milliseconds from now.
fn from_now(millis: i64) -> String {
    (Utc::now() + chrono::Duration::milliseconds(millis)).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Mints a code that expires after this many milliseconds.
async fn mint_until(world: &World, user: &str, code: &str, millis: i64) {
    let body = json!({"code": code, "expires_at": from_now(millis)});
    world.put(&format!("/v1/users/{user}/code"), body).await.with(201);
}

/// Opens a link, and asserts that it redirects to the landing page.
async fn open(world: &World, path: &str) -> Answer {
    let answer = world.get(path).await;
    assert_eq!(answer.status, 302, "{path}: {answer:?}");
    assert_eq!(answer.headers["location"], world.service().env().get("LANDING_URL").unwrap(), "{path}");
    assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
    answer
}

/// Signs up a visitor with this body and these `Cookie` headers.
async fn sign_up(world: &World, body: Value, cookies: &[&str]) -> Answer {
    let headers: Vec<_> = cookies.iter().map(|cookie| ("cookie", *cookie)).collect();
    world.send(Method::POST, "/v1/referrals", &headers, body.to_string()).await
}

/// Opens a link in another millisecond than the previous one, and returns its cookie.
async fn touch(world: &World, code: &str) -> String {
    sleep(Duration::from_millis(5)).await;
    world.land(code).await.unwrap()
}

#[tokio::test]
async fn a_live_link_redirects_and_sets_a_cookie() {
    let world = World::start().await;
    world.mint("alice", "ALICE-2026").await;
    let before = world.contents().await;

    let answer = open(&world, "/r/ALICE-2026").await;
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 1);
    let set = answer.headers["set-cookie"].to_str().unwrap();
    let mut attributes: Vec<_> = set.split("; ").skip(1).collect();
    attributes.sort_unstable();
    // A browser drops a `Secure` cookie over plain HTTP.
    assert_eq!(attributes, ["HttpOnly", &format!("Max-Age={}", 90 * DAY), "Path=/", "SameSite=Lax"]);
    assert!(set.starts_with("referral="), "{set}");
    assert_eq!(world.contents().await, before, "a visit writes nothing");
    world.end().await;
}

#[tokio::test]
async fn the_cookie_follows_the_settings() {
    let world = World::with_env([
        ("PUBLIC_URL", "https://go.example.com/"),
        ("COOKIE_DOMAIN", "example.com"),
        ("LANDING_URL", "https://example.com/welcome?from=friend"),
        ("ATTRIBUTION_WINDOW_DAYS", "7"),
    ])
    .await;
    let code = world.mint("alice", "ALICE-2026").await;
    assert_eq!(code["link"], "https://go.example.com/r/ALICE-2026");
    let answer = open(&world, "/r/ALICE-2026").await;
    let set = answer.headers["set-cookie"].to_str().unwrap();
    let mut attributes: Vec<_> = set.split("; ").skip(1).collect();
    attributes.sort_unstable();
    let age = format!("Max-Age={}", 7 * DAY);
    assert_eq!(attributes, ["Domain=example.com", "HttpOnly", &age, "Path=/", "SameSite=Lax", "Secure"]);
    world.end().await;
}

#[tokio::test]
async fn every_other_link_redirects_without_a_cookie() {
    let world = World::start().await;
    mint_until(&world, "alice", "ALICE-2026", 400).await;
    world.mint("dave", "DAVE").await;
    sleep(Duration::from_millis(450)).await;
    let long = format!("/r/{}", "x".repeat(10 * 1024));
    for path in [
        "/r/UNKNOWN",
        "/r/ALICE-2026",
        "/r/a11ce2026",
        "/r/ab",
        "/r/---",
        "/r/",
        "/r/%20",
        "/r/%00",
        "/r/%FF%FE",
        "/r",
        "/r/UNKNOWN/",
        "/r/UNKNOWN.",
        "/r/DAVE%20see",
        "/r/%F0%9F%8E%81",
        "/r/%25",
        "/r/%",
        "/r/DAVE%0D%0Aset-cookie:x=y",
        &long,
    ] {
        let answer = open(&world, path).await;
        assert_eq!(answer.cookie(), None, "{path}");
    }
    assert!(open(&world, "/r/DAVE").await.cookie().is_some());
    world.end().await;
}

/// Chat and mail programs append characters, and browsers a slash.
#[tokio::test]
async fn a_link_with_appended_characters_sets_the_cookie() {
    let world = World::start().await;
    world.mint("alice", "ALICE-2026").await;
    let ends = [
        "/",
        ".",
        ",",
        ";",
        ":",
        "!",
        ")",
        "]",
        "%5D",
        "%7D",
        "%3E",
        "'",
        "%22",
        "%20",
        "+",
        "%0A",
        "%C2%A0",
        "%E2%80%9D",
        "%E2%80%94",
        "%E2%80%8B",
        ".%20",
        "),",
        "./",
        "%2F",
    ];
    for end in ends {
        let answer = open(&world, &format!("/r/ALICE-2026{end}")).await;
        let cookie = answer.cookie().unwrap_or_else(|| panic!("{end}: {answer:?}"));
        let referee = format!("bob-{}", end.len() * 100 + ends.iter().position(|other| *other == end).unwrap());
        assert_eq!(world.attribute_by_cookie(&referee, &cookie).await.with(201)["code"], "ALICE-2026", "{end}");
    }
    assert!(open(&world, "/r/%28alice%E2%80%912026%29").await.cookie().is_some());
    world.end().await;
}

#[tokio::test]
async fn head_redirects_without_a_cookie() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    for path in ["/r/ALICE", "/r/ALICE/", "/r/ALICE.", "/r/UNKNOWN", "/r/", "/r", "/r/ALICE?a=b&landing=shoes"] {
        let head = world.send(Method::HEAD, path, &[], "").await;
        let get = world.get(path).await;
        assert_eq!((head.status.as_u16(), head.cookie()), (302, None), "{path}");
        for name in ["location", "cache-control"] {
            assert_eq!(head.headers[name], get.headers[name], "{path}");
        }
    }
    world.end().await;
}

/// The unit tests of `landing_page.rs` have many more inputs.
#[tokio::test]
async fn a_link_passes_its_parameters_on_and_never_leaves_the_landing_page() {
    let world = World::with_env([("LANDING_URL", "https://shop.example.com/in?from=friend")]).await;
    world.mint("alice", "ALICE").await;
    let location = async |query: &str| {
        let answer = world.get(&format!("/r/ALICE?{query}")).await;
        assert!(answer.cookie().is_some(), "{query}: {answer:?}");
        answer.headers["location"].to_str().unwrap().to_owned()
    };
    assert_eq!(location("").await, "https://shop.example.com/in?from=friend");
    let passed = "utm_source=mail&utm_campaign=a%20b+c&code=x&x";
    assert_eq!(location(passed).await, format!("https://shop.example.com/in?from=friend&{passed}"));
    let below = "https://shop.example.com/in/shoes/red?from=friend&a=b";
    assert_eq!(location("landing=shoes%2Fred&a=b").await, below);
    assert_eq!(location("a=b&landing=/shoes/red").await, below);
    for hostile in [
        "//evil.example",
        "/%2F/evil.example",
        "%2F%2Fevil.example",
        "%252F%252Fevil.example",
        "https://evil.example",
        "https:evil.example",
        "%5C%5Cevil.example",
        "/%5Cevil.example",
        "../../admin",
        "%2e%2e%2fadmin",
        "%252e%252e%252fadmin",
        "x/%2e%2e/%2e%2e/admin",
        "@evil.example",
        ".evil.example",
        "%0D%0Alocation:%20https://evil.example",
        "%09//evil.example",
    ] {
        let found = location(&format!("landing={hostile}")).await;
        let url = url::Url::parse(&found).unwrap();
        assert_eq!(url.host_str(), Some("shop.example.com"), "{hostile}: {found}");
        assert!(url.path() == "/in" || url.path().starts_with("/in/"), "{hostile}: {found}");
        assert_eq!(url.query(), Some("from=friend"), "{hostile}: {found}");
    }
    world.end().await;
}

#[tokio::test]
async fn the_code_can_be_added_to_the_landing_page() {
    let landing = ("LANDING_URL", "https://shop.example.com/#top");
    let world = World::with_env([landing, ("LANDING_CODE_PARAMETER", "ref")]).await;
    world.mint("alice", "ada-invites").await;
    for (path, expected) in [
        ("/r/ADAINVITES.", "https://shop.example.com/?ref=ada-invites#top"),
        ("/r/ada-invites?ref=x&a=b", "https://shop.example.com/?a=b&ref=ada-invites#top"),
        ("/r/unknown?ref=x", "https://shop.example.com/#top"),
    ] {
        assert_eq!(world.get(path).await.headers["location"], expected, "{path}");
    }
    world.end().await;
}

/// Each of these is how some framework forwards the visitor's cookie.
#[tokio::test]
async fn a_forwarded_cookie_counts_in_every_form() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    // Until a signature has both characters that are encoded.
    let cookie = loop {
        let cookie = touch(&world, "ALICE").await;
        if cookie.contains('+') && cookie.contains('/') {
            break cookie;
        }
    };
    let value = cookie.strip_prefix("referral=").unwrap();
    let encode = |value: &str| {
        value.replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace('"', "%22")
    };
    let forms = [
        encode(value),
        encode(value).replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
        encode(&encode(value)),
        format!("\"{value}\""),
        encode(&format!("\"{value}\"")),
        value.replace('+', " "),
        value.replace('+', "%20"),
    ];
    for (number, form) in forms.iter().enumerate() {
        let header = format!("session=a%20b; referral={form}; theme=\"dark\"");
        let answer = world.attribute_by_cookie(&format!("bob-{number}"), &header).await;
        assert_eq!(answer.status, 201, "{header}: {answer:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_second_of_60_is_refused_and_never_returned() {
    let world = World::start().await;
    world.mint("zoe", "ZOE").await;
    for time in ["2027-06-15T12:34:60Z", "2026-12-31T23:59:60Z", "2030-01-01T00:00:60.5+02:00"] {
        let body = json!({"code": "ALICE", "expires_at": time});
        world.put("/v1/users/alice/code", body).await.refused(400, "invalid_request");
        let body = json!({"expires_at": time}).to_string();
        world.send(Method::PATCH, "/admin/codes/ZOE", &[], body).await.refused(400, "invalid_request");
    }
    // A real leap second becomes a time that every language can read.
    let body = json!({"expires_at": "2016-12-31T23:59:60Z"}).to_string();
    let code = world.send(Method::PATCH, "/admin/codes/ZOE", &[], body).await.with(200);
    assert_eq!(code["expires_at"], "2016-12-31T23:59:59.999Z");
    world.end().await;
}

#[tokio::test]
async fn a_flagged_owners_link_lands_like_any_other() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    world.publish("account.flagged", json!({"user_id": "alice", "reason": "chargebacks"})).await;
    world.until_idle().await;
    let cookie = world.land("ALICE").await.unwrap();
    world.attribute_by_cookie("bob", &cookie).await.refused(422, "referrer_flagged");
    world.end().await;
}

#[tokio::test]
async fn all_spellings_of_a_code_land() {
    let world = World::start().await;
    world.mint("alice", "ALICE-2026").await;
    for (number, link) in ["a11ce-2026", "ALICE2026", "A-L-I-C-E-2-O-2-6", "%41lice-2026"].iter().enumerate() {
        let cookie = world.land(link).await.unwrap();
        let referral = world.attribute_by_cookie(&format!("bob-{number}"), &cookie).await.with(201);
        assert_eq!((&referral["code"], &referral["referrer_id"]), (&json!("ALICE-2026"), &json!("alice")), "{link}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_code_in_the_body_wins_over_the_cookie() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    world.mint("dave", "DAVE").await;
    let cookie = world.land("ALICE").await.unwrap();
    let with_code = sign_up(&world, json!({"referee_id": "bob", "code": "DAVE"}), &[&cookie]).await.with(201);
    assert_eq!(with_code["referrer_id"], "dave");
    let without = sign_up(&world, json!({"referee_id": "carol"}), &[&cookie]).await.with(201);
    assert_eq!(without["referrer_id"], "alice");
    // An unknown code in the body wins, too.
    let unknown = json!({"referee_id": "erin", "code": "UNKNOWN"});
    sign_up(&world, unknown, &[&cookie]).await.refused(404, "code_not_found");
    world.end().await;
}

#[tokio::test]
async fn the_last_live_touch_wins() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    world.mint("dave", "DAVE").await;
    mint_until(&world, "erin", "ERIN", 300).await;

    // A browser keeps one cookie per name: the second link's cookie replaces the first.
    let name = |cookie: &str| cookie.split('=').next().unwrap().to_owned();
    let (first, second) = (touch(&world, "ALICE").await, touch(&world, "DAVE").await);
    assert_eq!(name(&first), name(&second));
    assert_eq!(world.attribute_by_cookie("bob", &second).await.with(201)["referrer_id"], "dave");

    // An expired link does not replace the earlier cookie.
    sleep(Duration::from_millis(350)).await;
    assert_eq!(world.land("ERIN").await, None);
    assert_eq!(world.attribute_by_cookie("carol", &first).await.with(201)["referrer_id"], "alice");
    world.end().await;
}

#[tokio::test]
async fn of_several_cookies_the_latest_touch_wins() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    world.mint("dave", "DAVE").await;
    let (older, newer) = (touch(&world, "ALICE").await, touch(&world, "DAVE").await);
    let forged = newer.replace("DAVE.", "ALICE.");
    for (number, cookies) in [
        vec![format!("{older}; {newer}")],
        vec![format!("{newer}; {older}")],
        vec![format!("theme=dark; {older};{newer}; lang=en")],
        vec![format!("{newer}; {forged}; referral=; referral; {older}")],
        vec![older.clone(), newer.clone()],
        vec![newer.clone(), older.clone()],
    ]
    .iter()
    .enumerate()
    {
        let cookies: Vec<_> = cookies.iter().map(String::as_str).collect();
        let referral = sign_up(&world, json!({"referee_id": format!("bob-{number}")}), &cookies).await.with(201);
        assert_eq!(referral["referrer_id"], "dave", "{cookies:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_cookie_without_a_valid_signature_is_ignored() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    world.mint("dave", "DAVES").await;
    let other = World::start().await;
    other.mint("alice", "ALICE").await;
    let (ours, theirs) = (world.land("ALICE").await.unwrap(), other.land("ALICE").await.unwrap());
    let flip = |at: usize| {
        let mut text = ours.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(text).unwrap()
    };
    let signature = "referral=".len();
    let code = ours.find("ALICE").unwrap();
    let time = code + "ALICE.".len();
    let plain = format!("referral={}", &ours[code..]);
    let before = world.contents().await;
    for cookie in [
        theirs,
        flip(signature),
        flip(signature + 10),
        flip(code),
        ours.replace("ALICE", "DAVES"),
        flip(time),
        ours[..ours.len() - 1].to_owned(),
        format!("{ours}0"),
        plain,
        "referral=".to_owned(),
        "referral".to_owned(),
        ours.replace("referral=", "Referral="),
        ours.replace("referral=", "other="),
        "=".to_owned(),
    ] {
        world.attribute_by_cookie("bob", &cookie).await.refused(400, "invalid_request");
    }
    assert_eq!(world.contents().await, before);
    sign_up(&world, json!({"referee_id": "bob"}), &[]).await.refused(400, "invalid_request");
    world.attribute_by_cookie("bob", &ours).await.with(201);
    world.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_code_must_be_live_at_the_touch() {
    let world = World::start().await;
    mint_until(&world, "alice", "ALICE", 1500).await;
    world.mint("dave", "DAVE").await;
    let live = from_now(0);
    let cookie = world.land("ALICE").await.unwrap();
    let others = world.land("DAVE").await.unwrap();
    sleep(Duration::from_millis(1600)).await;
    assert_eq!(world.land("ALICE").await, None, "the code has expired");
    let before = world.contents().await;

    // Without a touch of this code, the time of the sign-up counts.
    world.attribute("bob", "ALICE").await.refused(410, "code_expired");
    let body = json!({"referee_id": "bob", "code": "ALICE"});
    sign_up(&world, body.clone(), &[&others]).await.refused(410, "code_expired");
    // A sign-up time in the future is replaced by now.
    let body_then = json!({"referee_id": "bob", "code": "ALICE", "signed_up_at": from_now(100_000)});
    sign_up(&world, body_then, &[]).await.refused(410, "code_expired");
    assert_eq!(world.contents().await, before);

    // With a touch, its time counts, for all spellings of the code.
    assert_eq!(world.attribute_by_cookie("bob-1", &cookie).await.with(201)["referrer_id"], "alice");
    for (referee, code) in [("bob-2", "ALICE"), ("bob-3", "a-l-i-c-e")] {
        let referral = sign_up(&world, json!({"referee_id": referee, "code": code}), &[&cookie]).await.with(201);
        assert_eq!((&referral["referrer_id"], &referral["code"]), (&json!("alice"), &json!("ALICE")));
    }
    // A sign-up that is reported late counts from its own time.
    sign_up(&world, json!({"referee_id": "bob-4", "code": "ALICE", "signed_up_at": live}), &[]).await.with(201);
    world.end().await;
}

#[tokio::test]
async fn a_touch_counts_only_within_the_window() {
    let world = World::with_env([("ATTRIBUTION_WINDOW_DAYS", "0")]).await;
    world.mint("alice", "ALICE").await;
    let cookie = world.land("ALICE").await.unwrap();
    sleep(Duration::from_millis(5)).await;
    world.attribute_by_cookie("bob", &cookie).await.refused(400, "invalid_request");
    world.attribute("bob", "ALICE").await.with(201);
    world.end().await;
}

#[tokio::test]
async fn an_invalid_character_in_another_cookie_does_no_harm() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    let cookies = format!("name=Jos\u{e9}; {}", touch(&world, "ALICE").await);
    sign_up(&world, json!({"referee_id": "bob"}), &[&cookies]).await.with(201);
    world.end().await;
}

#[tokio::test]
async fn an_expiry_in_the_past_is_refused_unless_the_user_has_a_live_code() {
    let world = World::start().await;
    let body = json!({"code": "ALICE", "expires_at": from_now(400)});
    world.put("/v1/users/alice/code", body.clone()).await.with(201);
    world.mint("bob", "BOB").await;
    sleep(Duration::from_millis(450)).await;
    for user in ["alice", "carol"] {
        world.put(&format!("/v1/users/{user}/code"), body.clone()).await.refused(400, "invalid_request");
    }
    assert_eq!(world.put("/v1/users/bob/code", body).await.with(200)["code"], "BOB");
    world.end().await;
}
