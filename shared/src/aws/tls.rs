//! TLS: the trusted root certificates and the HTTP connectors that use them.
//!
//! Calls to AWS are verified against Amazon's five root CAs only. These are compiled in, because loading the system's hundred
//! and fifty would be most of a function's cold start.

use std::time::Duration;

use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::{
    Connector,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
        http_client_fn,
    },
    orchestrator::HttpRequest,
};

use super::{CONNECT_TIMEOUT, Lazy};
use crate::runtime::Env;

/// The root certificates of Amazon Trust Services.
pub const AMAZON: &str = include_str!("amazon.pem");

/// The HTTP client for AWS. It trusts Amazon's roots only, or those in the file named by `SSL_CERT_FILE` instead. All AWS
/// services share its one connector, which pools the connections.
pub fn aws(env: &Env) -> SharedHttpClient {
    let roots = if env.get("SSL_CERT_FILE").is_some() { TrustStore::default() } else { roots(AMAZON) };
    let connector = SharedHttpConnector::new(connector(roots, CONNECT_TIMEOUT));
    http_client_fn(move |_, _| connector.clone())
}

/// The connector for all other servers. It trusts the system's roots (or `SSL_CERT_FILE`), follows no redirects and uses no
/// proxy. It is created at the first call, because many invocations never need it.
pub fn public() -> SharedHttpConnector {
    SharedHttpConnector::new(Lazy::new(|| connector(TrustStore::default(), Duration::from_secs(2))))
}

/// A trust store with only the certificates in this PEM text, which must be valid.
pub fn roots(pem: &str) -> TrustStore {
    TrustStore::empty().with_pem_certificate(pem)
}

/// A connector with these trusted roots and this connect timeout.
#[allow(clippy::expect_used, reason = "the builder accepts any trust store")]
pub fn connector(roots: TrustStore, connect_timeout: Duration) -> Connector {
    let settings = HttpConnectorSettings::builder().connect_timeout(connect_timeout).build();
    let tls = TlsContext::builder().with_trust_store(roots).build().expect("a TLS context with these roots");
    let connector = Connector::builder().connector_settings(settings).sleep_impl(TokioSleep::new());
    connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls).build()
}

impl HttpConnector for Lazy<Connector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        Connector::call(self, request)
    }
}
