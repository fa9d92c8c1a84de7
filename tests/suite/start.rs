//! The start of a function as a process.

use std::{fs, path::Path, process::Stdio};

use local::runtime_api::RuntimeApi;
use tokio::time::timeout;

use crate::world::{
    World,
    function::Binary,
    process::{LIMIT, end},
};

const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";

/// On Lambda Managed Instances one process can get several invocations at once, which these functions do not handle.
#[tokio::test]
async fn a_function_that_gets_several_invocations_at_once_does_not_start() {
    let world = World::start().await;
    for binary in [Binary::Attribution, Binary::Admin] {
        let mut api = RuntimeApi::start().await.unwrap();
        let mut command = binary.command(world.service(), &api.address);
        let mut child = command.env(MAX_CONCURRENCY, "8").spawn().unwrap();
        assert!(!end(&mut child).success(), "{binary:?}");
        let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert!(said.contains(MAX_CONCURRENCY) && said.contains("one invocation at a time"), "{said}");

        let mut child = command.env(MAX_CONCURRENCY, "1").stderr(Stdio::null()).spawn().unwrap();
        let started = timeout(LIMIT, api.idle()).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(started.unwrap().is_ok(), "{binary:?}");
    }
    world.end().await;
}

#[test]
fn every_function_starts_with_the_same_checks() {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions");
    for folder in fs::read_dir(functions).unwrap() {
        let main = folder.unwrap().path().join("src/main.rs");
        let source = fs::read_to_string(&main).unwrap();
        assert!(source.contains("let env = runtime::start()?;"), "{}", main.display());
    }
}
