//! Connections: accept, TLS, HTTP, and a graceful end.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, warn};

use super::{Edge, dispatch};

/// Most connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// How long a client may take for a TLS handshake or the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take once the end was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after an accept failed for want of resources, for which the kernel sends no event.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets requests under way finish for up to ten seconds.
///
/// Operations run in tasks of their own: a client that goes away does not cut one short, and one that panics answers 500.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, edge: Arc<Edge>, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else { break };
        let connection = Connection { edge: Arc::clone(&edge), tasks: tasks.clone(), shutdown: shutdown.clone() };
        let tls = tls.clone();
        tasks.spawn(
            async move {
                connection.run(stream, tls).await;
                drop(slot);
            }
            .instrument(tracing::debug_span!("api connection")),
        );
    }
    drop(listener);
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        warn!(seconds = GRACE.as_secs(), open = tasks.len(), "connections are cut: they did not end in time");
    }
}

/// The next connection, once there is room for it. `None` when the semaphore is closed, which nobody does.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, slot)),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept connections for the moment; are there too many open files?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

struct Connection {
    edge: Arc<Edge>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Small answers must not wait for the client's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "the connection is gone already");
            return;
        }
        let Some(tls) = tls else { return self.http(stream).await };
        match timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream).await,
            Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
            Err(_) => debug!("TLS handshake took too long"),
        }
    }

    async fn http(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Connection { edge, tasks, shutdown } = self;
        let service = service_fn(move |request| {
            let (edge, tasks) = (Arc::clone(&edge), tasks.clone());
            async move { Ok::<_, Infallible>(dispatch::answer(edge, &tasks, request).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100).keep_alive_interval(HEAD_TIMEOUT);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            debug!(%error, "connection ended early");
        }
    }
}
