//! The levels at which metric values are logged, read from the sources and compared with the template: Lambda drops each
//! line below a function's `ApplicationLogLevel`, and the metric values in it.

use std::collections::{BTreeMap, BTreeSet};

use referrals::runtime::log::METRICS;
use syn::{
    Item, Macro,
    visit::{self, Visit},
};

use crate::layers::{is_test, root, sources};

/// The levels of Lambda and of `tracing`, from the most detailed to the most severe.
const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

fn rank(level: &str) -> usize {
    let level = level.to_lowercase();
    LEVELS.iter().position(|known| *known == level).unwrap_or_else(|| panic!("{level} is not a level"))
}

/// Collects the levels of each metric's log lines.
#[derive(Default)]
struct Levels(BTreeMap<&'static str, BTreeSet<usize>>);

impl<'ast> Visit<'ast> for Levels {
    fn visit_item(&mut self, item: &'ast Item) {
        let is_test_module = matches!(item, Item::Mod(module) if is_test(&module.attrs));
        if !is_test_module {
            visit::visit_item(self, item);
        }
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        let name = called.path.segments.last().unwrap().ident.to_string();
        let text = called.tokens.to_string().replace(',', " , ");
        let words: Vec<&str> = text.split_whitespace().collect();
        for (metric, _) in METRICS {
            let is_field = |at: usize| {
                words[at] == metric
                    && (at == 0 || [",", "%", "?"].contains(&words[at - 1]))
                    && words.get(at + 1).is_none_or(|next| [",", "="].contains(next))
            };
            if LEVELS.contains(&name.as_str()) && (0..words.len()).any(is_field) {
                self.0.entry(metric).or_default().insert(rank(&name));
            }
        }
    }
}

fn levels() -> BTreeMap<&'static str, BTreeSet<usize>> {
    let mut levels = Levels::default();
    for path in ["shared/src", "functions"].into_iter().flat_map(|folder| sources(&root(folder))) {
        levels.visit_file(&syn::parse_file(&std::fs::read_to_string(path).unwrap()).unwrap());
    }
    levels.0
}

#[test]
fn every_metric_is_logged_at_info_or_a_more_severe_level() {
    let levels = levels();
    assert_eq!(levels.keys().copied().collect::<BTreeSet<_>>(), METRICS.iter().map(|(name, _)| *name).collect());
    for (metric, levels) in levels {
        assert!(levels.iter().all(|level| *level >= rank("info")), "{metric} is logged at {levels:?} of {LEVELS:?}");
    }
}

/// The function itself filters its lines by `LOG_LEVEL`, and passes each line with a metric at any level. So Lambda must
/// not drop a line of a level that an operator can set, or at which a metric is logged.
#[test]
fn lambda_drops_no_line_that_a_function_writes() {
    let template = local::template().unwrap();
    let settable = template["Parameters"]["LogLevel"]["AllowedValues"].as_array().unwrap().iter();
    let settable = settable.map(|level| rank(level.as_str().unwrap()));
    let most_detailed = levels().into_values().flatten().chain(settable).min().unwrap();
    let functions = template["Resources"].as_object().unwrap().iter();
    for (name, function) in functions.filter(|(_, resource)| resource["Type"] == "AWS::Serverless::Function") {
        let logging = &function["Properties"]["LoggingConfig"];
        assert_eq!(logging["LogFormat"], "JSON", "{name}");
        let level = logging["ApplicationLogLevel"].as_str();
        let level = level.unwrap_or_else(|| panic!("{name} has no ApplicationLogLevel; Lambda's default is INFO"));
        assert!(rank(level) <= most_detailed, "{name}: Lambda drops lines below {level}");
    }
}
