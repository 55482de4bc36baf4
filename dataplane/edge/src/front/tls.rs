//! TLS of the listeners: versions, certificates by name, and what is known about a connection.

use std::sync::Arc;

use lockgate_dataplane::link::{EXPORTER_LABEL, Secret};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CommonState, ConnectionCommon, ServerConfig, ServerConnection};
use serde::Deserialize;

use super::possession::AnyChain;

/// Oldest TLS version taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Minimum {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// Whether clients are asked for a certificate; they may always go on without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    #[default]
    Off,
    Request,
}

/// A server certificate and the names it is chosen for.
#[derive(Debug)]
pub struct Certificate {
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl Certificate {
    /// `names`: DNS names, the first label may be `*`. `chain`: PEM, leaf first. `key`: PEM.
    pub fn from_pem(names: &[String], chain: &str, key: &str) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| "chain is not PEM")?;
        if chain.is_empty() {
            return Err("chain holds no certificate".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| "key holds no PEM private key")?;
        let key =
            CertifiedKey::from_der(chain, key, &provider()).map_err(|problem| match problem {
                rustls::Error::InconsistentKeys(_) => {
                    "the key does not belong to the first certificate".to_owned()
                }
                other => format!("chain or key cannot be used: {other}"),
            })?;
        Ok(Self {
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            key: Arc::new(key),
        })
    }

    /// A wildcard stands for exactly one label, as in RFC 6125 section 6.4.3.
    fn covers(&self, server_name: &str) -> bool {
        let parent = server_name.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => name == server_name,
        })
    }
}

/// Chooses by server name; clients that name none, or one we do not have, get the first.
#[derive(Debug)]
struct ByName(Vec<Certificate>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

impl ByName {
    fn choose(&self, server_name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = server_name.map(str::to_ascii_lowercase);
        name.and_then(|name| self.0.iter().find(|certificate| certificate.covers(&name)))
            .or(self.0.first())
            .map(|certificate| certificate.key.clone())
    }
}

/// X25519MLKEM768 leads the key exchange groups: crate feature `prefer-post-quantum`.
pub(crate) fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

/// The configuration of every listener. No early data (rustls offers none unless told), no
/// renegotiation and no compression (rustls has neither).
pub fn server_config(
    certificates: Vec<Certificate>,
    minimum: Minimum,
    client_certificates: ClientCertificates,
) -> Result<Arc<ServerConfig>, String> {
    if certificates.is_empty() {
        return Err("at least one is needed".to_owned());
    }
    let provider = Arc::new(provider());
    let versions: &[_] = match minimum {
        Minimum::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        Minimum::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|problem| problem.to_string())?;
    let resolver = Arc::new(ByName(certificates));
    let mut config = match client_certificates {
        ClientCertificates::Off => builder.with_no_client_auth().with_cert_resolver(resolver),
        ClientCertificates::Request => builder
            .with_client_cert_verifier(Arc::new(AnyChain::new(&provider)))
            .with_cert_resolver(resolver),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Nothing about past connections is kept here; clients carry tickets instead.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if client_certificates == ClientCertificates::Off {
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|problem| problem.to_string())?;
        config.send_tls13_tickets = 1;
    } else {
        // A resumed connection repeats the certificate of an earlier one without a signature of
        // its own, but possession has to be shown on the connection it is believed for.
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// What is known about an established TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    pub version: &'static str,
    pub cipher: String,
    pub group: String,
    /// Lower case; empty when the client sent none.
    pub server_name: String,
    /// DER, leaf first, possession proved on this connection; may be empty.
    pub client_certificates: Vec<Vec<u8>>,
}

impl TlsFacts {
    pub fn of(connection: &ServerConnection) -> Self {
        Self {
            version: version(connection),
            cipher: cipher(connection),
            group: group(connection),
            server_name: connection
                .server_name()
                .unwrap_or_default()
                .to_ascii_lowercase(),
            client_certificates: connection
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
        }
    }
}

/// The negotiated version, as logs name it.
pub(crate) fn version(connection: &CommonState) -> &'static str {
    match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    }
}

/// The negotiated cipher suite.
pub(crate) fn cipher(connection: &CommonState) -> String {
    connection
        .negotiated_cipher_suite()
        .map(|suite| format!("{:?}", suite.suite()))
        .unwrap_or_default()
}

/// The negotiated key exchange group.
pub(crate) fn group(connection: &CommonState) -> String {
    connection
        .negotiated_key_exchange_group()
        .map(|group| format!("{:?}", group.name()))
        .unwrap_or_default()
}

/// What resumptions sign of this connection ([`EXPORTER_LABEL`], no context, 32 bytes); empty
/// when TLS has none to give.
pub(crate) fn exporter<D>(connection: &ConnectionCommon<D>) -> Secret {
    connection
        .export_keying_material(vec![0; 32], EXPORTER_LABEL, None)
        .map_or_else(|_| Secret(Vec::new()), Secret)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        Certificate::from_pem(&names, &made.cert.pem(), &made.signing_key.serialize_pem()).unwrap()
    }

    #[test]
    fn certificates_are_chosen_by_name() {
        let resolver = ByName(vec![
            certificate(&["gw.test"]),
            certificate(&["other.test", "*.wild.test"]),
        ]);
        let [first, second] = [0, 1].map(|at| resolver.0.get(at).unwrap().key.clone());
        for (name, wanted) in [
            (None, &first),
            (Some("gw.test"), &first),
            (Some("unknown.test"), &first),
            (Some("OTHER.test"), &second),
            (Some("a.wild.test"), &second),
            (Some("a.b.wild.test"), &first),
            (Some("wild.test"), &first),
        ] {
            assert!(
                Arc::ptr_eq(&resolver.choose(name).unwrap(), wanted),
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_hybrid_group_comes_first_and_early_data_is_off() {
        let config = server_config(
            vec![certificate(&["gw.test"])],
            Minimum::Tls12,
            ClientCertificates::Off,
        )
        .unwrap();
        let first = config.crypto_provider().kx_groups.first().unwrap().name();
        assert_eq!(first, rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(config.max_early_data_size, 0);
        assert!(config.ticketer.enabled());
    }

    #[test]
    fn asking_for_certificates_turns_resumption_off() {
        let config = server_config(
            vec![certificate(&["gw.test"])],
            Minimum::Tls13,
            ClientCertificates::Request,
        )
        .unwrap();
        assert!(!config.ticketer.enabled());
        assert_eq!(config.send_tls13_tickets, 0);
    }

    #[test]
    fn bad_pem_is_explained() {
        let text = |chain, key| Certificate::from_pem(&[], chain, key).unwrap_err();
        assert_eq!(text("", ""), "chain holds no certificate");
        let made = rcgen::generate_simple_self_signed(vec![]).unwrap();
        assert_eq!(text(&made.cert.pem(), "x"), "key holds no PEM private key");
    }
}
