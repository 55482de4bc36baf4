//! One connection: TLS, then HTTP, then perhaps a tunnel.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use lockgate_dataplane::link::{ConnOpened, FromEdge};
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
use super::{Front, tls, upgrade};
use crate::bootstrap::Role;
use crate::conversation;
use crate::lock;

/// Where a connection comes from and where it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub role: Role,
}

/// A granted upgrade, waiting for hyper to let go of the stream.
struct Granted {
    upgrade: OnUpgrade,
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
    Box::pin(http(exchange.clone(), stream)).await;
    let granted = lock(&exchange.granted).take();
    if let Some(granted) = granted {
        Box::pin(tunnel(exchange, granted)).await;
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

/// HTTP until the connection closes or is upgraded.
async fn http(exchange: Arc<Exchange>, stream: TlsStream<TcpStream>) {
    let limits = &exchange.front.limits;
    let service = service_fn(|request| {
        let exchange = exchange.clone();
        async move { Ok::<_, std::convert::Infallible>(exchange.answer(request).await) }
    });
    let connection = http1::Builder::new()
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
        )
        .with_upgrades();
    let mut connection = pin!(connection);
    let first_head = sleep(limits.head_time());
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = exchange.place.evicted() => return,
        () = first_head => {
            if exchange.place.is_half_open() {
                return exchange.front.refusals.count(Refusal::HeadTimeout);
            }
            connection.await
        }
    };
    match done {
        Err(problem) if problem.is_timeout() => exchange.front.refusals.count(Refusal::HeadTimeout),
        Err(problem) if problem.is_parse() => exchange.front.refusals.count(Refusal::BadHead),
        _ => {}
    }
}

async fn tunnel(exchange: Arc<Exchange>, granted: Granted) {
    let Ok(upgraded) = granted.upgrade.await else {
        return;
    };
    // The type is the one `http` put in.
    let Ok(parts) = upgraded.downcast::<TokioIo<Watched<TlsStream<TcpStream>>>>() else {
        return;
    };
    let stream = parts.io.into_inner().into_inner();
    let Exchange { front, ends, .. } = &*exchange;
    // The link was there when the upgrade was granted; should it have gone since, the client
    // sees its connection close, as all others do at that moment.
    let Some(registered) = front.directory.register() else {
        return;
    };
    let mut opened = granted.opened;
    opened.conn = registered.conn;
    opened.exporter = tls::exporter(stream.get_ref().1);
    let (ties, terms, peer, unread) = (
        front.ties(),
        front.terms(),
        ends.peer,
        parts.read_buf.to_vec(),
    );
    let place = exchange.place.clone();
    drop(exchange);
    let first = FromEdge::ConnOpened(opened);
    conversation::run(ties, terms, registered, stream.into(), unread, first, peer).await;
    drop(place);
}

impl Exchange {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let asks_upgrade = request.headers().contains_key(header::UPGRADE);
        let mut response = match request::check(&request) {
            Err(odd) => {
                self.front.refusals.count(Refusal::BadRequest);
                closing(StatusCode::BAD_REQUEST, odd.text())
            }
            Ok(()) if self.ends.role == Role::Gateway && upgrade::is_wanted(request.headers()) => {
                return self.upgrade(request).await;
            }
            Ok(()) => self.forward(request).await,
        };
        if chunked || asks_upgrade {
            // `framing` has stopped watching this connection.
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn upgrade(&self, mut request: Request<Incoming>) -> Response<Answer> {
        if !upgrade::is_possible(&request) {
            self.front.refusals.count(Refusal::BadRequest);
            return closing(
                StatusCode::BAD_REQUEST,
                "A tunnel starts with a GET without a body.\n",
            );
        }
        if self.place.become_kind(Kind::SignIn).is_err() {
            return busy("Too many people are signing in. Try again in a few seconds.\n");
        }
        if !self
            .front
            .directory
            .wait_for_link(self.front.limits.upgrade_wait())
            .await
        {
            self.front.refusals.count(Refusal::NoControl);
            return busy(NoAnswer::Down.text());
        }
        let opened = upgrade::facts(&request, self.ends.peer, self.ends.local, &self.tls);
        *lock(&self.granted) = Some(Granted {
            upgrade: hyper::upgrade::on(&mut request),
            opened,
        });
        upgrade::switching()
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
