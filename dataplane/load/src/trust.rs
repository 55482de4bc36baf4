//! How the gateway's certificate is judged: by a CA file, or by the pin of its key.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Client settings that trust the CA certificates of a PEM file.
pub fn by_ca(file: &Path) -> Result<ClientConfig, String> {
    let describe = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| describe(&error))? {
        let certificate = certificate.map_err(|error| describe(&error))?;
        roots.add(certificate).map_err(|error| describe(&error))?;
    }
    if roots.is_empty() {
        return Err(format!("{}: no certificate in it", file.display()));
    }
    let builder =
        ClientConfig::builder_with_provider(groups()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(finish(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Client settings that trust one public key and nothing else about the certificate.
///
/// pin: `pin-sha256:` and the base64 of SHA-256 over the DER SubjectPublicKeyInfo.
pub fn by_pin(pin: &str) -> Result<ClientConfig, String> {
    let wanted = pin
        .strip_prefix("pin-sha256:")
        .and_then(|text| STANDARD.decode(text).ok());
    let Some(wanted) = wanted.filter(|hash| hash.len() == 32) else {
        return Err("a pin is pin-sha256: and the base64 of 32 bytes".to_owned());
    };
    let provider = groups();
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let verifier = Arc::new(Pinned { wanted, provider });
    Ok(finish(
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth(),
    ))
}

/// X25519 first and no hybrid group: what openconnect 9.01 offers, and half the work for this end.
fn groups() -> Arc<CryptoProvider> {
    let kx_groups = vec![provider::kx_group::X25519, provider::kx_group::SECP256R1];
    Arc::new(CryptoProvider {
        kx_groups,
        ..provider::default_provider()
    })
}

/// Every handshake is a full one: real clients are separate processes without a shared cache.
fn finish(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

#[derive(Debug)]
struct Pinned {
    wanted: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        if digest(&SHA256, &key).as_ref() == self.wanted {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pins_of_another_shape_are_refused() {
        for bad in [
            "",
            "sha256:AAAA",
            "pin-sha256:AAAA",
            "pin-sha256:not base64",
        ] {
            assert!(by_pin(bad).is_err(), "{bad:?}");
        }
        assert!(by_pin(&format!("pin-sha256:{}", STANDARD.encode([0; 32]))).is_ok());
    }
}
