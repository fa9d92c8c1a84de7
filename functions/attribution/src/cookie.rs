//! The cookie: stores the last visit through a referral link in the visitor's browser.

use std::time::Duration;

use cookie::{Cookie, CookieJar, Key, SameSite};
use percent_encoding::percent_decode_str;

use referrals::{
    domain::{code::Code, time::Timestamp},
    runtime::{
        Env, Misconfigured,
        secret::{Secret, Values},
    },
};

const COOKIE: &str = "referral";

/// A visit through a referral link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Touch {
    pub(crate) code: Code,
    pub(crate) at: Timestamp,
}

impl Touch {
    /// `CODE.MILLISECONDS`: a code has no dot.
    fn to_value(&self) -> String {
        format!("{}.{}", self.code, self.at.millis())
    }

    fn from_value(value: &str) -> Option<Self> {
        let (code, millis) = value.split_once('.')?;
        Some(Self { code: code.parse().ok()?, at: Timestamp::from_millis(millis.parse().ok()?)? })
    }
}

/// The keys that are valid now. New cookies are signed with the first one.
struct Keys(Vec<Key>);

impl Keys {
    /// The minimum length of the secret, which the signing library requires.
    const MIN_BYTES: usize = 32;

    fn new(values: &Values) -> Result<Self, String> {
        let keys = values.all().map(|value| {
            // White space at the ends is a part of the key, but not of its strength.
            let is_strong = value.trim_ascii().len() >= Self::MIN_BYTES;
            is_strong.then(|| Key::derive_from(value.as_bytes()))
        });
        keys.collect::<Option<_>>().map(Self).ok_or_else(|| format!("is shorter than {} bytes", Self::MIN_BYTES))
    }

    fn sign(&self, cookie: Cookie<'static>) -> Option<String> {
        let mut jar = CookieJar::new();
        jar.signed_mut(self.0.first()?).add(cookie);
        jar.get(COOKIE).map(ToString::to_string)
    }

    fn verify(&self, cookie: &Cookie<'static>) -> Option<Cookie<'static>> {
        let jar = CookieJar::new();
        self.0.iter().find_map(|key| jar.signed(key).verify(cookie.clone()))
    }
}

/// Writes touches into signed cookies and reads them back. Cookies without a valid signature are ignored.
#[derive(Clone)]
pub(crate) struct TouchCookie {
    keys: Secret<Keys>,
    domain: Option<String>,
    secure: bool,
    window: Duration,
}

impl TouchCookie {
    /// Reads `COOKIE_KEY` (the signing secret, at least 32 bytes), `COOKIE_DOMAIN` (empty: only this host) and
    /// `PUBLIC_URL` (if it is https, the cookie is sent only over https). A touch is valid for `window`.
    ///
    /// # Errors
    /// Returns an error when `COOKIE_KEY` is missing or too short.
    pub(crate) fn from_env(env: &Env, window: Duration) -> Result<Self, Misconfigured> {
        Ok(Self {
            keys: env.secret("COOKIE_KEY", Keys::new)?,
            domain: env.get("COOKIE_DOMAIN").map(str::to_owned),
            secure: env.get("PUBLIC_URL").is_some_and(|url| url.starts_with("https://")),
            window,
        })
    }

    /// The value of the `Set-Cookie` header that stores this touch in the browser.
    pub(crate) fn set(&self, touch: &Touch) -> String {
        let mut cookie = Cookie::build((COOKIE, touch.to_value()))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(SameSite::Lax)
            .max_age(cookie::time::Duration::try_from(self.window).unwrap_or(cookie::time::Duration::MAX));
        if let Some(domain) = &self.domain {
            cookie = cookie.domain(domain.clone());
        }
        self.keys.get().sign(cookie.build()).unwrap_or_default()
    }

    /// The touch in a `Cookie` header that counts for a sign-up at this time: the latest one that has a valid signature and
    /// had not expired. One after the sign-up counts only if there is no other.
    ///
    /// A browser can send several cookies with the same name, for a host and for its parent domain.
    pub(crate) fn latest(&self, header: &str, signed_up_at: Timestamp) -> Option<Touch> {
        let end = signed_up_at.plus(Timestamp::TOLERANCE);
        let keys = self.keys.get();
        Cookie::split_parse_encoded(header)
            .filter_map(Result::ok)
            .filter(|cookie| cookie.name() == COOKIE)
            .filter_map(|cookie| keys.verify(&restored(&cookie)))
            .filter_map(|cookie| Touch::from_value(cookie.value()))
            .filter(|touch| signed_up_at.since(touch.at) <= self.window)
            .max_by_key(|touch| (touch.at <= end, touch.at))
    }
}

/// The cookie as the browser got it. A server that rebuilds the header from parsed cookies may percent-encode the value
/// (Next.js, npm `cookie`), even if it did not decode it before, or quote it (Python's aiohttp); or decode a `+` as a space
/// (Rack, PHP before 7.4). The value itself contains neither percent signs nor quotes nor spaces.
fn restored(cookie: &Cookie<'_>) -> Cookie<'static> {
    /// The length of a signature in base64, without the `=` at its end.
    const SIGNATURE: usize = 43;
    let value = percent_decode_str(cookie.value_trimmed()).decode_utf8_lossy();
    let value = value.trim_matches('"').replace(' ', "+");
    // The parser of the header removes spaces at the beginning of a value.
    let removed = SIGNATURE.saturating_sub(value.find('=').unwrap_or(SIGNATURE));
    Cookie::new(COOKIE, "+".repeat(removed) + &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(90 * 24 * 60 * 60);

    fn cookies(secret: &str) -> TouchCookie {
        TouchCookie::from_env(&Env::default().with("COOKIE_KEY", secret), WINDOW).unwrap()
    }

    fn touch(code: &str, millis: i64) -> Touch {
        Touch { code: code.parse().unwrap(), at: Timestamp::from_millis(millis).unwrap() }
    }

    /// The cookie that a browser sends after this `Set-Cookie`.
    fn sent(set_cookie: &str) -> String {
        set_cookie.split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_touch_is_read_back_from_the_cookie() {
        let (cookies, touch) = (cookies(&"k".repeat(32)), touch("summer-fun", 1_000));
        let set = cookies.set(&touch);
        for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=7776000"] {
            assert!(set.contains(attribute), "{set}");
        }
        assert!(!set.contains("Secure"), "{set}");
        let header = format!("theme=dark; {}; lang=en", sent(&set));
        assert_eq!(cookies.latest(&header, touch.at), Some(touch));
    }

    #[test]
    fn with_https_the_cookie_is_secure_and_can_have_a_domain() {
        let env = Env::default()
            .with("COOKIE_KEY", "k".repeat(32))
            .with("PUBLIC_URL", "https://go.example.com")
            .with("COOKIE_DOMAIN", "example.com");
        let set = TouchCookie::from_env(&env, WINDOW).unwrap().set(&touch("abc", 0));
        assert!(set.contains("Secure") && set.contains("Domain=example.com"), "{set}");
    }

    #[test]
    fn a_forged_or_expired_touch_does_not_count() {
        let (ours, theirs) = (cookies(&"k".repeat(32)), cookies(&"x".repeat(32)));
        let touch = touch("abc", 0);
        let (end, late) = (touch.at.plus(WINDOW), touch.at.plus(WINDOW + Duration::from_millis(1)));
        let header = sent(&ours.set(&touch));
        assert_eq!(ours.latest(&header, end), Some(touch.clone()));
        assert_eq!(ours.latest(&header, late), None);
        assert_eq!(ours.latest(&sent(&theirs.set(&touch)), end), None);
        assert_eq!(ours.latest(&header.replace("abc.", "abd."), end), None);
        assert_eq!(ours.latest("referral=abc.0; referral; =; \u{1}", end), None);
    }

    /// Percent-encoded as Next.js 16 (`cookies().toString()`) and npm `cookie` 1.1 rebuild the header, quoted as aiohttp
    /// 3.14 does, encoded twice, or with a decoded `+`.
    #[test]
    fn a_cookie_that_a_server_encoded_or_quoted_counts() {
        let ours = cookies(&"k".repeat(32));
        // Signatures with each of the characters that those libraries encode or quote.
        let mut seen = [false; 2];
        for millis in 0..64 {
            let touch = touch("summer-fun", millis);
            let header = sent(&ours.set(&touch));
            let value = header.strip_prefix("referral=").unwrap();
            for (seen, special) in seen.iter_mut().zip(['+', '/']) {
                *seen |= value.contains(special);
            }
            let encode = |value: &str| {
                value
                    .replace('%', "%25")
                    .replace('+', "%2B")
                    .replace('/', "%2F")
                    .replace('=', "%3D")
                    .replace('"', "%22")
            };
            let encoded = encode(value);
            for forwarded in [
                encoded.clone(),
                encoded.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
                encode(&encoded),
                format!("\"{value}\""),
                format!("\"{encoded}\""),
                encode(&format!("\"{value}\"")),
                value.replace('+', " "),
                encoded.replace("%2B", "+").replace('+', "%20"),
            ] {
                let header = format!("session=a%20b; referral={forwarded}; broken=%ff");
                assert_eq!(ours.latest(&header, touch.at), Some(touch.clone()), "{header}");
            }
        }
        assert_eq!(seen, [true; 2], "no signature had a + or a /");
    }

    #[test]
    fn while_the_key_is_rotated_cookies_of_both_keys_count() {
        let env = Env::default().with("COOKIE_KEY_SECRET_ARN", "arn");
        let (old, new) = ("o".repeat(32), "n".repeat(32));
        env.hold_secret("COOKIE_KEY_SECRET_ARN", Values::new(&*old, [])).unwrap();
        let rotating = TouchCookie::from_env(&env, WINDOW).unwrap();
        let touch = touch("abc", 0);
        let before = sent(&rotating.set(&touch));
        env.hold_secret("COOKIE_KEY_SECRET_ARN", Values::new(&*new, [old.clone()])).unwrap();
        let after = sent(&rotating.set(&touch));
        assert_ne!(before, after);
        for header in [&before, &after] {
            assert_eq!(rotating.latest(header, touch.at), Some(touch.clone()));
        }
        assert_eq!(cookies(&new).latest(&after, touch.at), Some(touch.clone()), "signed with the current key");
        env.hold_secret("COOKIE_KEY_SECRET_ARN", Values::new(new, [])).unwrap();
        assert_eq!(rotating.latest(&before, touch.at), None);
        assert_eq!(rotating.latest(&after, touch.at), Some(touch));
    }

    #[test]
    fn the_latest_of_several_touches_wins() {
        let ours = cookies(&"k".repeat(32));
        let (older, newer) = (touch("abc", 1_000), touch("xyz", 2_000));
        let header = format!("{}; {}", sent(&ours.set(&newer)), sent(&ours.set(&older)));
        assert_eq!(ours.latest(&header, newer.at), Some(newer));
    }

    #[test]
    fn a_touch_after_the_sign_up_counts_only_without_another() {
        let ours = cookies(&"k".repeat(32));
        let (before, soon, after) = (touch("abc", 1_000), touch("xyz", 301_000), touch("late", 302_000));
        let header =
            |touches: &[&Touch]| touches.iter().map(|touch| sent(&ours.set(touch))).collect::<Vec<_>>().join("; ");
        let signed_up_at = before.at;
        assert_eq!(ours.latest(&header(&[&before, &after]), signed_up_at), Some(before.clone()));
        assert_eq!(ours.latest(&header(&[&after, &soon, &before]), signed_up_at), Some(soon));
        assert_eq!(ours.latest(&header(&[&after]), signed_up_at), Some(after));
    }

    #[test]
    fn a_short_key_is_refused() {
        for weak in ["short", &" ".repeat(64), &format!("{}\n", "k".repeat(31)), ""] {
            let problem = TouchCookie::from_env(&Env::default().with("COOKIE_KEY", weak), WINDOW).err();
            assert!(problem.is_some_and(|problem| problem.to_string().contains("COOKIE_KEY")), "{weak:?}");
        }
        assert!(TouchCookie::from_env(&Env::default(), WINDOW).is_err());
    }
}
