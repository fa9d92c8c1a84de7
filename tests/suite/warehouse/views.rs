//! The files of the views, and the template in the same folder that repeats their SQL.

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

/// The views. Each follows the views that it uses.
const VIEWS: [&str; 13] = [
    "events",
    "referrals",
    "milestones",
    "reward_events",
    "daily",
    "daily_voids",
    "daily_rewards",
    "daily_time_to_convert",
    "referrers",
    "referrer_rewards",
    "cohorts",
    "liability",
    "held",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../functions/analytics/warehouse")
}

/// The description of a view and its SQL: the first line of its file, and the other lines.
fn view(name: &str) -> (String, String) {
    let text = fs::read_to_string(folder().join(name).with_extension("sql")).unwrap();
    let (head, sql) = text.split_once('\n').unwrap();
    (head.strip_prefix("-- ").unwrap().to_owned(), sql.trim_end().to_owned())
}

pub(super) fn resource(name: &str) -> Value {
    local::template().unwrap()["Resources"][name].clone()
}

/// The columns of the table of arrived events, with their types.
pub(super) fn columns() -> Vec<(String, String)> {
    let table = resource("WarehouseArrivals")["Properties"]["TableInput"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let columns = table["StorageDescriptor"]["Columns"].as_array().unwrap().iter();
    columns.map(|column| (text(&column["Name"]), duckdb_type(column["Type"].as_str().unwrap()).to_owned())).collect()
}

fn duckdb_type(hive: &str) -> &'static str {
    match hive {
        "string" => "VARCHAR",
        other => panic!("a column type that this test does not know: {other}"),
    }
}

/// Creates the views on the arrived lines and runs these queries.
pub(super) fn query(duck: &Duck, lines: &Lines, queries: &[String]) -> Answer {
    duck.run(&Request {
        folder: lines.folder(),
        table: resource("WarehouseArrivals")["Properties"]["TableInput"]["Name"].as_str().unwrap(),
        columns: &columns(),
        views: &VIEWS.map(|name| (name, view(name).1)),
        queries,
    })
}

/// The types in Glue and in Athena that correspond to a type in DuckDB.
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

/// The expected content of `template.yaml`, generated from the files.
fn template(columns: &BTreeMap<String, Vec<(String, String)>>) -> String {
    let head = "\
# The views of this folder in the form in which Athena stores them in Glue. The root template nests this template if
# WarehouseDatabase is set. CloudFormation cannot include text from another file, so this template repeats the SQL. A test
# (tests/suite/warehouse/views.rs) compares both, and prints the expected content of this file.
AWSTemplateFormatVersion: \"2010-09-09\"
Description: Referrals - views of the warehouse.

Parameters:
  Database:
    Description: The Glue database that contains the table arrivals.
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
fn the_template_contains_the_views_of_the_files() {
    let is_sql = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "sql");
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path()).filter(is_sql);
    let files: BTreeSet<_> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, VIEWS.map(str::to_owned).into_iter().collect());
    let nested = resource("WarehouseViews");
    assert_eq!(nested["Properties"]["TemplateURL"], "functions/analytics/warehouse/template.yaml");

    let Some(duck) = Duck::find("the_template_contains_the_views_of_the_files") else { return };
    let mut lines = Lines::new();
    lines.arrive(ARRIVALS[0], &[transformer().apply(&json!({}), "").unwrap()]);
    let (written, expected) =
        (fs::read_to_string(folder().join("template.yaml")).unwrap(), template(&query(&duck, &lines, &[]).views));
    assert!(written == expected, "functions/analytics/warehouse/template.yaml should be:\n{expected}");
    let published = local::yaml(&written).unwrap();
    for name in VIEWS {
        let text = &published["Resources"][logical_id(name)]["Properties"]["TableInput"]["ViewOriginalText"];
        let view: Value =
            serde_json::from_str(text["Fn::Sub"][1]["View"]["Fn::Base64"]["Fn::Sub"].as_str().unwrap()).unwrap();
        assert_eq!(view["originalSql"], self::view(name).1, "{name}");
    }
}

/// No resource of the warehouse is deployed unless it is requested.
#[test]
fn every_warehouse_resource_has_the_condition() {
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
