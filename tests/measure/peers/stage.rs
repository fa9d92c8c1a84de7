//! The stage: the local service with what a contender needs beside it, and a recording of a step made there.

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

/// Where Powertools remembers what it has seen.
const IDEMPOTENCY_TABLE: &str = "idempotency";

/// A service with a table for those who keep one of idempotency keys.
pub(crate) async fn service() -> Result<Service, Trouble> {
    let service = store::service().await?;
    let key = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build()?;
    let schema = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build()?;
    let table = service.dynamodb().create_table().table_name(IDEMPOTENCY_TABLE).attribute_definitions(key);
    let made = table.key_schema(schema).billing_mode(BillingMode::PayPerRequest).send().await?;
    match made.table_description.and_then(|table| table.table_status) {
        Some(TableStatus::Active | TableStatus::Creating) => Ok(service),
        status => Err(format!("the table of idempotency keys is {status:?}").into()),
    }
}

/// The settings of the step's function.
pub(crate) fn settings(service: &Service, step: &Step) -> Result<HashMap<String, String>, Trouble> {
    let mut settings = store::settings(service, &step.logical_id())?;
    settings.insert("IDEMPOTENCY_TABLE_NAME".to_owned(), IDEMPOTENCY_TABLE.to_owned());
    Ok(settings)
}

/// Has a contender do the step on a service of its own, and keeps what was answered.
pub(crate) async fn recorded(contender: &Contender, step: &Step) -> Result<Store, Trouble> {
    let service = service().await?;
    let (function, settings) = (contender.function(step)?, settings(&service, step)?);
    let event = if step.name == "repeat" {
        // Done before by the contender itself, who may remember it in a place of its own.
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
