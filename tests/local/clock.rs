//! The local service's clock, and the ids and ARNs that AWS would assign.

use referrals::domain::time::Timestamp;

/// The account that every local ARN names.
pub(crate) const ACCOUNT: &str = "000000000000";
/// The region that every local ARN names.
pub(crate) const REGION: &str = "us-east-1";

/// Milliseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the local service plays AWS, which has its own clock")]
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 with milliseconds.
pub(crate) fn text(millis: i64) -> String {
    Timestamp::from_millis(millis).map(|moment| moment.to_string()).unwrap_or_default()
}

/// RFC 3339 to the second, as EventBridge writes an event's `time`.
pub(crate) fn seconds_text(millis: i64) -> String {
    let text = text(millis);
    text.split_once('.').map(|(seconds, _)| format!("{seconds}Z")).unwrap_or(text)
}

/// The access log format in which API Gateway writes a request's `time`: `31/Jan/2026:09:30:00 +0000`.
pub(crate) fn log_text(millis: i64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = seconds_text(millis);
    let (date, time) = text.trim_end_matches('Z').split_once('T').unwrap_or_default();
    let mut date = date.split('-');
    let (year, month, day) = (date.next(), date.next(), date.next());
    let month = month.and_then(|month| MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?));
    let (day, month, year) = (day.unwrap_or_default(), month.unwrap_or(&""), year.unwrap_or_default());
    format!("{day}/{month}/{year}:{time} +0000")
}

/// A new id for a message, event or request.
pub(crate) fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A local ARN, such as `arn("sqs", "CreditQueue")`.
pub(crate) fn arn(service: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_like_on_aws() {
        assert_eq!(text(1_769_851_800_120), "2026-01-31T09:30:00.120Z");
        assert_eq!(seconds_text(1_769_851_800_120), "2026-01-31T09:30:00Z");
        assert_eq!(log_text(1_769_851_800_120), "31/Jan/2026:09:30:00 +0000");
    }
}
