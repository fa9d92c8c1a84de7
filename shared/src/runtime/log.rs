//! The log: one JSON object per line and one line per outcome. Numeric fields listed in [`METRICS`] are also CloudWatch
//! metrics, in the embedded metric format (EMF), so that a metric and its context are in the same line.

use std::{
    fmt,
    io::{self, Write},
};

use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::runtime::{self, Env, Misconfigured};

/// The CloudWatch metrics: log fields that become a metric in any line, with their units. The alarms and the dashboard of
/// the template use these names.
pub const METRICS: [(&str, &str); 15] = [
    // Issued rewards.
    ("issued", "Count"),
    // Delivered rewards.
    ("delivered", "Count"),
    // Time from issue to delivery.
    ("delivery_age", "Seconds"),
    // Delivery attempts that the queue will repeat.
    ("retried", "Count"),
    // Permanently refused rewards.
    ("failed", "Count"),
    // Referrals that were due when the sweep started.
    ("sweep_backlog", "Count"),
    // How long the oldest of them had been due.
    ("sweep_lag", "Seconds"),
    // Referrals that the sweep issued or voided.
    ("sweep_advanced", "Count"),
    // Those of them that the stream should have issued or voided.
    ("stream_missed", "Count"),
    // The age of the oldest undelivered reward that the sweep found.
    ("oldest_undelivered", "Seconds"),
    // Referrals that need attention: a reward was permanently refused.
    ("parked", "Count"),
    // Code lookups answered from the function's memory, from the cache server, and from the table.
    ("cache_memory_hits", "Count"),
    ("cache_server_hits", "Count"),
    ("cache_misses", "Count"),
    // Cache server calls that failed or returned invalid data.
    ("cache_failures", "Count"),
];

/// A field that is also a dimension of the metrics in its line: the type of reward.
const DIMENSION: &str = "type";

/// The log level and the namespace of the metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    level: Level,
    namespace: String,
}

impl Settings {
    /// Reads `LOG_LEVEL` (default `INFO`), the minimum level, and `METRICS_NAMESPACE` (default `referrals`). Lines with
    /// metrics are logged at any level.
    ///
    /// # Errors
    /// Returns an error when `LOG_LEVEL` is not a level.
    pub fn from_env(env: &Env) -> Result<Self, Misconfigured> {
        let namespace = env.get("METRICS_NAMESPACE").unwrap_or("referrals").to_owned();
        Ok(Self { level: env.parsed("LOG_LEVEL", Level::INFO)?, namespace })
    }

    /// A subscriber that passes each log line, including the newline, to `write`.
    pub fn subscriber(self, write: impl Fn(&[u8]) + Send + Sync + 'static) -> impl Subscriber + Send + Sync {
        let level = self.level;
        let lines = Lines { namespace: self.namespace, write };
        tracing_subscriber::registry().with(lines.with_filter(filter_fn(move |what| is_logged(what, level))))
    }
}

/// Starts the log on standard output.
///
/// # Errors
/// Returns an error when a setting is invalid.
pub fn start(env: &Env) -> Result<(), Misconfigured> {
    // If standard output is closed, there is no place left to report it.
    Settings::from_env(env)?.subscriber(|line| drop(io::stdout().lock().write_all(line))).init();
    Ok(())
}

/// The fields of spans from this level up are added to every line, at any log level, because they identify the invocation.
/// Spans below it belong to the SDK. It creates a dozen per call, which would be a tenth of the work of a call.
const SPAN_LEVEL: Level = Level::INFO;

fn is_logged(what: &Metadata<'_>, level: Level) -> bool {
    *what.level() <= level
        || (what.is_span() && *what.level() <= SPAN_LEVEL)
        || what.fields().iter().any(|field| unit(field.name()).is_some())
}

fn unit(field: &str) -> Option<&'static str> {
    METRICS.iter().find(|(name, _)| *name == field).map(|(_, unit)| *unit)
}

/// Formats each event as a line.
struct Lines<W> {
    namespace: String,
    write: W,
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&[u8]) + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let now = runtime::now();
        let mut line = Fields::default();
        // The fields of the Lambda runtime's span, including the request id and the trace id.
        for span in context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            line.0.extend(span.extensions().get::<Fields>().map(|fields| fields.0.clone()).unwrap_or_default());
        }
        line.0.insert("timestamp".to_owned(), now.to_string().into());
        line.0.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.0.insert("target".to_owned(), event.metadata().target().into());
        event.record(&mut line);
        if let Some(metrics) = metrics(&line.0, &self.namespace, now.millis()) {
            line.0.insert("_aws".to_owned(), metrics);
        }
        let mut text = Value::Object(line.0).to_string();
        text.push('\n');
        (self.write)(text.as_bytes());
    }
}

/// The EMF directive for the metrics of a line, or `None` if the line has none.
fn metrics(line: &Map<String, Value>, namespace: &str, millis: i64) -> Option<Value> {
    let units = line.iter().filter(|(_, value)| value.is_number()).filter_map(|(name, _)| Some((name, unit(name)?)));
    let metrics: Vec<_> = units.map(|(name, unit)| json!({ "Name": name, "Unit": unit })).collect();
    let dimensions = if line.contains_key(DIMENSION) { json!([[], [DIMENSION]]) } else { json!([[]]) };
    let directive = json!({ "Namespace": namespace, "Dimensions": dimensions, "Metrics": metrics });
    (!metrics.is_empty()).then(|| json!({ "Timestamp": millis, "CloudWatchMetrics": [directive] }))
}

/// Fields by name.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().trim_start_matches("r#").to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The lines logged at this level while `work` runs.
    fn logged(level: &str, work: impl FnOnce()) -> Vec<Value> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let env = Env::default().with("LOG_LEVEL", level).with("METRICS_NAMESPACE", "stack");
        let kept = Arc::clone(&lines);
        let keep = move |line: &[u8]| kept.lock().unwrap().push(serde_json::from_slice(line).unwrap());
        tracing::subscriber::with_default(Settings::from_env(&env).unwrap().subscriber(keep), work);
        // Another thread that registers a callsite can still hold the subscriber, and with it `lines`.
        std::mem::take(&mut *lines.lock().unwrap())
    }

    #[test]
    fn a_metric_field_adds_an_emf_directive_to_its_line() {
        let lines = logged("INFO", || tracing::info!(outcome = "delivered", r#type = "credit", delivered = 1));
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(
            (&line["outcome"], &line["delivered"], &line["type"]),
            (&json!("delivered"), &json!(1), &json!("credit"))
        );
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "stack");
        assert_eq!(directive["Metrics"], json!([{"Name": "delivered", "Unit": "Count"}]));
        assert_eq!(directive["Dimensions"], json!([[], ["type"]]));
        assert!(line["_aws"]["Timestamp"].is_i64());
    }

    #[test]
    fn lines_without_metrics_have_no_directive_and_are_filtered_by_level() {
        let work = || {
            tracing::info!(outcome = "minted");
            tracing::error!(outcome = "broken", problem = ?"why");
            tracing::info!(outcome = "swept", sweep_backlog = 0_u64);
            tracing::debug!(outcome = "found", cache_memory_hits = 1);
        };
        let lines = logged("ERROR", work);
        assert_eq!(lines.iter().map(|line| &line["outcome"]).collect::<Vec<_>>(), ["broken", "swept", "found"]);
        assert!(lines[0].get("_aws").is_none());
        assert_eq!(lines[1]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([[]]));
        assert_eq!(logged("INFO", work).len(), 4);
    }

    #[test]
    fn a_line_has_the_fields_of_its_invocation() {
        let lines = logged("WARN", || {
            let span = tracing::info_span!("invocation", requestId = "r-1", trace = tracing::field::Empty);
            span.record("trace", "t-1");
            span.in_scope(|| tracing::warn!(outcome = "failed"));
        });
        assert_eq!((&lines[0]["requestId"], &lines[0]["trace"]), (&json!("r-1"), &json!("t-1")));
    }

    #[test]
    fn spans_below_info_are_disabled() {
        let is_enabled = |level: &str| {
            let mut enabled = None;
            logged(level, || enabled = Some(!tracing::debug_span!("sdk").is_disabled()));
            enabled.unwrap()
        };
        assert!(!is_enabled("INFO") && !is_enabled("ERROR") && is_enabled("DEBUG"));
    }
}
