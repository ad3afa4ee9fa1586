//! The admin port, TCP or a unix socket: HTTP for probes, and for whoever changed the configuration and wants to know what
//! became of it.
//!
//! It has a thread of its own, so that it answers when every worker hangs. Whoever connects is a stranger: few at once, for a
//! few seconds, one small request each. When too many come the oldest has to go, so that nobody can keep a probe out by
//! holding on to connections.

use super::Process;
use crate::net::{Bound, Listener, Stream};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};

/// Connections at once.
const CONNECTIONS_COUNT_MAX: usize = 64;
/// From the first byte to the last one of a connection.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// hyper takes no less.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
const HEADERS_COUNT_MAX: usize = 32;
/// After an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of a configuration: a sentence, or all that is wrong with it.
pub type Reloaded = Result<&'static str, String>;
/// Asks the main thread to read the configuration anew.
pub type AskReload = Box<dyn Fn(oneshot::Sender<Reloaded>) + Send>;

/// An open admin port; dropping it closes the port.
pub struct Http {
    _stop: oneshot::Sender<Infallible>,
}

impl Http {
    /// Answers on this socket until it is dropped.
    ///
    /// # Errors
    /// When there can be no thread, or no event loop for it.
    pub fn start(socket: Bound, process: Arc<Process>, ask_reload: AskReload) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("ringway-admin".to_owned()).spawn(move || {
            let runtime =
                Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
            let listener = runtime.and_then(|runtime| {
                let _inside = runtime.enter();
                Ok((Listener::new(socket)?, runtime))
            });
            // Who started the thread waits for this.
            let _ = match listener {
                Ok((listener, runtime)) => {
                    let _ = tell.send(Ok(()));
                    runtime.block_on(serve(listener, Rc::new(Port { process, ask_reload }), stopped));
                    Ok(())
                }
                Err(error) => tell.send(Err(error)),
            };
        })?;
        told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { _stop: stop })
    }
}

async fn serve(listener: Listener, port: Rc<Port>, mut stopped: oneshot::Receiver<Infallible>) {
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            // cancel-safe: what is not accepted stays in the queue
            accepted = poll_fn(|cx| listener.poll_accept(cx)) => accepted,
            _ = &mut stopped => break,
        };
        let Ok(stream) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= CONNECTIONS_COUNT_MAX
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        connections.push_back(spawn_local(converse(stream, Rc::clone(&port))));
    }
    drop(listener);
    // Whoever has asked is answered; all of it takes no longer than one connection may.
    for connection in connections {
        let _ = connection.await;
    }
}

/// One request and its answer.
async fn converse(stream: Stream, port: Rc<Port>) {
    let is_near = stream.is_near();
    let service = service_fn(move |request| {
        let port = Rc::clone(&port);
        async move { Ok::<_, Infallible>(port.answer(request, is_near).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .header_read_timeout(None) // all of it has a time limit
        .max_buf_size(REQUEST_BYTES_MAX)
        .max_headers(HEADERS_COUNT_MAX)
        .serve_connection(Io(stream), service);
    // Who is too slow, too long or not speaking HTTP has only itself to tell.
    let _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await;
}

struct Port {
    process: Arc<Process>,
    ask_reload: AskReload,
}

impl Port {
    async fn answer(&self, request: Request<Incoming>, is_near: bool) -> Response<Text> {
        let path = request.uri().path();
        let allowed: &[Method] = match path {
            "/livez" | "/readyz" => &[Method::GET, Method::HEAD],
            "/reload" => &[Method::POST],
            _ => return told(StatusCode::NOT_FOUND, "GET /livez, GET /readyz, POST /reload"),
        };
        if !allowed.contains(request.method()) {
            let mut answer = told(StatusCode::METHOD_NOT_ALLOWED, "GET /livez, GET /readyz, POST /reload");
            let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
            if let Ok(names) = header::HeaderValue::from_str(&names.join(", ")) {
                answer.headers_mut().insert(header::ALLOW, names);
            }
            return answer;
        }
        let probes = self.process.probes();
        match path {
            "/livez" => verdict(probes.live()),
            "/readyz" => verdict(probes.ready()),
            // A page in somebody's browser on this machine is not somebody on this machine.
            _ if !is_near || request.headers().contains_key(header::ORIGIN) => {
                told(StatusCode::FORBIDDEN, "only for this machine")
            }
            _ => self.reload().await,
        }
    }

    async fn reload(&self) -> Response<Text> {
        let (tell, told_back) = oneshot::channel();
        (self.ask_reload)(tell);
        match told_back.await {
            Ok(Ok(text)) => told(StatusCode::OK, text),
            Ok(Err(faults)) => told(StatusCode::UNPROCESSABLE_ENTITY, faults),
            Err(_) => told(StatusCode::SERVICE_UNAVAILABLE, "the process is leaving"),
        }
    }
}

fn verdict(verdict: Result<(), String>) -> Response<Text> {
    match verdict {
        Ok(()) => told(StatusCode::OK, "ok"),
        Err(why) => told(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// A text with a line end.
fn told(status: StatusCode, text: impl Into<String>) -> Response<Text> {
    let mut text = text.into();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut answer = Response::new(Text(Some(text.into())));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}

/// The whole body of an answer.
struct Text(Option<Bytes>);

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

/// A socket as hyper wants to see it.
struct Io(Stream);

impl hyper::rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 1024];
        let room = buf.remaining().min(bytes.len());
        let mut read = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.get_mut().0).poll_read(cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
