//! Malformed input: invalid requests get a problem document with a 4xx status, and invalid events are quarantined without
//! delaying valid ones.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World};

/// Every route, with a valid id or code.
const ROUTES: [(&str, &str); 8] = [
    ("PUT", "/v1/users/alice/code"),
    ("GET", "/v1/users/alice/code"),
    ("GET", "/v1/codes/ALICE"),
    ("GET", "/r/ALICE"),
    ("POST", "/v1/referrals"),
    ("GET", "/v1/referrals/alice"),
    ("GET", "/v1/users/alice/referrals"),
    ("GET", "/v1/users/alice/rewards"),
];

/// The routes that accept a body.
const WITH_BODY: [(Method, &str); 2] = [(Method::PUT, "/v1/users/alice/code"), (Method::POST, "/v1/referrals")];

async fn send(world: &World, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    world.send(Method::from_bytes(method.as_bytes()).unwrap(), path, &[], body).await
}

/// Asserts that a request was refused. `what` names the request in the failure message.
#[track_caller]
fn refused(answer: &Answer, status: u16, reason: &str, what: &str) {
    let said = answer.body["reason"].as_str();
    assert_eq!((answer.status.as_u16(), said), (status, Some(reason)), "{what:.500}: {answer:?}");
    answer.refused(status, reason);
}

/// A valid body for this route, with one field changed.
fn body(path: &str, field: &str, value: Value) -> Value {
    let mut body = if path == "/v1/referrals" { json!({"referee_id": "bob", "code": "ALICE"}) } else { json!({}) };
    body[field] = value;
    body
}

#[tokio::test]
async fn bodies_that_are_not_objects_are_refused() {
    let world = World::start().await;
    let deep = format!("{{\"code\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    for (method, path) in WITH_BODY {
        for body in [
            "{",
            "}",
            "{]",
            "null",
            "true",
            "7",
            "\"text\"",
            "[]",
            "[[]]",
            "[{}]",
            "[null,null,null,null]",
            r#"["bob","ALICE",null,null,null,null,null]"#,
            "{}{}",
            "{},",
            "{'code':'ALICE'}",
            "code=ALICE",
            " ",
            "\0",
            "{\"code\":\"ALICE\"",
            r#"{"code":"A","code":"B","referee_id":"bob"}"#,
            "\u{feff}{}",
            "<xml/>",
            r#"{"referee_id":"bob","code":"\ud800"}"#,
            r#"{"referee_id":"bob","code":NaN}"#,
            &deep,
        ] {
            let answer = world.send(method.clone(), path, &[], body).await;
            refused(&answer, 400, "invalid_request", &format!("{method} {path} {body}"));
        }
        for body in [&b"\xff"[..], b"{\"code\":\"\xff\"}", b"\x1f\x8b\x08\x00", b"\xef\xbb\xbf"] {
            for kind in
                ["application/json", "application/octet-stream", "text/plain; charset=latin1", "multipart/x", ""]
            {
                let answer = world.send(method.clone(), path, &[("content-type", kind)], body).await;
                answer.refused(400, "invalid_request");
            }
        }
    }
    // Required fields are missing.
    for body in ["", "{}", r#"{"code":"ALICE"}"#, r#"{"referee_id":"bob"}"#, r#"{"referee_id":null,"code":"ALICE"}"#] {
        world.send(Method::POST, "/v1/referrals", &[], body).await.refused(400, "invalid_request");
    }
    assert_eq!(world.contents().await, [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn fields_with_a_wrong_type_or_format_are_refused() {
    let world = World::start().await;
    world.mint("dave", "ALICE").await;
    let before = world.contents().await;
    let long = "x".repeat(10 * 1024);
    let [ids, codes] = [
        ["", " ", "a b", "a#b", "a:b", "a/b", "ä", "a\0", "a\n"],
        ["", "ab", "---", "a b", "a_b", "ç", "A#B", "a\0b", "abc\n"],
    ];
    let (long_id, long_code) = ("x".repeat(129), "x".repeat(33));
    let times = [
        "",
        "tomorrow",
        "2026-13-01T00:00:00Z",
        "2099-01-01",
        "2099-01-01T00:00:00",
        "10000-01-01T00:00:00Z",
        "+10000-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "-0001-01-01T00:00:00Z",
        "4070908800",
        "2027-06-15T12:34:60Z",
        "2026-12-31T23:59:60Z",
    ];
    let wrong = |field: &str| -> Vec<Value> {
        let texts: Vec<&str> = match field {
            "code" => codes.iter().copied().chain([long_code.as_str()]).collect(),
            "expires_at" => times.iter().copied().chain(["2020-01-01T00:00:00Z"]).collect(),
            "device_fingerprint" => vec![""],
            _ => ids.iter().copied().chain([long_id.as_str()]).collect(),
        };
        let types = [json!(7), json!(-1.5), json!(true), json!([]), json!({}), json!(["ALICE"]), json!({"a": 1})];
        // Longer than any field can be.
        texts.into_iter().map(Value::from).chain(types).chain([json!(long)]).collect()
    };
    for (method, path) in WITH_BODY {
        let fields: &[&str] = if path == "/v1/referrals" {
            &["referee_id"]
        } else {
            &["program", "code", "expires_at", "device_fingerprint"]
        };
        for field in fields {
            for value in wrong(field) {
                let body = body(path, field, value);
                let answer = world.send(method.clone(), path, &[], body.to_string()).await;
                refused(&answer, 400, "invalid_request", &format!("{path} {body:.200}"));
            }
        }
    }
    assert_eq!(world.contents().await, before);
    // Unknown fields are ignored, and `null` is the same as a missing field.
    let body =
        json!({"code": "BOB", "program": null, "expires_at": null, "device_fingerprint": null, "more": {"a": []}});
    world.put("/v1/users/bob/code", body).await.with(201);
    let body = json!({
        "referee_id": "bob", "code": "ALICE", "ip": "::1", "user_agent": "", "email": null, "signed_up_at": null,
        "more": [1],
    });
    world.post("/v1/referrals", body).await.with(201);
    world.end().await;
}

/// Values of the optional fields of a sign-up that cannot be read.
fn unreadable_fields() -> Vec<(&'static str, Value)> {
    let texts: [(&str, &[&str]); 5] = [
        (
            "ip",
            &[
                "",
                " ",
                "1.2.3",
                "256.1.1.1",
                "::g",
                "localhost",
                "203.0.113.7, 10.0.0.1",
                "203.0.113.7:80",
                "[::1]:80",
                "unknown",
            ],
        ),
        ("user_agent", &[""]),
        ("email", &[""]),
        ("device_fingerprint", &[""]),
        (
            "signed_up_at",
            &["", "tomorrow", "2026-13-01T00:00:00Z", "2026-01-31", "2026-06-15T12:34:60Z", "1969-12-31T23:59:59Z"],
        ),
    ];
    let types = [json!(7), json!(-1.5), json!(true), json!([]), json!({}), json!(["x"]), json!({"a": 1})];
    let long = [("device_fingerprint", json!("x".repeat(513))), ("ip", json!("x".repeat(10 * 1024)))];
    let fields = texts.iter().flat_map(|(field, texts)| {
        texts.iter().map(|text| json!(text)).chain(types.clone()).map(move |value| (*field, value))
    });
    fields.chain(long).collect()
}

#[tokio::test]
async fn optional_fields_cost_no_sign_up() {
    let world = without_redelivery().await;
    world.mint("alice", "ALICE").await;
    let fields = unreadable_fields();
    assert!(fields.len() > 50, "{}", fields.len());
    for (number, (field, value)) in fields.iter().enumerate() {
        let mut body = json!({"referee_id": format!("http-{number}"), "code": "ALICE"});
        body[*field] = value.clone();
        let answer = world.post("/v1/referrals", body.clone()).await;
        assert_eq!(answer.status, 201, "{body:.200}: {answer:?}");
        let mut detail = json!({"user_id": format!("event-{number}"), "code": "ALICE"});
        detail[*field] = value.clone();
        world.publish("customer.signed_up", detail).await;
    }
    // Half of a surrogate pair, as in a text that was cut.
    for field in ["email", "user_agent"] {
        let body = format!(r#"{{"referee_id":"cut-{field}","code":"ALICE","{field}":"Phone \ud83d"}}"#);
        world.send(Method::POST, "/v1/referrals", &[], body).await.with(201);
    }
    world.until_idle().await;
    for number in 0..fields.len() {
        assert_eq!(world.referral(&format!("event-{number}")).await["referrer_id"], "alice");
        world.get(&format!("/v1/users/event-{number}/code")).await.with(200);
    }
    world.end().await;
}

/// A code that cannot be one is an unknown code, and an empty code is no code.
#[tokio::test]
async fn a_code_that_cannot_be_one_costs_no_membership() {
    let world = without_redelivery().await;
    world.mint("alice", "ALICE").await;
    let cookie = world.land("ALICE").await.unwrap();
    let long = "x".repeat(10 * 1024);
    let texts = [
        "ab",
        "---",
        "a b",
        "a_b",
        "\u{e7}",
        "A#B",
        "a\0b",
        "!",
        "SAVE 10%",
        "ALICE BOB",
        "https://go.example.com/r/",
        &long,
    ];
    let values = [json!(7), json!(-1.5), json!(true), json!([]), json!({}), json!(["ALICE"]), json!({"code": "ALICE"})];
    let invalid: Vec<Value> = texts.iter().map(|text| json!(text)).chain(values).collect();
    for (number, value) in invalid.iter().enumerate() {
        let body = json!({"referee_id": "bob", "code": value}).to_string();
        for headers in [&[][..], &[("cookie", cookie.as_str())]] {
            let answer = world.send(Method::POST, "/v1/referrals", headers, body.clone()).await;
            refused(&answer, 404, "code_not_found", &body);
        }
        world.publish("customer.signed_up", json!({"user_id": format!("event-{number}"), "code": value})).await;
    }
    for (number, text) in
        [json!(""), json!(" "), json!("\r\n\t"), json!("\u{200b}\u{a0}"), json!(null)].iter().enumerate()
    {
        let body = json!({"referee_id": format!("http-{number}"), "code": text}).to_string();
        let without = world.send(Method::POST, "/v1/referrals", &[], body.clone()).await;
        refused(&without, 400, "invalid_request", &body);
        let headers = [("cookie", cookie.as_str())];
        let with = world.send(Method::POST, "/v1/referrals", &headers, body).await.with(201);
        assert_eq!(with["referrer_id"], "alice");
        world.publish("customer.signed_up", json!({"user_id": format!("none-{number}"), "code": text})).await;
    }
    world.until_idle().await;
    let minted =
        (0..invalid.len()).map(|number| format!("event-{number}")).chain((0..5).map(|number| format!("none-{number}")));
    for user in minted {
        world.get(&format!("/v1/users/{user}/code")).await.with(200);
        world.get(&format!("/v1/referrals/{user}")).await.refused(404, "referral_not_found");
    }
    world.end().await;
}

#[tokio::test]
async fn a_pasted_code_is_understood() {
    let world = without_redelivery().await;
    let link = world.mint("alice", "ADA-INVITES").await["link"].as_str().unwrap().to_owned();
    let texts = [
        " ADA-INVITES ".to_owned(),
        "ada-invites\r\n".to_owned(),
        "\u{a0}ADA\u{2011}INVITES".to_owned(),
        "\u{2014} ADA\u{2013}INVITES \u{2014}".to_owned(),
        "\u{201c}ADA\u{2212}INVITES\u{201d}".to_owned(),
        "\u{feff}ADA\u{ad}-INVITES\u{200b}.".to_owned(),
        link.clone(),
        format!("{link}/"),
        format!(" <{link}?utm_source=mail> "),
        format!("Join with {link}.\n"),
        "https://go.example.com/r/ada-invites".to_owned(),
        "go.example.com/r/ada%2Dinvites%20".to_owned(),
    ];
    for (number, text) in texts.iter().enumerate() {
        let answer = world.attribute(&format!("http-{number}"), text).await;
        assert_eq!(answer.status, 201, "{text:?}: {answer:?}");
        assert_eq!(answer.body["code"], "ADA-INVITES", "{text:?}");
        world.publish("customer.signed_up", json!({"user_id": format!("event-{number}"), "code": text})).await;
    }
    world.until_idle().await;
    for (number, text) in texts.iter().enumerate() {
        assert_eq!(world.referral(&format!("event-{number}")).await["code"], "ADA-INVITES", "{text:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn invalid_ids_and_codes_in_paths_are_refused() {
    let world = World::start().await;
    let long = "x".repeat(129);
    let huge = "x".repeat(10 * 1024);
    let bad_ids = [
        "%20",
        "a%20b",
        "a%23b",
        "a%3Ab",
        "a%00",
        "%0A",
        "%C3%A4",
        "%FF%FE",
        "a%FFb",
        "%25",
        "a%25zz",
        "%",
        "%2",
        "a%zz",
        "a*b",
        "a,b",
        "a;b",
        "a=b",
        "$a",
        "~a",
        "'a'",
        "(a)",
        "",
        "%22",
        "%3Fa",
        "%5C",
        "%F0%9F%8E%81",
        &long,
        &huge,
    ];
    for id in bad_ids {
        for (method, path) in [
            ("PUT", format!("/v1/users/{id}/code")),
            ("GET", format!("/v1/users/{id}/code")),
            ("GET", format!("/v1/referrals/{id}")),
            ("GET", format!("/v1/users/{id}/referrals")),
            ("GET", format!("/v1/users/{id}/rewards")),
            ("GET", format!("/v1/codes/{id}")),
        ] {
            let answer = send(&world, method, &path, "").await;
            refused(&answer, 400, "invalid_request", &format!("{method} {path}"));
        }
    }
    for code in ["ab", "---", &"x".repeat(33), "a_b", "a.b", "a@b", "a+b"] {
        world.get(&format!("/v1/codes/{code}")).await.refused(400, "invalid_request");
    }
    // The gateway decodes an escaped slash.
    for path in ["/v1/referrals/a%2Fb", "/v1/users/a%2Fb/code", "/v1/codes/a%2Fb", "/r/a%2Fb"] {
        world.get(path).await.refused(404, "not_found");
    }
    // The longest valid ids and codes are accepted.
    let longest = "x".repeat(128);
    world.get(&format!("/v1/referrals/{longest}")).await.refused(404, "referral_not_found");
    world.mint(&longest, &"y".repeat(32)).await;
    let referee = "z".repeat(128);
    assert_eq!(world.attribute(&referee, &"Y".repeat(32)).await.with(201)["referrer_id"], longest);
    world.order(&referee, &"o".repeat(128)).await;
    world.until_status(&referee, "rewarded").await;
    world.end().await;
}

#[tokio::test]
async fn bodies_over_the_size_limit_are_refused() {
    let world = World::start().await;
    world.mint("dave", "ALICE").await;
    let padded = |path: &str, size: usize| {
        let body = body(path, "device_fingerprint", json!("laptop")).to_string();
        format!("{body}{}", " ".repeat(size - body.len()))
    };
    const LIMIT: usize = 64 * 1024;
    let before = world.contents().await;
    for (method, path) in WITH_BODY {
        for size in [LIMIT + 1, 1024 * 1024, 10 * 1024 * 1024 + 1] {
            let answer = world.send(method.clone(), path, &[], padded(path, size)).await;
            refused(&answer, 413, "payload_too_large", &format!("{path} {size}"));
        }
        let garbage = vec![0xff; LIMIT + 1];
        world.send(method, path, &[], garbage).await.refused(413, "payload_too_large");
    }
    assert_eq!(world.contents().await, before);
    for (method, path) in WITH_BODY {
        world.send(method, path, &[], padded(path, LIMIT)).await.with(201);
    }
    // Checked after the route and the method, and before the parameters.
    let large = vec![b' '; LIMIT + 1];
    send(&world, "DELETE", "/v1/referrals", large.clone()).await.refused(405, "method_not_allowed");
    send(&world, "PUT", "/v1/nothing", large.clone()).await.refused(404, "not_found");
    send(&world, "PUT", "/v1/users/a%20b/code", large).await.refused(413, "payload_too_large");
    world.end().await;
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refused() {
    let world = World::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/codes/ALICE",
        "/V1/codes/ALICE",
        "/v1/users",
        "/v1/users/alice",
        "/v1/users/alice/codes",
        "/v1/users/alice/code/",
        "/v1/codes",
        "/v1/codes/ALICE/x",
        "/v1/referrals/bob/x",
        "/r/ALICE/x",
        "//r/ALICE",
        "/favicon.ico",
        "/.env",
        "/v1/users/alice/code%2F",
        "/v1//codes/ALICE",
        "/_local",
        "/_local/",
        "/_local/nothing",
    ] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let answer = send(&world, method, path, "").await;
            refused(&answer, 404, "not_found", &format!("{method} {path}"));
        }
    }
    for (_, path) in ROUTES {
        let mut takes: Vec<_> = ROUTES.iter().filter(|route| route.1 == path).map(|route| route.0).collect();
        // A program can check a link.
        takes.extend((path == "/r/ALICE").then_some("HEAD"));
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW", "get"] {
            if takes.contains(&method) {
                continue;
            }
            let answer = send(&world, method, path, "{").await;
            refused(&answer, 405, "method_not_allowed", &format!("{method} {path}"));
            let mut allowed: Vec<_> = answer.headers["allow"].to_str().unwrap().split(", ").collect();
            allowed.sort_unstable();
            let mut expected = takes.clone();
            expected.sort_unstable();
            assert_eq!(allowed, expected, "{path}");
        }
        let head = send(&world, "HEAD", path, "").await;
        assert_eq!(head.status, if takes.contains(&"HEAD") { 302 } else { 405 }, "HEAD {path}");
    }
    world.end().await;
}

#[tokio::test]
async fn invalid_queries_are_refused() {
    let world = World::start().await;
    let big = format!("limit={}", "9".repeat(4000));
    // `Ym9i` is "bob", and the last ones are positions with an invalid time or referee.
    let broken = [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=-1",
        "limit=",
        "limit=1.5",
        "limit=1e1",
        "limit=%201",
        "limit=4294967297",
        &big,
        "cursor=",
        "cursor=x",
        "cursor=!",
        "cursor=Ym9i",
        "cursor=%FF",
        "cursor=MjAyNi0wMS0zMSNib2I",
        "cursor=MjAyNi0wMS0zMVQwOTozMDowMC4wMDBaI2Igbw",
    ];
    for path in ["/v1/users/alice/referrals", "/v1/users/alice/rewards"] {
        for query in broken {
            let answer = world.get(&format!("{path}?{query}")).await;
            refused(&answer, 400, "invalid_request", &format!("{path} {query}"));
        }
        for query in ["limit=1", "limit=100", "", "&&", "=", "unknown=%FF", "limit=1&x", "LIMIT=0", "program=a%23b"] {
            world.get(&format!("{path}?{query}")).await.with(200);
        }
    }
    for query in ["code=ab", "code=", "code=a%20b", "code=%00abc"] {
        world.get(&format!("/v1/users/alice/referrals?{query}")).await.refused(400, "invalid_request");
        world.get(&format!("/v1/users/alice/rewards?{query}")).await.with(200);
    }
    for query in ["program=", "program=a%20b", "program=a%23b"] {
        world.get(&format!("/v1/users/alice/code?{query}")).await.refused(400, "invalid_request");
    }
    world.end().await;
}

#[tokio::test]
async fn unusual_headers_change_nothing() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    let long = "x".repeat(20 * 1024);
    let cookies = "referral=x; ".repeat(1000);
    let headers: Vec<Vec<(&str, &str)>> = vec![
        vec![("cookie", &long)],
        vec![("cookie", &cookies)],
        vec![("cookie", "=;=;;;referral;referral=;\u{e9}=\u{e9}; referral=%FF.%00")],
        vec![("x-nonsense", "\u{fffd}\u{1f381}"), ("x-tab", "a\tb")],
        vec![("host", "a b")],
        vec![("host", "")],
        vec![("host", "user:pass@evil.example/../?#")],
        vec![("host", "[::1")],
        vec![("host", "a`b")],
        vec![("host", "a#b")],
        vec![("host", "a:99999")],
        vec![("host", &long)],
        vec![("content-type", "application/json; charset=\"\u{e9}\"")],
        vec![("content-type", &long)],
        vec![("accept", "no/such"), ("accept-encoding", "x"), ("expect", "the worst")],
        vec![("x-forwarded-for", "no address"), ("x-forwarded-host", "//"), ("x-forwarded-proto", "gopher")],
        vec![("x-amz-target", "AWSEvents.PutEvents")],
        vec![("authorization", "Bearer x"), ("range", "bytes=9-1"), ("if-none-match", "*"), ("upgrade", "h2c")],
    ];
    for headers in &headers {
        let get = world.send(Method::GET, "/v1/codes/ALICE", headers, "").await;
        assert_eq!(get.status, 200, "{headers:.200?} {get:?}");
        let land = world.send(Method::GET, "/r/ALICE", headers, "").await;
        assert_eq!((land.status.as_u16(), land.cookie().is_some()), (302, true), "{headers:.200?}");
        let post = world.send(Method::POST, "/v1/referrals", headers, r#"{"referee_id":"bob"}"#).await;
        refused(&post, 400, "invalid_request", &format!("{headers:.200?}"));
    }
    let many: Vec<_> = (0..80).map(|number| (format!("x-{number}"), "y".repeat(100))).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    world.send(Method::GET, "/v1/codes/ALICE", &many, "").await.with(200);
    world.end().await;
}

/// A reproducible source of random numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.roll(all.len())]
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap()
    }

    /// A part of a path: usually a meaningful one, otherwise any bytes, escaped.
    fn part(&mut self) -> String {
        const MEANINGFUL: [&str; 14] = [
            "v1",
            "r",
            "users",
            "codes",
            "referrals",
            "rewards",
            "code",
            "alice",
            "bob",
            "ALICE",
            "b@b.c+d",
            "",
            "..",
            "%2F",
        ];
        if self.roll(4) > 0 {
            return self.one_of(&MEANINGFUL).to_owned();
        }
        (0..self.roll(40)).map(|_| format!("%{:02X}", self.byte())).collect()
    }

    /// A method and a path: a route of the service, usually with changes.
    fn route(&mut self) -> (&'static str, String) {
        let (mut method, route) = ROUTES[self.roll(ROUTES.len())];
        if self.roll(5) == 0 {
            method = self.one_of(&["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"]);
        }
        let mut parts: Vec<String> = route.split('/').skip(1).map(str::to_owned).collect();
        for _ in 0..self.roll(3) {
            let at = self.roll(parts.len());
            match self.roll(12) {
                0 => parts.insert(at, self.part()),
                1 if parts.len() > 1 => drop(parts.remove(at)),
                2 => parts[at] = self.part(),
                _ => {
                    let id = parts.iter().position(|part| ["alice", "ALICE"].contains(&part.as_str()));
                    id.into_iter().for_each(|at| parts[at] = self.part());
                }
            }
        }
        let query = match self.roll(3) {
            0 => format!("?{}={}", self.one_of(&["limit", "cursor", "code", "program", "x"]), self.part()),
            _ => String::new(),
        };
        (method, format!("/{}{query}", parts.join("/")))
    }

    /// A body: usually JSON with known fields and unusual values, sometimes with changed bytes.
    fn body(&mut self) -> Vec<u8> {
        const FIELDS: [&str; 9] =
            ["referee_id", "code", "device_fingerprint", "program", "expires_at", "signed_up_at", "ip", "email", "x"];
        let mut body = json!({});
        for _ in 0..self.roll(6) {
            body[self.one_of(&FIELDS)] = self.value(3);
        }
        let mut bytes = body.to_string().into_bytes();
        if self.roll(3) == 0 {
            for _ in 0..=self.roll(3) {
                let at = self.roll(bytes.len());
                bytes[at] = self.byte();
            }
        }
        if self.roll(20) == 0 {
            bytes.resize(self.roll(70 * 1024), b' ');
        }
        bytes
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.roll(if depth == 0 { 8 } else { 10 }) {
            0 => Value::Null,
            1 => json!(self.roll(2) == 0),
            2 => json!(f64::from(self.byte()) * -1e300),
            3 => json!(u64::MAX - self.roll(9) as u64),
            4 => json!(self.one_of(&["alice", "bob", "carol", "b b", "::1", "default", "2099-01-01T00:00:00Z"])),
            5 => json!(self.one_of(&["ALICE", "a11ce", "NEW-1", "---", "\0", "\u{1f381}", "2020-01-01T00:00:00Z"])),
            6 => json!(String::from_utf8_lossy(&(0..self.roll(50)).map(|_| self.byte()).collect::<Vec<_>>())),
            7 => json!("x".repeat(self.roll(600))),
            8 => (0..self.roll(3)).map(|_| self.value(depth - 1)).collect(),
            _ => json!({"code": self.value(depth - 1)}),
        }
    }

    fn headers(&mut self) -> Vec<(&'static str, String)> {
        const NAMES: [&str; 5] = ["cookie", "content-type", "host", "accept", "x-forwarded-for"];
        let headers = (0..self.roll(3)).map(|_| {
            let name = self.one_of(&NAMES);
            let printable = |byte: u8| char::from(b' ' + byte % 95);
            (name, (0..self.roll(60)).map(|_| printable(self.byte())).collect())
        });
        headers.collect()
    }
}

/// Every reason that a random request can get.
const REASONS: [&str; 15] = [
    "not_found",
    "method_not_allowed",
    "payload_too_large",
    "invalid_request",
    "program_not_found",
    "code_not_found",
    "already_referred",
    "code_expired",
    "not_new",
    "self_referral",
    "referrer_flagged",
    "device_match",
    "reciprocal_referral",
    "code_taken",
    "referral_not_found",
];

/// Run it with `SEED=<number>` to repeat a failure or to try other requests.
#[tokio::test]
async fn three_hundred_random_requests_are_answered() {
    let seed = std::env::var("SEED").map_or(20_260_131, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    let mut seen = std::collections::BTreeMap::<u16, u32>::new();
    for number in 0..300 {
        let ((method, path), headers, body) = (dice.route(), dice.headers(), dice.body());
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let what = format!("{number}: {method} {path} {headers:?} {}", String::from_utf8_lossy(&body));
        let answer = world.send(Method::from_bytes(method.as_bytes()).unwrap(), &path, &headers, body).await;
        *seen.entry(answer.status.as_u16()).or_default() += 1;
        match answer.status.as_u16() {
            200 | 201 => assert!(answer.body.is_object(), "{what:.2000}: {answer:?}"),
            302 => assert!(answer.headers.contains_key("location"), "{what:.2000}: {answer:?}"),
            400..500 => assert!(REASONS.contains(&answer.reason()), "{what:.2000}: {answer:?}"),
            _ => panic!("{what:.2000}: {answer:?}"),
        }
    }
    println!("{seen:?}");
    // The requests reach all parts of the service: every kind of answer occurs.
    for status in [200, 302, 400, 404, 405] {
        assert!(seen.contains_key(&status), "{status} of {seen:?}");
    }
    world.end().await;
}

/// A valid detail of this type of event.
pub(crate) fn valid_detail(detail_type: &str) -> Value {
    match detail_type {
        "order.completed" => json!({"order_id": "o-1", "user_id": "bob", "amount": 1, "currency": "USD"}),
        "order.refunded" => {
            json!({"refund_id": "f-1", "order_id": "o-1", "amount": 1, "currency": "USD"})
        }
        "order.refund_failed" => json!({"refund_id": "f-1", "order_id": "o-1"}),
        "order.cancelled" | "payment.disputed" | "payment.dispute_won" => json!({"order_id": "o-1"}),
        "account.flagged" => json!({"user_id": "bob", "reason": "x"}),
        _ => json!({"user_id": "bob"}),
    }
}

pub(crate) const EVENTS: [&str; 9] = [
    "order.completed",
    "order.refunded",
    "order.refund_failed",
    "order.cancelled",
    "payment.disputed",
    "payment.dispute_won",
    "account.flagged",
    "account.cleared",
    "customer.signed_up",
];

/// Invalid details of this type: each field missing, with a wrong type, and with a wrong format.
pub(crate) fn invalid_details(detail_type: &str) -> Vec<Value> {
    let valid = valid_detail(detail_type);
    let mut details = vec![json!({})];
    for field in valid.as_object().unwrap().keys() {
        let mut without = valid.clone();
        without.as_object_mut().unwrap().remove(field);
        details.push(without);
        let wrong = match field.as_str() {
            "amount" => {
                vec![json!("1"), json!(-1), json!(1.5), json!(9_007_199_254_740_992_u64), json!(null), json!([])]
            }
            "currency" => vec![json!("usd"), json!("US"), json!(""), json!(840), json!(null)],
            "reason" => vec![json!(7), json!(null), json!({})],
            _ => {
                vec![json!(""), json!("b b"), json!("b#b"), json!("x".repeat(129)), json!(7), json!(null), json!(["b"])]
            }
        };
        details.extend(wrong.into_iter().map(|value| {
            let mut detail = valid.clone();
            detail[field] = value;
            detail
        }));
    }
    let optional: &[(&str, Value)] = match detail_type {
        "order.completed" | "account.flagged" | "account.cleared" => {
            &[("occurred_at", json!("yesterday")), ("occurred_at", json!(7))]
        }
        "order.refunded" | "order.refund_failed" | "order.cancelled" => {
            &[("user_id", json!("b b")), ("user_id", json!(""))]
        }
        "payment.disputed" | "payment.dispute_won" => &[
            ("user_id", json!("b b")),
            ("dispute_id", json!("d d")),
            ("dispute_id", json!(7)),
            ("occurred_at", json!("yesterday")),
        ],
        _ => &[],
    };
    details.extend(optional.iter().map(|(field, value)| {
        let mut detail = valid.clone();
        detail[field] = value.clone();
        detail
    }));
    let mut kinds = Vec::new();
    details.into_iter().for_each(|detail| {
        if !kinds.contains(&detail) {
            kinds.push(detail)
        }
    });
    kinds
}

/// A World whose delay queue delivers nothing during the test.
pub(crate) async fn without_redelivery() -> World {
    World::with(|options| options.pace.delay = Duration::from_secs(600)).await
}

#[tokio::test]
async fn invalid_events_are_quarantined_and_delay_nothing() {
    let mut world = without_redelivery().await;
    world.refer("alice", "bob").await;
    world.until_idle().await;
    let before = world.contents().await;
    let mut published = Vec::new();
    for detail_type in EVENTS {
        for detail in invalid_details(detail_type) {
            world.publish(detail_type, detail.clone()).await;
            published.push((detail_type, detail));
        }
    }
    assert!(published.len() > 80, "{}", published.len());
    world.until_idle().await;
    assert_eq!(world.contents().await, before, "an invalid event changed the table");
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;

    let quarantined = world.get("/_local/parked").await.with(200);
    assert_eq!(quarantined["count"], published.len());
    let items = quarantined["items"].as_array().unwrap();
    for (detail_type, detail) in &published {
        let is_this = |item: &&Value| {
            let event = &item["body"]["payload"];
            event["detail-type"] == *detail_type && event["detail"] == *detail
        };
        let found: Vec<_> = items.iter().filter(is_this).collect();
        let [item] = found[..] else { panic!("{detail_type} {detail}: {found:#?}") };
        assert_eq!((&item["queue"], &item["body"]["function"]), (&json!("QuarantineQueue"), &json!("conversion")));
        assert_eq!(item["body"]["payload"]["source"], "shop", "the whole envelope is stored");
        assert!(item["body"]["reason"].as_str().unwrap().contains(detail_type), "{item:#}");
        assert!(item["body"]["parked_at"].is_string(), "{item:#}");
    }
    world.expect_unprocessed(published.len() as u64);
    world.end().await;
}

#[tokio::test]
async fn an_invalid_event_is_quarantined_when_it_arrives_first_and_not_again() {
    let mut world = World::start().await;
    let detail = json!({"user_id": "bob"});
    world.publish("order.completed", detail.clone()).await;
    let quarantined = async || world.get("/_local/parked").await.with(200);
    world.until_idle().await;
    world.until_redelivered().await;
    let quarantined = quarantined().await;
    assert_eq!((&quarantined["count"], &quarantined["items"][0]["body"]["payload"]["detail"]), (&json!(1), &detail));
    world.expect_unprocessed(1);
    world.end().await;
}

#[tokio::test]
async fn unknown_event_types_and_fields_are_ignored() {
    let world = without_redelivery().await;
    world.refer("alice", "bob").await;
    world.publish("order.shipped", json!({"order_id": 7})).await;
    world.publish("ORDER.COMPLETED", json!({})).await;
    let detail = json!({
        "order_id": "o-1", "user_id": "bob", "amount": 1, "currency": "USD", "lines": [{"sku": 1}], "user": null, "": "",
    });
    world.publish("order.completed", detail).await;
    world.until_status("bob", "rewarded").await;

    // They are also ignored if the rule lets them through.
    for detail in [json!({}), json!(null), json!("text")] {
        let event = json!({"detail-type": "order.shipped", "source": "shop", "detail": detail});
        assert_eq!(world.service().invoke("ConversionFunction", event).await.unwrap(), Value::Null);
    }
    world.end().await;
}

#[tokio::test]
async fn payloads_that_are_not_events_are_quarantined() {
    let mut world = without_redelivery().await;
    let payloads =
        [json!(null), json!("text"), json!(7), json!([]), json!({}), json!({"detail-type": 7, "detail": {}})];
    for payload in &payloads {
        assert_eq!(world.service().invoke("ConversionFunction", payload.clone()).await.unwrap(), Value::Null);
    }
    let quarantined = world.get("/_local/parked").await.with(200);
    let found: Vec<_> = quarantined["items"].as_array().unwrap().iter().map(|item| &item["body"]["payload"]).collect();
    assert_eq!(found, payloads.iter().collect::<Vec<_>>());

    // In a batch, each message is handled on its own.
    world.refer("alice", "bob").await;
    let event = json!({"detail-type": "order.completed", "source": "shop", "detail": valid_detail("order.completed")});
    let bodies = ["not JSON".to_owned(), "{}".to_owned(), event.to_string()];
    let records =
        bodies.iter().enumerate().map(|(number, body)| json!({"messageId": number.to_string(), "body": body}));
    let batch = json!({"Records": records.collect::<Vec<_>>()});
    let answer = world.service().invoke("ConversionFunction", batch).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    world.until_status("bob", "rewarded").await;
    let quarantined = world.get("/_local/parked").await.with(200);
    let found: Vec<_> = quarantined["items"].as_array().unwrap().iter().map(|item| &item["body"]["payload"]).collect();
    assert_eq!(found.len(), payloads.len() + 2);
    assert!(found.contains(&&json!("not JSON")), "{found:#?}");
    world.expect_unprocessed(payloads.len() as u64 + 2);
    world.end().await;
}

#[tokio::test]
async fn put_events_refuses_single_entries() {
    let world = without_redelivery().await;
    world.refer("alice", "bob").await;
    let bus = world.service().env().get("BUS_NAME").unwrap();
    let good = json!({
        "EventBusName": bus, "Source": "shop", "DetailType": "order.completed",
        "Detail": valid_detail("order.completed").to_string(),
    });
    let changed = |field: &str, value: Value| {
        let mut entry = good.clone();
        entry[field] = value;
        entry
    };
    let entries = [
        (changed("Detail", json!("{")), Some("MalformedDetail")),
        (changed("Detail", json!("[]")), Some("MalformedDetail")),
        (changed("Detail", json!("null")), Some("MalformedDetail")),
        (changed("Detail", json!(null)), Some("InvalidArgument")),
        (changed("Source", json!(null)), Some("InvalidArgument")),
        (changed("Source", json!("")), Some("InvalidArgument")),
        (changed("DetailType", json!(7)), Some("InvalidArgument")),
        (good.clone(), None),
    ];
    let all: Vec<_> = entries.iter().map(|(entry, _)| entry).collect();
    let answer = world.put_events(json!({"Entries": all})).await.with(200);
    assert_eq!(answer["FailedEntryCount"], 7, "{answer:#}");
    assert_eq!(answer["Entries"].as_array().unwrap().len(), 8);
    for ((entry, code), said) in entries.iter().zip(answer["Entries"].as_array().unwrap()) {
        assert_eq!(said.get("ErrorCode").and_then(Value::as_str), *code, "{entry}: {said}");
        assert_eq!(said["EventId"].is_string(), code.is_none(), "{entry}: {said}");
    }
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let events = world.events().await;
    assert_eq!(events.iter().filter(|event| event["source"] == "shop").count(), 1, "{events:#?}");

    for (body, kind) in [
        (json!({}), "SerializationException"),
        (json!({"Entries": {}}), "SerializationException"),
        (json!({"Entries": []}), "ValidationException"),
        (json!({"Entries": vec![&good; 11]}), "ValidationException"),
        (json!({"Entries": [changed("EventBusName", json!("nowhere"))]}), "ResourceNotFoundException"),
        (
            json!({"Entries": [changed("Detail", json!(format!("{{\"a\":\"{}\"}}", "x".repeat(1024 * 1024))))]}),
            "ValidationException",
        ),
        (json!([]), "SerializationException"),
        (json!(7), "SerializationException"),
    ] {
        let answer = world.put_events(body.clone()).await.with(400);
        assert_eq!(answer["__type"], kind, "{body:.200}");
    }
    let headers = [("x-amz-target", "AWSEvents.PutEvents")];
    assert_eq!(world.send(Method::POST, "/", &headers, "{").await.with(400)["__type"], "SerializationException");
    let headers = [("x-amz-target", "AWSEvents.DropEverything")];
    assert_eq!(world.send(Method::POST, "/", &headers, "{}").await.with(400)["__type"], "UnknownOperationException");
    world.end().await;
}

/// AWS reserves these sources. A time must be one, within the years that an envelope can show.
#[tokio::test]
async fn put_events_refuses_reserved_sources_and_impossible_times() {
    let world = without_redelivery().await;
    world.refer("alice", "bob").await;
    let bus = world.service().env().get("BUS_NAME").unwrap();
    let entry = |field: &str, value: Value| {
        let detail = valid_detail("order.completed").to_string();
        let mut entry =
            json!({"EventBusName": bus, "Source": "shop", "DetailType": "order.completed", "Detail": detail});
        entry[field] = value;
        entry
    };
    let now = 1_769_851_800_u64;
    let entries = [
        (entry("Source", json!("aws.ec2")), Some("NotAuthorizedForSourceException")),
        (entry("Source", json!("aws.partner/example.com/a")), Some("NotAuthorizedForSourceException")),
        (entry("Time", json!(now * 1000)), Some("InvalidArgument")),
        (entry("Time", json!(-1)), Some("InvalidArgument")),
        (entry("Source", json!("aws")), None),
        (entry("Time", json!(now)), None),
        (entry("Time", json!(1_769_851_800.123_456)), None),
        (entry("Time", json!("2026-01-31T10:30:00+01:00")), None),
    ];
    let all: Vec<_> = entries.iter().map(|(entry, _)| entry).collect();
    let answer = world.put_events(json!({"Entries": all})).await.with(200);
    assert_eq!(answer["FailedEntryCount"], 4, "{answer:#}");
    for ((entry, code), said) in entries.iter().zip(answer["Entries"].as_array().unwrap()) {
        assert_eq!(said.get("ErrorCode").and_then(Value::as_str), *code, "{entry}: {said}");
    }
    for time in [json!(true), json!("tomorrow"), json!("1769851800"), json!({}), json!([])] {
        let answer = world.put_events(json!({"Entries": [entry("Time", time.clone())]})).await.with(400);
        assert_eq!(answer["__type"], "SerializationException", "{time}");
    }
    let events = world.events().await;
    let mut times: Vec<_> =
        events.iter().filter(|event| event["source"] == "shop").map(|event| &event["time"]).collect();
    times.dedup();
    assert_eq!(times, ["2026-01-31T09:30:00Z"]);
    world.end().await;
}

/// A partner's events reach the rules of its own bus only.
#[tokio::test]
async fn put_partner_events_accepts_partners_only() {
    let world = without_redelivery().await;
    let headers = [("x-amz-target", "AWSEvents.PutPartnerEvents")];
    let put = async |source: &str, count: usize| {
        let entry = json!({"Source": source, "DetailType": "order.completed", "Detail": "{\"order_id\":7}"});
        world.send(Method::POST, "/", &headers, json!({"Entries": vec![entry; count]}).to_string()).await
    };
    let answer = put("aws.partner/example.com/shop", 20).await.with(200);
    assert_eq!((&answer["FailedEntryCount"], answer["Entries"].as_array().unwrap().len()), (&json!(0), 20));
    for (source, count) in [("shop", 1), ("aws.ec2", 1), ("aws.partner/example.com", 1), ("aws.partner/a/b", 21)] {
        assert_eq!(put(source, count).await.with(400)["__type"], "ValidationException", "{source}");
    }
    let events = world.events().await;
    assert_eq!(events.iter().filter(|event| event["source"] == "aws.partner/example.com/shop").count(), 20);
    world.until_idle().await;
    // The rule of the product's events would have sent them to quarantine.
    assert_eq!(world.get("/_local/parked").await.with(200)["count"], 0);
    world.end().await;
}

#[tokio::test]
async fn local_paths_are_strict_too() {
    let world = World::start().await;
    for (method, path, status, reason) in [
        ("POST", "/_local/deliveries", 405, "method_not_allowed"),
        ("DELETE", "/_local/parked", 405, "method_not_allowed"),
        ("GET", "/_local/events?after=-1", 400, "invalid_request"),
        ("POST", "/_local/live", 405, "method_not_allowed"),
        ("GET", "/_local/live/nothing", 404, "not_found"),
        ("GET", "/_local/subsystems/credit", 405, "method_not_allowed"),
        ("GET", "/_local/subsystems/gold", 404, "not_found"),
        ("POST", "/_local/subsystems/credit/script", 405, "method_not_allowed"),
        ("PUT", "/_local/subsystems/credit/script", 400, "invalid_request"),
    ] {
        send(&world, method, path, "{").await.refused(status, reason);
    }
    for script in
        [json!({"answers": [7]}), json!({"delay_ms": -1}), json!({"delay_ms": 60_001}), json!({"answer": [500]})]
    {
        world.put("/_local/subsystems/credit/script", script).await.refused(400, "invalid_request");
    }
    world.end().await;
}

/// API Gateway passes the query on unchanged, and it can contain characters that are invalid in a URI.
#[tokio::test]
async fn a_query_with_characters_invalid_in_a_uri_is_read() {
    let world = World::start().await;
    for query in ["x=<a>", "limit=\"7\"", "a b", "#", "\u{e4}=\u{1}", "limit=7&x=<>"] {
        let event = json!({
            "version": "2.0", "rawPath": "/v1/users/bob/referrals", "rawQueryString": query, "headers": {},
            "requestContext": {"http": {"method": "GET", "path": "/"}, "stage": "$default"}, "isBase64Encoded": false,
        });
        let answer = world.service().invoke("AttributionFunction", event).await.unwrap();
        let expected = if query.contains('"') { 400 } else { 200 };
        assert_eq!(answer["statusCode"], expected, "{query}: {answer}");
    }
    world.end().await;
}
