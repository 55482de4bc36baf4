//! Whether the gateway's certificate is believed.
//!
//! Two grounds, both from the service: trust anchors, by which chain, time and name must verify,
//! and the pin of one key, which alone accepts any certificate of that key. Given both, both must
//! hold; given neither, nothing is believed. That the gateway has the key is verified always.

use std::sync::{Arc, Mutex};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use lockgate_dataplane::link::{Dial, DialFailure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::Failure;
use crate::lock;

/// Certificates that are kept of what a server presents; real chains have two to five.
const CHAIN: usize = 16;

/// What a server presented, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Presented {
    /// DER, leaf first.
    pub certificates: Vec<Vec<u8>>,
    /// SHA-256 over the leaf's SubjectPublicKeyInfo; empty when the leaf cannot be read.
    pub pin: Vec<u8>,
    /// Why the certificate was not believed.
    pub failure: Option<Failure>,
}

/// Judges the certificate of one dial.
#[derive(Debug)]
pub struct Judge {
    /// `None`: the service gave no anchors. A store in which none could be used believes nobody.
    roots: Option<RootCertStore>,
    pin: Vec<u8>,
    provider: Arc<CryptoProvider>,
    presented: Mutex<Presented>,
}

impl Judge {
    pub fn new(dial: &Dial, provider: Arc<CryptoProvider>) -> Self {
        let roots = (!dial.roots.is_empty()).then(|| {
            let mut store = RootCertStore::empty();
            // Stores of operating systems hold some that are of no use.
            store.add_parsable_certificates(
                dial.roots
                    .iter()
                    .map(|root| CertificateDer::from(root.as_slice())),
            );
            store
        });
        Self {
            roots,
            pin: dial.pin.clone(),
            provider,
            presented: Mutex::default(),
        }
    }

    pub fn presented(&self) -> Presented {
        lock(&self.presented).clone()
    }

    /// The TLS configuration that asks this judge. No resumption: every connection shows its
    /// certificate anew. SNI goes out for names only, and no ALPN, as with openconnect.
    pub fn config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Failure> {
        let certificates = std::iter::once(leaf).chain(intermediates).take(CHAIN);
        lock(&self.presented).certificates = certificates.map(|der| der.to_vec()).collect();
        let certificate = ParsedCertificate::try_from(leaf).map_err(failure)?;
        let key = certificate.subject_public_key_info();
        let pin = digest(&SHA256, &key);
        lock(&self.presented).pin = pin.as_ref().to_vec();
        if let Some(roots) = &self.roots {
            self.verify(&certificate, roots, intermediates, name, now)?;
        }
        if !self.pin.is_empty() {
            return verify_slices_are_equal(&self.pin, pin.as_ref())
                .map_err(|_| Failure::new(DialFailure::PinMismatch, "not the pinned key"));
        }
        match self.roots {
            Some(_) => Ok(()),
            None => Err(Failure::new(
                DialFailure::Untrusted,
                "neither trust anchors nor a pinned key to judge the certificate by",
            )),
        }
    }

    /// Chain, time and name. Of several faults the gravest is told: a person who may look past
    /// an expired certificate must not be shown that for one that nobody vouches for.
    fn verify(
        &self,
        certificate: &ParsedCertificate<'_>,
        roots: &RootCertStore,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Failure> {
        let chain_at = |time| {
            verify_server_cert_signed_by_trust_anchor(
                certificate,
                roots,
                intermediates,
                time,
                self.provider.signature_verification_algorithms.all,
            )
        };
        let chain = chain_at(now);
        if let Err(problem) = &chain {
            let graver = match valid_time(problem) {
                None => Some(problem.clone()),
                Some(time) => chain_at(time)
                    .err()
                    .filter(|other| valid_time(other).is_none()),
            };
            if let Some(graver) = graver {
                return Err(failure(graver));
            }
        }
        verify_server_name(certificate, name).map_err(failure)?;
        chain.map_err(failure)
    }
}

/// A time at which the certificate that is not valid now was valid; `None` for other problems.
fn valid_time(problem: &Error) -> Option<UnixTime> {
    match problem {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Some(*not_after)
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            Some(*not_before)
        }
        _ => None,
    }
}

fn failure(problem: Error) -> Failure {
    let cause = match &problem {
        Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                DialFailure::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                DialFailure::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                DialFailure::WrongName
            }
            _ => DialFailure::Untrusted,
        },
        _ => DialFailure::Untrusted,
    };
    Failure::new(cause, problem)
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.judge(end_entity, intermediates, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(failure) => {
                lock(&self.presented).failure = Some(failure);
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
