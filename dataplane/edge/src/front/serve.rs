//! One connection: TLS, then HTTP, then perhaps a tunnel.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use lockgate_dataplane::link::{self, ConnOpened, FromEdge};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::admission::{Kind, Place};
use super::body::{Answer, RequestBody, WithoutTrailers};
use super::framing::Watched;
use super::proxy::{NoAnswer, Upstream};
use super::refusal::Refusal;
use super::request::{self, Facts};
use super::tls::TlsFacts;
use super::{Front, ncp, tls, upgrade};
use crate::bootstrap::Role;
use crate::conversation::{self, Opening};
use crate::data::Side;
use crate::framing::Framing;
use crate::lock;

/// Where a connection comes from and where it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub role: Role,
}

/// A request for a tunnel that was found good; hyper has to let go of the stream for it.
enum Granted {
    /// hyper answers 101, and is done with the connection.
    Upgrade(Box<ConnOpened>),
    /// The service fails with [`TakenOver`], and hyper is done without an answer. Of the request's body
    /// nothing may have come.
    Ncp(Box<ConnOpened>, Incoming),
}

/// A request that hyper shall not answer.
#[derive(Debug)]
struct TakenOver;

impl std::fmt::Display for TakenOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is taken over")
    }
}

impl std::error::Error for TakenOver {}

/// A connection that leaves HTTP, and what is known about it.
struct Tunnel {
    opening: Opening,
    opened: Box<ConnOpened>,
}

/// What the requests of one connection share.
struct Exchange {
    front: Arc<Front>,
    ends: Ends,
    place: Arc<Place>,
    tls: TlsFacts,
    facts: Facts,
    /// Requests of an HTTP/1 connection come one at a time; the lock is never waited for.
    upstream: tokio::sync::Mutex<Upstream>,
    granted: Mutex<Option<Granted>>,
}

/// Serves one accepted connection to its end or to the hand-over.
pub async fn connection(front: Arc<Front>, stream: TcpStream, ends: Ends, place: Arc<Place>) {
    let Some(stream) = handshake(&front, stream, &place).await else {
        return;
    };
    let (_, session) = stream.get_ref();
    let tls = TlsFacts::of(session);
    let exchange = Arc::new(Exchange {
        facts: Facts::new(ends.peer, ends.local, ends.role, &tls),
        front,
        ends,
        place,
        tls,
        upstream: tokio::sync::Mutex::default(),
        granted: Mutex::default(),
    });
    if let Some(tunnel) = Box::pin(http(exchange.clone(), stream)).await {
        Box::pin(talk(exchange, tunnel)).await;
    }
}

async fn handshake(
    front: &Front,
    stream: TcpStream,
    place: &Place,
) -> Option<TlsStream<TcpStream>> {
    let accept = TlsAcceptor::from(front.tls.clone()).accept(stream);
    let refusal = tokio::select! {
        done = timeout(front.limits.tls_time(), accept) => match done {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(_)) => Refusal::TlsFailed,
            Err(_) => Refusal::TlsTimeout,
        },
        // Counted by the desk.
        () = place.evicted() => return None,
    };
    front.refusals.count(refusal);
    None
}

/// HTTP until the connection closes or becomes a tunnel.
async fn http(exchange: Arc<Exchange>, stream: TlsStream<TcpStream>) -> Option<Tunnel> {
    let limits = &exchange.front.limits;
    let service = service_fn(|request| {
        let exchange = exchange.clone();
        async move { exchange.answer(request).await }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also the longest silence between two requests; the first head has a deadline below.
        .header_read_timeout(limits.http_idle_time().max(limits.head_time()))
        .max_headers(limits.head_lines)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes)
        .half_close(false)
        .serve_connection(
            TokioIo::new(Watched::new(stream, exchange.front.refusals.clone())),
            service,
        );
    let first_head = sleep(limits.head_time());
    let done = tokio::select! {
        done = &mut connection => done,
        () = exchange.place.evicted() => return None,
        () = first_head => {
            if exchange.place.is_half_open() {
                exchange.front.refusals.count(Refusal::HeadTimeout);
                return None;
            }
            (&mut connection).await
        }
    };
    let refusals = &exchange.front.refusals;
    match &done {
        Err(problem) if problem.is_timeout() => refusals.count(Refusal::HeadTimeout),
        Err(problem) if problem.is_parse() => refusals.count(Refusal::BadHead),
        _ => {}
    }
    let granted = lock(&exchange.granted).take()?;
    let parts = connection.into_parts();
    let (mut opened, framing) = match (granted, done) {
        (Granted::Upgrade(opened), Ok(())) => (opened, Framing::if_t(Side::Gateway)),
        (Granted::Ncp(opened, mut body), Err(problem)) if problem.is_user() => {
            // hyper reads a body ahead: what came may be in its hands or in its buffer.
            let early = now_or_never(body.frame()).flatten();
            if early.is_some_and(|frame| frame.is_ok()) || !parts.read_buf.is_empty() {
                refusals.count(Refusal::EarlyBytes);
                return None;
            }
            (opened, Framing::ncp())
        }
        _ => return None,
    };
    let stream = parts.io.into_inner().into_inner();
    opened.exporter = tls::exporter(stream.get_ref().1);
    let opening = Opening {
        stream: stream.into(),
        framing,
        unread: parts.read_buf.to_vec(),
        peer: exchange.ends.peer,
    };
    Some(Tunnel { opening, opened })
}

/// Everything after HTTP.
async fn talk(exchange: Arc<Exchange>, tunnel: Tunnel) {
    let Tunnel {
        opening,
        mut opened,
    } = tunnel;
    let front = &exchange.front;
    // The link was there when the tunnel was granted; should it have gone since, the client
    // sees its connection close, as all others do at that moment.
    let Some(registered) = front.directory.register() else {
        return;
    };
    opened.conn = registered.conn;
    let (ties, terms) = (front.ties(), front.terms());
    let place = exchange.place.clone();
    drop(exchange);
    let first = FromEdge::ConnOpened(opened);
    conversation::run(ties, terms, registered, opening, first).await;
    drop(place);
}

impl Exchange {
    /// Fails when somebody else goes on with the connection.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Answer>, TakenOver> {
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let asks_upgrade = request.headers().contains_key(header::UPGRADE);
        let mut response = match request::check(&request) {
            Err(odd) => {
                self.front.refusals.count(Refusal::BadRequest);
                closing(StatusCode::BAD_REQUEST, odd.text())
            }
            Ok(()) if self.ends.role == Role::Gateway && upgrade::is_wanted(request.headers()) => {
                return Ok(self.upgrade(request).await);
            }
            Ok(()) if self.ends.role == Role::Gateway && ncp::is_wanted(&request) => {
                match self.network_connect(request).await {
                    Ok(granted) => {
                        *lock(&self.granted) = Some(granted);
                        return Err(TakenOver);
                    }
                    Err(refused) => refused,
                }
            }
            Ok(()) => self.forward(request).await,
        };
        if chunked || asks_upgrade {
            // `framing` has stopped watching this connection.
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn upgrade(&self, request: Request<Incoming>) -> Response<Answer> {
        if !upgrade::is_possible(&request) {
            self.front.refusals.count(Refusal::BadRequest);
            return closing(
                StatusCode::BAD_REQUEST,
                "A tunnel starts with a GET without a body.\n",
            );
        }
        match self.make_room().await {
            Err(refused) => refused,
            Ok(()) => {
                let opened = self.opened(&request, link::Framing::IfT);
                *lock(&self.granted) = Some(Granted::Upgrade(opened));
                upgrade::switching()
            }
        }
    }

    async fn network_connect(
        &self,
        request: Request<Incoming>,
    ) -> Result<Granted, Response<Answer>> {
        if !ncp::is_possible(request.version(), request.headers()) {
            self.front.refusals.count(Refusal::BadRequest);
            return Err(closing(
                StatusCode::BAD_REQUEST,
                "This is not how a tunnel starts.\n",
            ));
        }
        self.make_room().await?;
        let opened = self.opened(&request, link::Framing::Ncp);
        Ok(Granted::Ncp(opened, request.into_body()))
    }

    /// A place among those who sign in, and a control plane for it.
    async fn make_room(&self) -> Result<(), Response<Answer>> {
        if self.place.become_kind(Kind::SignIn).is_err() {
            return Err(busy(
                "Too many people are signing in. Try again in a few seconds.\n",
            ));
        }
        let patience = self.front.limits.upgrade_wait();
        if !self.front.directory.wait_for_link(patience).await {
            self.front.refusals.count(Refusal::NoControl);
            return Err(busy(NoAnswer::Down.text()));
        }
        Ok(())
    }

    fn opened(&self, request: &Request<Incoming>, framing: link::Framing) -> Box<ConnOpened> {
        upgrade::facts(request, self.ends.peer, self.ends.local, &self.tls, framing)
    }

    async fn forward(&self, request: Request<Incoming>) -> Response<Answer> {
        if self.place.become_kind(Kind::Http).is_err() {
            return busy("Too many connections. Try again in a few seconds.\n");
        }
        let limits = &self.front.limits;
        let (mut head, body) = request.into_parts();
        request::scrub_request(&mut head.headers);
        self.facts.add_to(&mut head.headers);
        let body = RequestBody::new(
            body,
            limits.body_bytes_at(self.ends.role),
            limits.http_idle_time(),
            self.front.refusals.clone(),
        );
        let request = Request::from_parts(head, body);
        let mut upstream = self.upstream.lock().await;
        match upstream
            .send(&self.front.http_socket, request, limits.answer_time())
            .await
        {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                request::scrub_response(&mut head.headers);
                head.version = hyper::Version::HTTP_11;
                Response::from_parts(head, Either::Right(WithoutTrailers(body)))
            }
            Err(problem) => {
                if matches!(problem, NoAnswer::Down) {
                    self.front.refusals.count(Refusal::NoControl);
                }
                let mut response = closing(problem.status(), problem.text());
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                response
            }
        }
    }
}

/// What a future has to say at once.
fn now_or_never<T>(future: impl Future<Output = T> + Unpin) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A short text of our own, after which the connection closes.
fn closing(status: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn busy(text: &'static str) -> Response<Answer> {
    let mut response = closing(StatusCode::SERVICE_UNAVAILABLE, text);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
