//! One IF-T connection, client side: frames in, frames and events out. No I/O, no randomness.
//!
//! ```text
//! Version -> Challenge -> Questions -> Success -> Configuration -> Tunnel
//! ```
//! `Questions` is left by the gateway's cookie: the client is signed in.

use zeroize::Zeroizing;

use crate::settings::{Keys, Settings, Type1, keys_answer, parse_type1};
use crate::wire::{
    AUTH_TYPE, AVP_AGENT, AVP_COOKIE, AVP_EAP, AVP_FAILURE, AVP_NOTICE, AVP_NOTICE_OK, AVP_PROMPT,
    AVP_REALM_ANSWER, AVP_REALM_ENTRY, AVP_REALM_NAME, AVP_SESSION, AVP_USER, EAP_GTC,
    EAP_IDENTITY, EAP_REQUEST, EAP_RESPONSE, EAP_SUCCESS, Eap, Frame, FrameWriter, Malformed,
    SUB_AVPS, SUB_PASSWORD, VENDOR_A4C, VENDOR_TCG, Words, eap, eap_expanded, parse_avps,
    parse_eap, push_avp,
};

/// Frame types of vendor a4c.
pub const KIND_CONFIG: u32 = 0x01;
pub const KIND_DATA: u32 = 0x04;
const KIND_NCMO: u32 = 0x05;
const KIND_CLIENT_INFO: u32 = 0x88;
const KIND_LOGOUT: u32 = 0x89;
const KIND_CONFIG_END: u32 = 0x8f;
const KIND_FATAL: u32 = 0x93;
const KIND_LICENCE: u32 = 0x96;
/// Frame types of vendor 0x5597.
const KIND_VERSION_REQUEST: u32 = 1;
const KIND_VERSION_RESPONSE: u32 = 2;
const KIND_CHALLENGE: u32 = 5;
const KIND_RESPONSE: u32 = 6;
const KIND_SUCCESS: u32 = 7;

/// Longest password the answer's length byte can carry.
const MAX_PASSWORD: usize = 253;
/// Questions answered before giving up: realm, password, notice and some to spare.
const MAX_QUESTIONS: u32 = 8;

/// Where a connection stands; errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Connect,
    Tls,
    Upgrade,
    Version,
    Challenge,
    Questions,
    Success,
    Configuration,
    Tunnel,
}

impl Step {
    pub fn name(self) -> &'static str {
        match self {
            Step::Connect => "tcp connect",
            Step::Tls => "tls handshake",
            Step::Upgrade => "http upgrade",
            Step::Version => "if-t version",
            Step::Challenge => "first challenge",
            Step::Questions => "sign-in questions",
            Step::Success => "sign-in success",
            Step::Configuration => "configuration",
            Step::Tunnel => "tunnel",
        }
    }
}

/// Who signs in and how.
#[derive(Debug)]
pub struct Login {
    pub user: String,
    pub password: Secret,
    /// Offered first when present; the gateway then asks nothing.
    pub cookie: Option<Secret>,
    /// Local address of the TCP connection, for the client information.
    pub address: String,
}

/// Text that is never formatted and is wiped when dropped.
#[derive(Clone)]
pub struct Secret(pub Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What a frame meant.
#[derive(Debug)]
pub enum Event {
    /// Signed in; the cookie resumes this session.
    SignedIn(Secret),
    Configured(Settings),
    /// The gateway's half of the ESP keys: the owner makes its own half and calls
    /// [`Conversation::answer_keys`].
    EspKeys(Keys),
    /// End of configuration: the tunnel is up.
    Up,
    /// One inner packet that came over TLS.
    Packet(Vec<u8>),
    /// The gateway asks for a new ESP probe.
    ProbeNow,
}

/// Why a conversation cannot go on. Texts come from this tool or from the gateway's refusal.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Failure(malformed.0.to_owned())
    }
}

fn failure<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure(text.into()))
}

#[derive(Debug)]
pub struct Conversation {
    login: Login,
    step: Step,
    writer: FrameWriter,
    out: Vec<Vec<u8>>,
    /// The empty challenge came; the next one carries EAP.
    identified: bool,
    /// Client information (agent, cookie) went out.
    introduced: bool,
    questions: u32,
    password_tried: bool,
    esp_answered: bool,
}

impl Conversation {
    /// Starts with the version request queued.
    pub fn new(login: Login) -> Conversation {
        let mut new = Conversation {
            login,
            step: Step::Version,
            writer: FrameWriter::default(),
            out: Vec::new(),
            identified: false,
            introduced: false,
            questions: 0,
            password_tried: false,
            esp_answered: false,
        };
        new.send(VENDOR_TCG, KIND_VERSION_REQUEST, &[0, 1, 2, 2]);
        new
    }

    pub fn step(&self) -> Step {
        self.step
    }

    /// Frames to write, each in one piece.
    pub fn take_output(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }

    /// Queues a frame; the numbering of the connection goes on.
    pub fn send(&mut self, vendor: u32, kind: u32, body: &[u8]) {
        let frame = self.writer.encode(vendor, kind, body);
        self.out.push(frame);
    }

    /// Queues one inner packet.
    pub fn send_packet(&mut self, packet: &[u8]) {
        self.send(VENDOR_A4C, KIND_DATA, packet);
    }

    /// Queues the end of the session; close TCP after it.
    pub fn logout(&mut self) {
        self.send(VENDOR_A4C, KIND_LOGOUT, &[]);
    }

    /// Queues the client's half of the ESP keys, and after the first one the word that ESP is ready.
    pub fn answer_keys(&mut self, ours: &Keys, gateways: &Keys) {
        self.send(VENDOR_A4C, KIND_CONFIG, &keys_answer(ours, gateways));
        if !self.esp_answered {
            self.esp_answered = true;
            self.send(VENDOR_A4C, KIND_NCMO, b"ncmo=1\n\0");
        }
    }

    /// Takes one frame from the gateway.
    pub fn receive(&mut self, frame: &Frame) -> Result<Option<Event>, Failure> {
        match (self.step, frame.vendor, frame.kind) {
            (Step::Version, VENDOR_TCG, KIND_VERSION_RESPONSE) => self.version(&frame.body),
            (Step::Challenge | Step::Questions, VENDOR_TCG, KIND_CHALLENGE) => {
                match frame.body.strip_prefix(&AUTH_TYPE) {
                    Some(packet) => self.challenge(packet),
                    None => failure("challenge of an unknown authentication type"),
                }
            }
            (Step::Success, VENDOR_TCG, KIND_SUCCESS) => self.success(&frame.body),
            (Step::Configuration, VENDOR_A4C, KIND_CONFIG) => match parse_type1(&frame.body)? {
                Type1::Main(settings) => Ok(Some(Event::Configured(settings))),
                Type1::Keys(keys) => Ok(Some(Event::EspKeys(keys))),
            },
            (Step::Configuration, VENDOR_A4C, KIND_CONFIG_END) => {
                if frame.body != [0; 4] {
                    return failure("end of configuration with a wrong body");
                }
                self.step = Step::Tunnel;
                Ok(Some(Event::Up))
            }
            (Step::Tunnel, VENDOR_A4C, KIND_DATA) => Ok(Some(Event::Packet(frame.body.clone()))),
            (Step::Tunnel, VENDOR_A4C, KIND_LICENCE) => Ok(Some(Event::ProbeNow)),
            (Step::Tunnel, VENDOR_A4C, KIND_CONFIG) => match parse_type1(&frame.body)? {
                Type1::Keys(keys) => Ok(Some(Event::EspKeys(keys))),
                Type1::Main(_) => failure("main configuration inside the tunnel phase"),
            },
            (Step::Configuration | Step::Tunnel, VENDOR_A4C, KIND_FATAL) => {
                let text = String::from_utf8_lossy(&frame.body);
                failure(format!(
                    "ended by the gateway: {}",
                    text.trim_end_matches(['\0', '\n'])
                ))
            }
            (_, vendor, kind) => failure(format!("unexpected frame {vendor:#x}/{kind:#x}")),
        }
    }

    fn version(&mut self, body: &[u8]) -> Result<Option<Event>, Failure> {
        if !matches!(body, [0, 0, 0, 1 | 2]) {
            return failure("version response that names no known version");
        }
        let info = format!("clientHostName=load clientIp={}\n\0", self.login.address);
        self.send(VENDOR_A4C, KIND_CLIENT_INFO, info.as_bytes());
        self.step = Step::Challenge;
        Ok(None)
    }

    fn challenge(&mut self, packet: &[u8]) -> Result<Option<Event>, Failure> {
        if !self.identified {
            if !packet.is_empty() {
                return failure("first challenge is not empty");
            }
            self.identified = true;
            // Identifier 1 although nobody asked: what openconnect sends.
            self.respond(&eap(EAP_RESPONSE, 1, EAP_IDENTITY, b"anonymous"));
            return Ok(None);
        }
        let (
            code,
            id,
            Eap::Expanded {
                subtype: SUB_AVPS,
                data,
            },
        ) = parse_eap(packet)?
        else {
            return failure("challenge that is not a list of attributes");
        };
        if code != EAP_REQUEST || packet.len() != 12 + data.len() {
            return failure("challenge that is not one whole EAP request");
        }
        if !self.introduced {
            self.introduced = true;
            self.step = Step::Questions;
            let mut avps = Vec::new();
            push_avp(
                &mut avps,
                AVP_AGENT,
                concat!("Lockgate-load/", env!("CARGO_PKG_VERSION")).as_bytes(),
            );
            if let Some(cookie) = &self.login.cookie {
                push_avp(&mut avps, AVP_COOKIE, cookie.0.as_bytes());
            }
            self.respond_avps(id, &avps);
            return Ok(None);
        }
        self.question(id, data)
    }

    /// One of the gateway's questions, or its cookie.
    fn question(&mut self, id: u8, data: &[u8]) -> Result<Option<Event>, Failure> {
        self.questions += 1;
        if self.questions > MAX_QUESTIONS {
            return failure("more questions than a sign-in has");
        }
        let avps = parse_avps(data)?;
        let find = |wanted: u32| {
            avps.iter()
                .find(|(code, _)| *code == wanted)
                .map(|(_, data)| *data)
        };
        if let Some(code) = find(AVP_FAILURE) {
            let code = Words(code).u32().unwrap_or(0);
            return failure(format!("sign-in refused with code {code:#x}"));
        }
        if let Some(cookie) = find(AVP_COOKIE) {
            let Ok(cookie) = std::str::from_utf8(cookie) else {
                return failure("cookie that is not text");
            };
            let cookie = Secret(Zeroizing::new(cookie.to_owned()));
            self.respond_avps(id, &[]);
            self.step = Step::Success;
            return Ok(Some(Event::SignedIn(cookie)));
        }
        if self.login.cookie.is_some() {
            return failure("cookie not accepted");
        }
        let mut answer = Vec::new();
        if let Some(inner) = find(AVP_EAP) {
            let wants_user = find(AVP_PROMPT).is_none_or(|flags| matches!(flags, [0, 0, 0, 1 | 5]));
            self.credentials(inner, wants_user, &mut answer)?;
        } else if let Some(realm) = find(AVP_REALM_NAME) {
            push_avp(&mut answer, AVP_REALM_ANSWER, realm);
        } else if find(AVP_REALM_ENTRY).is_some() {
            return failure("the gateway asks to type a realm");
        } else if find(AVP_SESSION).is_some() {
            return failure("the gateway asks which session to end");
        } else if find(AVP_NOTICE).is_some() {
            push_avp(&mut answer, AVP_NOTICE_OK, &1u32.to_be_bytes());
        } else {
            return failure("challenge without a question");
        }
        self.respond_avps(id, &answer);
        Ok(None)
    }

    /// Appends the answer to the inner password question.
    fn credentials(
        &mut self,
        inner: &[u8],
        wants_user: bool,
        answer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let (code, id, content) = parse_eap(inner)?;
        if code != EAP_REQUEST {
            return failure("inner EAP packet that is not a request");
        }
        match content {
            Eap::Expanded {
                subtype: SUB_PASSWORD,
                data: [0x01],
            } if !self.password_tried => {}
            Eap::Expanded {
                subtype: SUB_PASSWORD,
                data: [0x01 | 0x81],
            } => return failure("wrong user name or password"),
            Eap::Expanded {
                subtype: SUB_PASSWORD,
                data: [0xc5, 1, _, text @ ..],
            } => {
                return failure(format!("refused: {}", String::from_utf8_lossy(text)));
            }
            Eap::Expanded {
                subtype: SUB_PASSWORD,
                ..
            } => return failure("the gateway asks for a new password"),
            Eap::Plain { kind: EAP_GTC, .. } => {
                return failure("the gateway asks for a token code");
            }
            _ => return failure("unknown inner authentication"),
        }
        self.password_tried = true;
        let password = self.login.password.0.as_bytes();
        if password.len() > MAX_PASSWORD {
            return failure("password longer than 253 bytes");
        }
        if wants_user {
            push_avp(answer, AVP_USER, self.login.user.as_bytes());
        }
        let length = u8::try_from(password.len() + 2).unwrap_or(u8::MAX);
        let mut data = Zeroizing::new(vec![2, 2, length]);
        data.extend_from_slice(password);
        push_avp(
            answer,
            AVP_EAP,
            &eap_expanded(EAP_RESPONSE, id, SUB_PASSWORD, &data),
        );
        Ok(())
    }

    fn success(&mut self, body: &[u8]) -> Result<Option<Event>, Failure> {
        match body.strip_prefix(&AUTH_TYPE) {
            Some([EAP_SUCCESS, _, 0, 4]) => {
                self.step = Step::Configuration;
                Ok(None)
            }
            _ => failure("success frame with a wrong body"),
        }
    }

    fn respond(&mut self, packet: &[u8]) {
        let body = [&AUTH_TYPE, packet].concat();
        self.send(VENDOR_TCG, KIND_RESPONSE, &body);
    }

    fn respond_avps(&mut self, id: u8, avps: &[u8]) {
        self.respond(&eap_expanded(EAP_RESPONSE, id, SUB_AVPS, avps));
    }
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::settings::tests::{keys_body, main_body};

    pub fn secret(text: &str) -> Secret {
        Secret(Zeroizing::new(text.to_owned()))
    }

    fn login(cookie: Option<&str>) -> Login {
        Login {
            user: "u1".into(),
            password: secret("pw"),
            cookie: cookie.map(secret),
            address: "10.99.0.2".into(),
        }
    }

    fn tcg(kind: u32, body: &[u8]) -> Frame {
        Frame {
            vendor: VENDOR_TCG,
            kind,
            body: body.to_vec(),
        }
    }

    fn a4c(kind: u32, body: &[u8]) -> Frame {
        Frame {
            vendor: VENDOR_A4C,
            kind,
            body: body.to_vec(),
        }
    }

    fn ask(id: u8, avps: &[(u32, &[u8])]) -> Frame {
        let mut list = Vec::new();
        for (code, data) in avps {
            push_avp(&mut list, *code, data);
        }
        tcg(
            5,
            &[
                &AUTH_TYPE,
                eap_expanded(EAP_REQUEST, id, SUB_AVPS, &list).as_slice(),
            ]
            .concat(),
        )
    }

    /// Up to the point where the client has introduced itself.
    fn introduced(login: Login) -> Conversation {
        let mut talk = Conversation::new(login);
        for frame in [tcg(2, &[0, 0, 0, 2]), tcg(5, &AUTH_TYPE), ask(2, &[])] {
            assert!(talk.receive(&frame).unwrap().is_none());
        }
        assert_eq!(
            talk.take_output().len(),
            4,
            "version, information, identity, agent"
        );
        talk
    }

    fn password_question(code: u8) -> Frame {
        ask(
            3,
            &[(
                AVP_EAP,
                &eap_expanded(EAP_REQUEST, 2, SUB_PASSWORD, &[code]),
            )],
        )
    }

    #[test]
    fn a_whole_sign_in_ends_in_the_tunnel() {
        let mut talk = introduced(login(None));
        assert!(
            talk.receive(&ask(2, &[(AVP_REALM_NAME, b"Users")]))
                .unwrap()
                .is_none()
        );
        assert!(talk.receive(&password_question(1)).unwrap().is_none());
        let event = talk.receive(&ask(4, &[(AVP_COOKIE, b"c00c1e")])).unwrap();
        assert!(matches!(event, Some(Event::SignedIn(cookie)) if cookie.0.as_str() == "c00c1e"));
        assert!(
            talk.receive(&tcg(7, &[&AUTH_TYPE, &[3u8, 4, 0, 4][..]].concat()))
                .unwrap()
                .is_none()
        );
        let main = main_body(&[(1, &[10, 88, 0, 1]), (0x4005, &[0, 0, 5, 0x78])]);
        assert!(matches!(
            talk.receive(&a4c(1, &main)).unwrap(),
            Some(Event::Configured(_))
        ));
        let keys = Keys {
            spi: 300,
            secret: [1; 64],
        };
        let Some(Event::EspKeys(gateways)) = talk.receive(&a4c(1, &keys_body(&keys))).unwrap()
        else {
            panic!("no keys")
        };
        assert!(matches!(
            talk.receive(&a4c(0x8f, &[0; 4])).unwrap(),
            Some(Event::Up)
        ));
        talk.take_output();
        talk.answer_keys(
            &Keys {
                spi: 301,
                secret: [2; 64],
            },
            &gateways,
        );
        assert_eq!(talk.take_output().len(), 2, "answer and ncmo");
        talk.answer_keys(
            &Keys {
                spi: 302,
                secret: [2; 64],
            },
            &gateways,
        );
        assert_eq!(
            talk.take_output().len(),
            1,
            "a rekey is answered without ncmo"
        );
        assert!(matches!(
            talk.receive(&a4c(4, b"E")).unwrap(),
            Some(Event::Packet(_))
        ));
    }

    #[test]
    fn a_good_cookie_asks_nothing_and_a_bad_one_is_named() {
        let mut talk = introduced(login(Some("old")));
        assert!(matches!(
            talk.receive(&ask(3, &[(AVP_COOKIE, b"new")])).unwrap(),
            Some(Event::SignedIn(_))
        ));
        let mut talk = introduced(login(Some("old")));
        assert_eq!(
            talk.receive(&password_question(1)).unwrap_err(),
            Failure("cookie not accepted".into())
        );
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = eap_expanded(EAP_REQUEST, 2, SUB_PASSWORD, b"\xc5\x01\x05no!");
        let table: [(Frame, &str); 5] = [
            (
                ask(3, &[(AVP_FAILURE, &[0, 0, 0, 13])]),
                "sign-in refused with code 0xd",
            ),
            (ask(3, &[(AVP_EAP, &refused)]), "refused: no!"),
            (
                ask(3, &[(AVP_SESSION, &[])]),
                "the gateway asks which session to end",
            ),
            (ask(3, &[]), "challenge without a question"),
            (
                password_question(0x43),
                "the gateway asks for a new password",
            ),
        ];
        for (frame, text) in table {
            assert_eq!(
                introduced(login(None)).receive(&frame).unwrap_err(),
                Failure(text.into())
            );
        }
        let mut talk = introduced(login(None));
        talk.receive(&password_question(1)).unwrap();
        let error = talk.receive(&password_question(0x81)).unwrap_err();
        assert_eq!(error, Failure("wrong user name or password".into()));
    }

    #[test]
    fn frames_out_of_turn_end_it() {
        for frame in [
            tcg(7, &AUTH_TYPE),
            a4c(4, b"E"),
            a4c(0x8f, &[0; 4]),
            tcg(2, &[0, 0, 0, 9]),
        ] {
            assert!(Conversation::new(login(None)).receive(&frame).is_err());
        }
    }
}
