//! Codes in the form of the API, with their links.

use referrals::{
    domain::{code::OwnedCode, time::Timestamp},
    runtime::Env,
};
use serde::Serialize;

/// The links of codes.
pub(crate) struct Links {
    public_url: String,
}

impl Links {
    /// Reads `PUBLIC_URL`, the base of all links.
    pub(crate) fn from_env(env: &Env) -> Self {
        let public_url = env.get("PUBLIC_URL").unwrap_or("http://127.0.0.1:9000").trim_end_matches('/').to_owned();
        Self { public_url }
    }

    fn link(&self, code: &str) -> String {
        format!("{}/r/{code}", self.public_url)
    }

    /// A code in the form of the API.
    pub(crate) fn show<'a>(&self, owned: &'a OwnedCode) -> CodeView<'a> {
        CodeView {
            code: owned.code.as_str(),
            user_id: owned.owner.as_str(),
            program: owned.program.as_str(),
            link: self.link(owned.code.as_str()),
            created_at: owned.created_at,
            expires_at: owned.expires_at,
        }
    }
}

/// A code in the form of the API.
#[derive(Serialize)]
pub(crate) struct CodeView<'a> {
    code: &'a str,
    user_id: &'a str,
    program: &'a str,
    link: String,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}
