//! Contenders: our functions and the peers of `tests/peers/peers.json`, and how each is started.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::{Trouble, function::Function, steps::Step};

/// An implementation of the steps.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) title: String,
    kind: Kind,
    /// The folder of the built peers and of all contenders' archives.
    built: PathBuf,
}

enum Kind {
    /// Binaries in this folder.
    Ours(PathBuf),
    Peer(Peer),
}

/// How a peer is started. `{built}` stands for the folder of the built peers, `{function}` for the function's name.
#[derive(Deserialize)]
struct Peer {
    name: String,
    title: String,
    runtime: String,
    command: Vec<String>,
    folder: String,
}

/// All contenders, ours first.
pub(crate) fn all(functions: &Path, built: &Path) -> Result<Vec<Contender>, Trouble> {
    let built = built.canonicalize().map_err(|problem| format!("{}: {problem}", built.display()))?;
    let peers: Vec<Peer> = serde_json::from_str(include_str!("../../peers/peers.json"))?;
    let ours = Contender {
        name: OURS.to_owned(),
        title: "Rust, this repository".to_owned(),
        kind: Kind::Ours(functions.to_owned()),
        built: built.clone(),
    };
    let peers = peers.into_iter().map(|peer| Contender {
        name: peer.name.clone(),
        title: peer.title.clone(),
        kind: Kind::Peer(peer),
        built: built.clone(),
    });
    Ok([ours].into_iter().chain(peers).collect())
}

const OURS: &str = "rust";

impl Contender {
    /// The function that does this step.
    pub(crate) fn function(&self, step: &Step) -> Result<Function, Trouble> {
        let peer = match &self.kind {
            Kind::Ours(folder) => return Function::of(folder, step),
            Kind::Peer(peer) => peer,
        };
        let put = |text: &String| {
            text.replace("{built}", &self.built.display().to_string()).replace("{function}", step.function)
        };
        let (binary, arguments) = peer.command.split_first().ok_or("a peer without a command")?;
        // With PATH, the command is found as a shell would find it.
        let path = env::var("PATH").unwrap_or_default();
        Ok(Function {
            binary: put(binary).into(),
            arguments: arguments.iter().map(put).collect(),
            settings: HashMap::from([("PATH".to_owned(), path)]),
            folder: Some(put(&peer.folder).into()),
        })
    }

    /// The size in bytes of the archive that is deployed for this step's function.
    pub(crate) fn deployed(&self, step: &Step) -> Result<u64, Trouble> {
        let archive = self.built.join("archives").join(format!("{}-{}.zip", self.name, step.function));
        Ok(fs::metadata(&archive).map_err(|problem| format!("{}: {problem}", archive.display()))?.len())
    }

    /// The runtime and its version, if the contender needs one.
    pub(crate) fn runtime(&self, step: &Step) -> Result<Option<String>, Trouble> {
        let Kind::Peer(peer) = &self.kind else { return Ok(None) };
        let said = String::from_utf8(Command::new(self.function(step)?.binary).arg("--version").output()?.stdout)?;
        let version = said.split_whitespace().last().unwrap_or_default().trim_start_matches('v');
        Ok(Some(format!("{} {version}", peer.runtime)))
    }
}
