//! The views' files, and the template beside them in which they stand once more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::{Value, json};

use super::{ARRIVALS, transformer};
use crate::{
    schemas::quoted,
    world::duck::{Answer, Duck, Lines, Request},
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
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../functions/analytics/warehouse")
}

/// What a view is for, and its SQL: the file's first line, and the rest.
fn view(name: &str) -> (String, String) {
    let text = fs::read_to_string(folder().join(name).with_extension("sql")).unwrap();
    let (head, sql) = text.split_once('\n').unwrap();
    (head.strip_prefix("-- ").unwrap().to_owned(), sql.trim_end().to_owned())
}

pub(super) fn resource(name: &str) -> Value {
    local::template().unwrap()["Resources"][name].clone()
}

/// The columns of the table in which events arrive, with their types.
pub(super) fn columns() -> Vec<(String, String)> {
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
pub(super) fn asked(duck: &Duck, lines: &Lines, questions: &[String]) -> Answer {
    duck.ask(&Request {
        folder: lines.folder(),
        table: resource("WarehouseArrivals")["Properties"]["TableInput"]["Name"].as_str().unwrap(),
        columns: &columns(),
        views: &VIEWS.map(|name| (name, view(name).1)),
        questions,
    })
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
# (tests/suite/warehouse/views.rs) holds both to each other, and prints this file as it should be.
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
