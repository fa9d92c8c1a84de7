//! The TLS trust of the functions: AWS is verified against Amazon's root CAs only.

use std::{net::IpAddr, time::Duration};

use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector, http_client_fn};
use rcgen::SanType;
use referrals::{
    aws::tls::{self, AMAZON},
    runtime::Env,
};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::ServerConfig;
use x509_parser::pem::Pem;

use crate::{
    subsystem::certified,
    world::{self, stand_in::StandIn},
};

/// The SHA-256 of each root certificate, as published at <https://www.amazontrust.com/repository/>.
const PUBLISHED: [&str; 5] = [
    "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
    "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
    "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
    "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
    "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5",
];

/// A CA and the TLS configuration of a local server with a certificate of this CA.
fn local_server() -> (String, ServerConfig) {
    certified(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])))
}

/// A client that trusts these CAs in the way the functions trust Amazon's.
fn trusting(pem: &str) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(tls::connector(tls::roots(pem), Duration::from_secs(10)));
    http_client_fn(move |_, _| connector.clone())
}

/// Whether an SDK call with this client reached the server and was answered.
async fn is_answered(server: &StandIn, http: SharedHttpClient) -> bool {
    let client = aws_sdk_dynamodb::Client::new(&world::aws(server.url(), http));
    let refused = client.list_tables().send().await.unwrap_err();
    refused.raw_response().is_some_and(|response| response.status().as_u16() == 401)
}

#[tokio::test]
async fn only_clients_that_trust_its_ca_connect_to_a_server() {
    let ((trusted, config), (other, _)) = (local_server(), local_server());
    let server = StandIn::with_tls(config).await;
    assert!(is_answered(&server, trusting(&trusted)).await);
    assert!(is_answered(&server, trusting(&format!("{other}{trusted}"))).await);
    assert_eq!(server.aborted_connections(), 0);
    assert!(!is_answered(&server, trusting(&other)).await);
    assert!(server.aborted_connections() > 0);
}

/// With the configuration of the functions, a server with a certificate of another CA is not accepted as AWS.
#[tokio::test]
async fn a_server_without_an_amazon_certificate_is_rejected() {
    let server = StandIn::with_tls(local_server().1).await;
    assert!(!is_answered(&server, tls::aws(&Env::default())).await);
    assert!(server.aborted_connections() > 0);
}

#[test]
fn the_roots_are_published_by_amazon_and_valid_for_a_year() {
    let soon = chrono::Utc::now() + chrono::Days::new(366);
    let roots: Vec<Pem> = Pem::iter_from_buffer(AMAZON.as_bytes()).map(Result::unwrap).collect();
    for root in &roots {
        let certificate = root.parse_x509().unwrap();
        assert!(certificate.is_ca(), "{}", certificate.subject());
        assert!(
            certificate.validity().not_after.timestamp() > soon.timestamp(),
            "{} expires soon",
            certificate.subject()
        );
    }
    assert_eq!(roots.iter().map(|root| hex(&Sha256::digest(&root.contents))).collect::<Vec<_>>(), PUBLISHED);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
