//! The environment of a contender: the local service with an additional table, and a recording of a step on it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
};
use local::Service;

use crate::{
    Trouble,
    function::Running,
    peers::contender::Contender,
    steps::{self, Step},
    store::{self, Line, Store},
};

/// The table in which Powertools stores the events that it has seen.
const IDEMPOTENCY_TABLE: &str = "idempotency";

/// A local service with a table for idempotency keys.
pub(crate) async fn service() -> Result<Service, Trouble> {
    let service = store::service().await?;
    let key = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build()?;
    let schema = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build()?;
    let table = service.dynamodb().create_table().table_name(IDEMPOTENCY_TABLE).attribute_definitions(key);
    let made = table.key_schema(schema).billing_mode(BillingMode::PayPerRequest).send().await?;
    match made.table_description.and_then(|table| table.table_status) {
        Some(TableStatus::Active | TableStatus::Creating) => Ok(service),
        status => Err(format!("the table of idempotency keys has the status {status:?}").into()),
    }
}

/// The settings of the step's function.
pub(crate) fn settings(service: &Service, step: &Step) -> Result<HashMap<String, String>, Trouble> {
    let mut settings = store::settings(service, &step.logical_id())?;
    settings.insert("IDEMPOTENCY_TABLE_NAME".to_owned(), IDEMPOTENCY_TABLE.to_owned());
    Ok(settings)
}

/// Runs a contender's step on a separate service, and records the answers.
pub(crate) async fn recorded(contender: &Contender, step: &Step) -> Result<Store, Trouble> {
    let service = service().await?;
    let (function, settings) = (contender.function(step)?, settings(&service, step)?);
    let event = if step.name == "repeat" {
        // The contender handles the event first, because it may store it in its own table.
        let event = steps::named("convert")?.prepare(&service).await?.to_string();
        let mut running = Running::start(&function, &[], &settings, Line::to(&service).await?).await?;
        running.call(&event).await?;
        running.end().await?;
        event
    } else {
        step.prepare(&service).await?.to_string()
    };
    let store = Store::of(&function, &service, settings, event).await?;
    service.stop().await;
    Ok(store)
}
