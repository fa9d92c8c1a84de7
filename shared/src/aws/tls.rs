//! Whom the functions believe over TLS, and the connectors that call by it.
//!
//! AWS's endpoints are certified by Amazon's own authorities. Their five roots are compiled in, because to read the
//! system's hundred and fifty would be most of a function's start.

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

/// The roots of Amazon Trust Services.
pub const AMAZON: &str = include_str!("amazon.pem");

/// What calls AWS: it believes Amazon's authorities alone, or in their place those in the file that `SSL_CERT_FILE` names.
/// All of AWS's services share its one connector, which keeps the connections.
pub fn aws(env: &Env) -> SharedHttpClient {
    let roots = if env.get("SSL_CERT_FILE").is_some() { TrustStore::default() } else { roots(AMAZON) };
    let connector = SharedHttpConnector::new(connector(roots, CONNECT_TIMEOUT));
    http_client_fn(move |_, _| connector.clone())
}

/// What calls anybody else: it believes whom the system believes (or `SSL_CERT_FILE`), follows no redirects and asks no
/// proxy. It is made at the first call, for a function that starts may never make one.
pub fn public() -> SharedHttpConnector {
    SharedHttpConnector::new(Lazy::new(|| connector(TrustStore::default(), Duration::from_secs(2))))
}

/// Nobody but the authorities in this PEM text, which must be sound.
pub fn roots(pem: &str) -> TrustStore {
    TrustStore::empty().with_pem_certificate(pem)
}

/// A connector that believes these authorities, and waits so long for a connection.
#[allow(clippy::expect_used, reason = "the builder takes any roots")]
pub fn connector(roots: TrustStore, patience: Duration) -> Connector {
    let settings = HttpConnectorSettings::builder().connect_timeout(patience).build();
    let tls = TlsContext::builder().with_trust_store(roots).build().expect("a context of roots");
    let connector = Connector::builder().connector_settings(settings).sleep_impl(TokioSleep::new());
    connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls).build()
}

impl HttpConnector for Lazy<Connector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        Connector::call(self, request)
    }
}
