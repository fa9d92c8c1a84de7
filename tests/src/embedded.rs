//! The template's table alone, without the service around it: for the simulator, which has models of all the rest.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use referrals::runtime::Env;
use serde_json::Value;

use crate::{
    deployment::{Deployment, TEMPLATE},
    dynamodb::{DynamoDb, DynamoError, Server},
    stream::Change,
    template::TemplateError,
};

/// What `template.yaml` says of the table.
#[derive(Debug)]
pub struct Definition(Deployment);

impl Definition {
    /// Reads the template.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read() -> Result<Self, TemplateError> {
        Deployment::read(TEMPLATE, &Env::default()).map(Self)
    }
}

/// A table on an embedded DynamoDB of its own, in memory, served on a free port of this machine's loopback.
pub struct Embedded {
    dynamodb: DynamoDb,
    server: Server,
    address: SocketAddr,
    /// The sequence number of the last record that was read.
    read: Option<String>,
}

impl Embedded {
    /// Records that are read at once; DynamoDB gives no more.
    const READ: usize = 1000;

    /// Makes an empty table of this name, and serves it.
    ///
    /// # Errors
    /// When the template has no such table, or it cannot be made or served.
    pub fn start(definition: &Definition, name: &str) -> Result<Self, EmbeddedError> {
        let dynamodb = DynamoDb::open(None, definition.0.table("Table", name)?, [])?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(DynamoError::from)?;
        listener.set_nonblocking(true).map_err(DynamoError::from)?;
        let address = listener.local_addr().map_err(DynamoError::from)?;
        let server = dynamodb.serve(listener)?;
        Ok(Self { dynamodb, server, address, read: None })
    }

    /// Where it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The records of the stream since the last time, oldest first, as Lambda would hand them over.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn changes(&mut self) -> Result<Vec<Value>, DynamoError> {
        let records = self.dynamodb.records(self.read.as_deref(), Self::READ)?;
        if let Some(last) = records.last() {
            self.read = Some(last.dynamodb.sequence_number.clone());
        }
        let stream = self.dynamodb.stream();
        Ok(records.iter().filter_map(|record| Change::new(record, stream)).map(|change| change.record).collect())
    }

    /// Every item of the table of this name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn items(&self, name: &str) -> Result<Vec<Value>, DynamoError> {
        self.dynamodb.items(name)
    }

    /// Ends it, and what it held.
    pub async fn stop(self) {
        self.server.stop(Duration::from_secs(1)).await;
    }
}

/// A table of one's own cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The template's table cannot be read.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The embedded DynamoDB cannot make or serve it.
    #[error(transparent)]
    Database(#[from] DynamoError),
}
