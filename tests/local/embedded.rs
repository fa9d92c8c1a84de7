//! Only the template's table, without the service around it: for the simulator, which models everything else.

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

/// The table's definition in `template.yaml`.
#[derive(Debug)]
pub struct Definition(Deployment);

impl Definition {
    /// Reads the template.
    ///
    /// # Errors
    /// Returns an error when the template cannot be read.
    pub fn read() -> Result<Self, TemplateError> {
        Deployment::read(TEMPLATE, &Env::default()).map(Self)
    }
}

/// A table on its own embedded DynamoDB, in memory, served on a free loopback port.
pub struct Embedded {
    dynamodb: DynamoDb,
    server: Server,
    address: SocketAddr,
    /// The sequence number of the last record that was read.
    read: Option<String>,
}

impl Embedded {
    /// The most records of one read, as on DynamoDB.
    const READ_LIMIT: usize = 1000;

    /// Creates an empty table of this name and serves it.
    ///
    /// # Errors
    /// Returns an error when the template has no such table, or the table cannot be created or served.
    pub fn start(definition: &Definition, name: &str) -> Result<Self, EmbeddedError> {
        let dynamodb = DynamoDb::open(None, definition.0.table("Table", name)?, [])?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(DynamoError::from)?;
        listener.set_nonblocking(true).map_err(DynamoError::from)?;
        let address = listener.local_addr().map_err(DynamoError::from)?;
        let server = dynamodb.serve(listener)?;
        Ok(Self { dynamodb, server, address, read: None })
    }

    /// The address on which it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The stream's records since the last call, oldest first, in the form that Lambda passes to functions.
    ///
    /// # Errors
    /// Returns an error when the stream cannot be read.
    pub fn changes(&mut self) -> Result<Vec<Value>, DynamoError> {
        let records = self.dynamodb.records(self.read.as_deref(), Self::READ_LIMIT)?;
        if let Some(last) = records.last() {
            self.read = Some(last.dynamodb.sequence_number.clone());
        }
        let stream = self.dynamodb.stream();
        Ok(records.iter().filter_map(|record| Change::new(record, stream)).map(|change| change.record).collect())
    }

    /// Every item of the table `name`.
    ///
    /// # Errors
    /// Returns an error when the table cannot be read.
    pub fn items(&self, name: &str) -> Result<Vec<Value>, DynamoError> {
        self.dynamodb.items(name)
    }

    /// Stops the server and drops the data.
    pub async fn stop(self) {
        self.server.stop(Duration::from_secs(1)).await;
    }
}

/// The table cannot be created or served.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The template's table cannot be read.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The embedded DynamoDB cannot create or serve the table.
    #[error(transparent)]
    Database(#[from] DynamoError),
}
