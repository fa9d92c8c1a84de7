//! A function as a process: started with the variables that Lambda sets, and invoked over the Runtime API.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use local::{
    Service,
    runtime_api::{Idle, RuntimeApi, Trouble, variables},
};
use serde_json::Value;
use tokio::time::timeout;

use super::process::LIMIT;
use crate::template::settings;

/// A function's binary in debug mode.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Binary {
    Attribution,
    Admin,
}

impl Binary {
    fn path(self) -> &'static Path {
        Path::new(match self {
            Self::Attribution => env!("CARGO_BIN_EXE_attribution-function"),
            Self::Admin => env!("CARGO_BIN_EXE_admin-function"),
        })
    }

    /// A command that starts the function with the variables that Lambda and the template set, on this service.
    pub(crate) fn command(self, service: &Service, api: &str) -> Command {
        let own = settings(&format!("{self:?}"));
        let own = own.into_iter().filter_map(|name| Some((service.env().get(&name)?.to_owned(), name)));
        let mut command = Command::new(self.path());
        command.env_clear().envs(variables(api)).envs(own.map(|(value, name)| (name, value)));
        command.env("AWS_ENDPOINT_URL", service.url()).env("AWS_ENDPOINT_URL_DYNAMODB", service.dynamodb_url());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// A running function; killed when dropped.
pub(crate) struct Process {
    child: Child,
    api: RuntimeApi,
    idle: Option<Idle>,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    /// Starts the function and waits until it requests its first invocation.
    pub(crate) async fn start(binary: Binary, service: &Service) -> Self {
        let mut api = RuntimeApi::start().await.unwrap();
        let child = binary.command(service, &api.address).stderr(Stdio::null()).spawn().unwrap();
        let idle = timeout(LIMIT, api.idle()).await.unwrap().unwrap();
        Self { child, api, idle: Some(idle) }
    }

    /// Sends this event, and returns the answer when the function waits for the next event.
    ///
    /// # Errors
    /// Returns an error when the function reports one, as it does for a panic that ends a released function.
    pub(crate) async fn ask(&mut self, event: &Value) -> Result<Value, Trouble> {
        let idle = self.idle.take().ok_or("the function has ended")?;
        let answer = timeout(LIMIT, self.api.invoke(idle, event.to_string(), LIMIT)).await?;
        self.idle = Some(timeout(LIMIT, self.api.idle()).await??);
        Ok(serde_json::from_slice(&answer?.body)?)
    }
}
