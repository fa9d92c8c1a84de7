//! The warehouse, held to the metrics: many random lives go through the real functions, what these put on the bus goes
//! through the template's transformer into Parquet, twice and in any order, and the views say what the metrics say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use fastrand::Rng;
use local::{Service, Transformer};
use referrals::{
    bus::SOURCE,
    id::ProgramId,
    metrics::{
        Board, Figures, Metrics, Period, TOOK,
        calendar::{Day, Month, Week},
        figure::{LASTING, Stage},
    },
    referral::Referral,
    reward::{Benefit, Side},
    runtime::Call,
    table,
};
use serde_json::{Value, json};

use crate::{
    analytics::{patient, record},
    histories::{SEED, histories, life, put_all, service},
    schemas::quoted,
    world::{
        self, Wire,
        duck::{Answer, Duck, Lines, Request, Row},
        recount::{Tally, difference},
    },
};

/// The views, each behind those that it builds on.
const VIEWS: [&str; 13] = [
    "events",
    "referrals",
    "milestones",
    "reward_events",
    "daily",
    "daily_voids",
    "daily_rewards",
    "daily_took",
    "referrers",
    "referrer_rewards",
    "cohorts",
    "liability",
    "held",
];
const PROGRAMS: [&str; 2] = ["default", "other"];
/// Days on which events arrive, however long ago it was that they came to pass.
const ARRIVALS: [&str; 3] = ["2026-11-27", "2026-11-28", "2026-12-01"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../functions/analytics/warehouse")
}

/// What a view is for, and its SQL: the file's first line, and the rest.
fn view(name: &str) -> (String, String) {
    let text = fs::read_to_string(folder().join(name).with_extension("sql")).unwrap();
    let (head, sql) = text.split_once('\n').unwrap();
    (head.strip_prefix("-- ").unwrap().to_owned(), sql.trim_end().to_owned())
}

fn resource(name: &str) -> Value {
    local::template().unwrap()["Resources"][name].clone()
}

/// The columns of the table in which events arrive, with their types.
fn columns() -> Vec<(String, String)> {
    let table = resource("WarehouseArrivals")["Properties"]["TableInput"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let columns = table["StorageDescriptor"]["Columns"].as_array().unwrap().iter();
    columns.map(|column| (text(&column["Name"]), duckdb_type(column["Type"].as_str().unwrap()).to_owned())).collect()
}

fn duckdb_type(hive: &str) -> &'static str {
    match hive {
        "string" => "VARCHAR",
        other => panic!("a type of columns that this test does not know: {other}"),
    }
}

/// The views on what arrived, and the answers to these questions.
fn asked(duck: &Duck, lines: &Lines, questions: &[String]) -> Answer {
    duck.ask(&Request {
        folder: lines.folder(),
        table: resource("WarehouseArrivals")["Properties"]["TableInput"]["Name"].as_str().unwrap(),
        columns: &columns(),
        views: &VIEWS.map(|name| (name, view(name).1)),
        questions,
    })
}

/// What Firehose is given of each event.
fn transformer() -> Transformer {
    let rule = resource("WarehouseRule")["Properties"].clone();
    assert_eq!(rule["EventPattern"], json!({"source": [SOURCE]}), "every event of ours");
    let [target] = &rule["Targets"].as_array().unwrap()[..] else { panic!("{rule}") };
    assert_eq!(target["Arn"], "WarehouseStream");
    Transformer::new(&target["InputTransformer"]).unwrap()
}

/// A call before any hold ends, so that nothing is issued that no life tells of.
fn early() -> Call {
    Call { now: "1970-01-01T00:00:00Z".parse().unwrap(), ..Call::begin(Duration::from_secs(60)).unwrap() }
}

/// The records of these lives, those of one life in their order, some of them twice.
fn records(rng: &mut Rng, lives: &[Vec<Referral>]) -> Vec<Value> {
    let mut turns: Vec<_> = lives.iter().enumerate().flat_map(|(place, life)| vec![place; life.len()]).collect();
    rng.shuffle(&mut turns);
    let (mut next, mut records) = (vec![0; lives.len()], Vec::new());
    for place in turns {
        let (life, revision) = (&lives[place], next[place]);
        next[place] += 1;
        for _ in 0..=u8::from(rng.u8(..5) == 0) {
            let mut record = record(&life[revision], &format!("{:020}", records.len()));
            if let Some(before) = revision.checked_sub(1) {
                let image = serde_dynamo::Item::from(table::referral_item(&life[before]).unwrap());
                record["dynamodb"]["OldImage"] = json!(image);
            }
            records.push(record);
        }
    }
    records
}

/// Hands the records to both functions behind the stream, and gives the events that are then on the bus.
async fn told(service: &Service, wire: &Wire, records: &[Value]) -> Vec<Value> {
    let bus = aws_sdk_eventbridge::Client::new(&world::aws(service.url(), wire.connector()));
    let sqs = aws_sdk_sqs::Client::new(&world::aws(service.url(), wire.connector()));
    let app = rewards::App::new(service.env(), patient(service), bus, sqs).unwrap();
    for batch in records.chunks(100) {
        let batch = json!({"Records": batch});
        let done = json!({"batchItemFailures": []});
        assert_eq!(rewards::handle(&app, batch.clone(), early()).await.unwrap(), done);
        assert_eq!(service.invoke("AnalyticsFunction", batch).await.unwrap(), done);
    }
    let events = reqwest::get(format!("{}/_local/events", service.url())).await.unwrap();
    serde_json::from_slice(&events.bytes().await.unwrap()).unwrap()
}

/// Loses some events of referrals of which a later one comes, doubles some of the others, and mixes them up.
fn at_its_worst(rng: &mut Rng, events: Vec<Value>) -> Vec<Value> {
    let is = |event: &Value, kind: &str| event["detail-type"] == kind;
    let rewarded: BTreeSet<_> = events.iter().filter(|event| is(event, "referral.rewarded")).map(referee).collect();
    let is_early = |event: &Value| is(event, "referral.attributed") || is(event, "referral.converted");
    let (mut arriving, mut lost) = (Vec::new(), 0);
    for event in events {
        if is_early(&event) && rewarded.contains(&referee(&event)) && rng.u8(..10) == 0 {
            lost += 1;
            continue;
        }
        arriving.extend(std::iter::repeat_n(event, 1 + usize::from(rng.u8(..4) == 0)));
    }
    assert!(lost > 5, "{lost} lost");
    rng.shuffle(&mut arriving);
    arriving
}

fn referee(event: &Value) -> String {
    event["detail"]["referee_id"].as_str().unwrap().to_owned()
}

/// What Firehose is given of these events, spread over days. AWS does not say what it makes of `null`, so either comes.
fn arrived(rng: &mut Rng, events: &[Value]) -> Lines {
    let (transformer, mut lines) = (transformer(), Lines::new());
    let names: BTreeSet<_> = columns().into_iter().map(|(name, _)| name).collect();
    assert_eq!(transformer.variables().map(str::to_owned).collect::<BTreeSet<_>>(), names);
    for events in events.chunks(500) {
        let line = |event: &Value| {
            let line = transformer.apply(event, rng.choice(["", "null"]).unwrap()).unwrap();
            let fields: BTreeMap<String, String> = serde_json::from_str(&line).unwrap();
            assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
            assert_eq!(fields.into_keys().collect::<BTreeSet<_>>(), names);
            line
        };
        let made: Vec<_> = events.iter().map(line).collect();
        lines.arrive(rng.choice(ARRIVALS).unwrap(), &made);
    }
    lines
}

/// Figures under the names that both sides are put in.
#[derive(Default)]
struct Said(Tally);

impl Said {
    fn add(&mut self, about: &str, figure: &str, count: i128) {
        *self.0.entry(format!("{about} {figure}")).or_default() += count;
    }

    /// Rewards of one kind, as figures are named.
    fn add_rewards(&mut self, about: &str, name: &str, count: i128, amount: i128) {
        self.add(about, name, amount);
        self.add(about, &format!("{name}.n"), count);
    }
}

/// What the metrics say, and of refusals, of which these know only those that stand, the lives themselves.
async fn expected(metrics: &Metrics, lives: &[Vec<Referral>]) -> Tally {
    let mut said = Said::default();
    for program in PROGRAMS {
        let program: ProgramId = program.parse().unwrap();
        let (first, last) = ("1970-01-01".parse().unwrap(), "9999-12-31".parse().unwrap());
        let days = metrics.days(&program, first, last).await.unwrap();
        days.iter().for_each(|(day, figures)| of_day(&mut said, &program, *day, figures));
        let months: BTreeSet<_> = days.keys().map(|day| Month::of(*day)).collect();
        for period in months.into_iter().map(Period::Month).chain([Period::All]) {
            of_board(&mut said, metrics, Board { program: program.clone(), period }).await;
        }
    }
    for ((stage, kind), sum) in metrics.liability().await.unwrap().rewards() {
        let currency = kind.currency.map(|currency| format!(".{currency}")).unwrap_or_default();
        match stage {
            Stage::Held => said.add("owed", "held", sum.count),
            _ => said.add_rewards("owed", &format!("{}{currency}", kind.r#type.as_str()), sum.count, sum.amount),
        }
    }
    lives.iter().for_each(|life| refusals(&mut said, life));
    said.0
}

fn of_day(said: &mut Said, program: &ProgramId, day: Day, figures: &Figures) {
    let about = format!("day {program} {day}");
    let cohort = format!("cohort {program} {}", Week::of(day).monday());
    for (name, count) in figures.iter().filter(|(name, _)| !name.starts_with("failed.")) {
        if name.starts_with("after.") {
            said.add(&about, "converted_since", count);
            said.add(&cohort, name, count);
        } else {
            said.add(&about, name, count);
        }
        if name == "attributed" {
            said.add(&cohort, name, count);
        }
    }
}

async fn of_board(said: &mut Said, metrics: &Metrics, board: Board) {
    let mut after = None;
    loop {
        let page = metrics.ranked(&board, 100, after.as_ref()).await.unwrap();
        for (referrer, figures) in page.referrers {
            let about = format!("referrer {} {referrer} {}", board.program, board.period);
            let mut voided = 0;
            for (name, count) in figures.iter().filter(|(name, _)| !name.starts_with("failed.")) {
                match name.starts_with("voided.") {
                    true => voided += count,
                    false => said.add(&about, name, count),
                }
            }
            said.add(&about, "voided", voided);
        }
        match page.next {
            None => return,
            next => after = next,
        }
    }
}

/// Each refusal, on its day; and what was refused once and is not delivered.
fn refusals(said: &mut Said, life: &[Referral]) {
    let last = life.last().unwrap();
    for side in Side::BOTH {
        let reward = |referral: &Referral| referral.rewards().map(|rewards| rewards.of(side).clone());
        let mut was_refused = false;
        for (before, after) in life.iter().zip(&life[1..]) {
            let at = |referral| reward(referral).and_then(|reward| reward.failed_at);
            if let (None, Some(at)) = (at(before), at(after)) {
                let (name, amount) = kind(reward(after).unwrap().benefit);
                let about = format!("day {} {}", after.program, Day::of(at));
                said.add_rewards(&about, &format!("failed.{name}"), 1, amount);
                was_refused = true;
            }
        }
        if let Some(reward) = reward(last).filter(|reward| was_refused && reward.delivered_at.is_none()) {
            let (name, amount) = kind(reward.benefit);
            said.add_rewards("owed", &format!("{name} refused"), 1, amount);
        }
    }
}

fn kind(benefit: Benefit) -> (String, i128) {
    let currency = benefit.currency().map(|currency| format!(".{currency}")).unwrap_or_default();
    (format!("{}{currency}", benefit.kind().as_str()), u64::from(benefit.amount()).into())
}

/// How a row says what it says.
type Says = fn(&mut Said, &Line<'_>);

/// The views that answer questions, each with what its rows say.
const QUESTIONS: [(&str, Says); 9] = [
    ("daily", |said, row| {
        for figure in ["attributed", "converted", "converted_since", "rewarded"] {
            said.add(&row.day(), figure, row.number(figure));
        }
    }),
    ("daily_voids", |said, row| {
        said.add(&row.day(), &format!("voided.{}", row.text("void_reason")), row.number("voided"));
    }),
    ("daily_rewards", |said, row| row.rewards(said, &row.day(), &format!("{}.", row.text("stage")))),
    ("daily_took", |said, row| {
        let below = row.option("below");
        let bucket = TOOK.iter().position(|(bound, _)| Some(*bound) == below).unwrap_or(TOOK.len());
        said.add(&row.day(), &format!("took.{bucket}"), row.number("conversions"));
    }),
    ("referrers", |said, row| {
        for figure in [LASTING, "attributed", "converted", "rewarded", "voided"] {
            said.add(&row.referrer(), figure, row.number(figure));
        }
    }),
    ("referrer_rewards", |said, row| {
        if row.text("stage") != "failed" {
            row.rewards(said, &row.referrer(), &format!("{}.", row.text("stage")));
        }
    }),
    ("cohorts", |said, row| {
        let about = format!("cohort {} {}", row.text("program"), row.text("week"));
        said.0.insert(format!("{about} attributed"), row.number("attributed"));
        if let Some(weeks) = row.option("weeks_later") {
            said.add(&about, &format!("after.{weeks}"), row.number("converted"));
        }
    }),
    ("liability", |said, row| {
        row.rewards(said, "owed", "");
        let (count, amount) = (row.number("refused_rewards"), row.number("refused_amount"));
        said.add_rewards("owed", &format!("{} refused", row.kind()), count, amount);
    }),
    // Of each referral both rewards.
    ("held", |said, row| said.add("owed", "held", 2 * row.number("referrals"))),
];

/// A row of an answer.
struct Line<'a>(&'a Row);

impl Line<'_> {
    fn option(&self, column: &str) -> Option<&str> {
        self.0[column].as_deref()
    }

    fn text(&self, column: &str) -> &str {
        self.option(column).unwrap_or_else(|| panic!("no {column} in {:?}", self.0))
    }

    fn number(&self, column: &str) -> i128 {
        self.text(column).parse().unwrap()
    }

    fn day(&self) -> String {
        format!("day {} {}", self.text("program"), self.text("day"))
    }

    fn referrer(&self) -> String {
        format!("referrer {} {} {}", self.text("program"), self.text("referrer_id"), self.text("period"))
    }

    fn kind(&self) -> String {
        let currency = self.option("currency").map(|currency| format!(".{currency}")).unwrap_or_default();
        format!("{}{currency}", self.text("reward_type"))
    }

    fn rewards(&self, said: &mut Said, about: &str, prefix: &str) {
        let name = format!("{prefix}{}", self.kind());
        said.add_rewards(about, &name, self.number("rewards"), self.number("amount"));
    }
}

/// What the views say. Like the metrics' boards it leaves referrers out none of whose referrals last.
fn answered(answer: &Answer) -> Tally {
    let mut said = Said::default();
    for ((_, of), rows) in QUESTIONS.iter().zip(&answer.answers) {
        rows.iter().for_each(|row| of(&mut said, &Line(row)));
    }
    let lasts = |name: &str| {
        let about = name.rsplit_once(' ').unwrap().0;
        said.0.get(&format!("{about} {LASTING}")).is_some_and(|count| *count > 0)
    };
    let mut tally = said.0.clone();
    tally.retain(|name, _| !name.starts_with("referrer ") || lasts(name));
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_views_say_what_the_metrics_say() {
    let Some(duck) = Duck::find("the_views_say_what_the_metrics_say") else { return };
    let (count, mut rng, wire) = (histories(), Rng::with_seed(SEED + 1), Wire::default());
    let (service, began) = (service(&wire).await, std::time::Instant::now());
    let client = patient(&service);
    let lives: Vec<_> = (0..count).map(|number| life(&mut rng, number, count)).collect();
    let items = lives.iter().map(|life| table::referral_item(life.last().unwrap()).unwrap()).collect();
    put_all(&client, "referrals", items).await;

    let events = told(&service, &wire, &records(&mut rng, &lives)).await;
    let events = at_its_worst(&mut rng, events);
    let lines = arrived(&mut rng, &events);
    println!("{count} lives, {} events arrived after {:?}", events.len(), began.elapsed());

    let questions = QUESTIONS.map(|(view, _)| format!("SELECT * FROM {view}"));
    let answer = asked(&duck, &lines, &questions);
    println!("answered after {:?}", began.elapsed());
    let expected = expected(&Metrics::new(&client, "metrics"), &lives).await;
    assert!(expected.len() > 1000, "{}", expected.len());
    assert_eq!(difference(&answered(&answer), &expected), [""; 0]);
    service.stop().await;
}

/// A type of DuckDB as Glue has it, and as Athena has it.
fn athena_type(duckdb: &str) -> (&'static str, &'static str) {
    match duckdb {
        "VARCHAR" => ("string", "varchar"),
        "BIGINT" => ("bigint", "bigint"),
        "DATE" => ("date", "date"),
        "BOOLEAN" => ("boolean", "boolean"),
        "DECIMAL(38,0)" => ("decimal(38,0)", "decimal(38,0)"),
        other => panic!("a column of a view has a type that Athena may not know: {other}"),
    }
}

/// `DailyVoids` for `daily_voids`.
fn logical_id(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// `template.yaml` beside the views as the files make it.
fn template(columns: &BTreeMap<String, Vec<(String, String)>>) -> String {
    let head = "\
# The views of this folder, as Athena keeps them in Glue. The main template nests this when WarehouseDatabase says so.
# CloudFormation has no plain way to take a text from another file, so the SQL is here once more; a test
# (tests/suite/warehouse.rs) holds both to each other, and prints this file as it should be.
AWSTemplateFormatVersion: \"2010-09-09\"
Description: Referrals - views on the warehouse.

Parameters:
  Database:
    Description: The database of Glue that has the table arrivals.
    Type: String

Resources:
";
    let resource = |name: &str| {
        let (description, sql) = view(name);
        let columns = columns[name].iter().map(|(column, kind)| (column, athena_type(kind)));
        let of_athena: Vec<_> = columns.clone().map(|(name, (_, kind))| json!({"name": name, "type": kind})).collect();
        let view = json!({
            "catalog": "awsdatacatalog", "schema": "${Database}", "columns": of_athena, "originalSql": sql,
        });
        let of_glue =
            columns.map(|(name, (kind, _))| format!("            - {{ Name: {name}, Type: {} }}\n", quoted(kind)));
        format!(
            "  {}:
    Type: AWS::Glue::Table
    Properties:
      CatalogId: !Ref AWS::AccountId
      DatabaseName: !Ref Database
      TableInput:
        Name: {name}
        Description: {}
        TableType: VIRTUAL_VIEW
        Parameters: {{ presto_view: \"true\", comment: Presto View }}
        StorageDescriptor:
          SerdeInfo: {{}}
          Columns:
{}        ViewExpandedText: /* Presto View */
        ViewOriginalText: !Sub
          - \"/* Presto View: ${{View}} */\"
          - View:
              Fn::Base64: !Sub {}
",
            logical_id(name),
            quoted(&description),
            of_glue.collect::<String>(),
            quoted(&view.to_string()),
        )
    };
    head.to_owned() + &VIEWS.map(resource).join("\n")
}

#[test]
fn the_template_has_the_views_that_the_files_say() {
    let is_sql = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "sql");
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path()).filter(is_sql);
    let files: BTreeSet<_> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, VIEWS.map(str::to_owned).into_iter().collect());
    let nested = resource("WarehouseViews");
    assert_eq!(nested["Properties"]["TemplateURL"], "functions/analytics/warehouse/template.yaml");

    let Some(duck) = Duck::find("the_template_has_the_views_that_the_files_say") else { return };
    let mut lines = Lines::new();
    lines.arrive(ARRIVALS[0], &[transformer().apply(&json!({}), "").unwrap()]);
    let (written, expected) =
        (fs::read_to_string(folder().join("template.yaml")).unwrap(), template(&asked(&duck, &lines, &[]).views));
    assert!(written == expected, "functions/analytics/warehouse/template.yaml should be:\n{expected}");
    let published = local::yaml(&written).unwrap();
    for name in VIEWS {
        let text = &published["Resources"][logical_id(name)]["Properties"]["TableInput"]["ViewOriginalText"];
        let view: Value =
            serde_json::from_str(text["Fn::Sub"][1]["View"]["Fn::Base64"]["Fn::Sub"].as_str().unwrap()).unwrap();
        assert_eq!(view["originalSql"], self::view(name).1, "{name}");
    }
}

/// Nothing of it is deployed unless it is asked for.
#[test]
fn the_warehouse_is_there_on_its_condition_alone() {
    let template = local::template().unwrap();
    let not_asked = json!({"Fn::Not": [{"Fn::Equals": ["", ""]}]});
    assert_eq!(template["Conditions"]["HasWarehouse"], not_asked);
    let resources = template["Resources"].as_object().unwrap().iter().chain(template["Outputs"].as_object().unwrap());
    let warehouse: Vec<_> = resources.filter(|(name, _)| name.starts_with("Warehouse")).collect();
    assert!(warehouse.len() > 10, "{warehouse:?}");
    for (name, resource) in warehouse {
        assert_eq!(resource["Condition"], "HasWarehouse", "{name}");
    }
}
