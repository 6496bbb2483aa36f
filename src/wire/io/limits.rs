//! What keeps one peer from taking a port from the others: it has a number of connections at a time, and of new ones a second. Each connection has an
//! end: one whose peer is gone without a word would keep its place for ever.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// The most connections of one address at a time.
const OPEN_OF_ONE: usize = 32;
/// The most of all addresses.
const OPEN_OF_ALL: usize = 1024;
/// The most new connections of one address in a second. A kubelet makes two, an HAProxy pod five.
const NEW_OF_ONE: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// The limits of one port.
#[derive(Clone)]
pub struct Limits {
    places: Arc<Mutex<HashMap<IpAddr, Peer>>>,
    longest: Duration,
    /// A connection that is used goes on.
    while_used: bool,
}

struct Peer {
    open: usize,
    /// Since when `new` is counted.
    since: Instant,
    new: u32,
}

impl Limits {
    /// A connection ends after this time.
    #[must_use]
    pub fn with_an_end(longest: Duration) -> Self {
        Self {
            places: Arc::default(),
            longest,
            while_used: false,
        }
    }

    /// A connection ends when nothing was read from it or written to it for this time.
    #[must_use]
    pub fn while_used(longest_pause: Duration) -> Self {
        Self {
            while_used: true,
            ..Self::with_an_end(longest_pause)
        }
    }

    /// A place for a connection, if there is one.
    fn place(&self, peer: IpAddr, now: Instant) -> Option<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has been quiet for a second is forgotten.
        places.retain(|_, peer| peer.open > 0 || now.duration_since(peer.since) < SECOND);
        let all: usize = places.values().map(|peer| peer.open).sum();
        let its = places.entry(peer).or_insert(Peer {
            open: 0,
            since: now,
            new: 0,
        });
        if now.duration_since(its.since) >= SECOND {
            (its.since, its.new) = (now, 0);
        }
        if all >= OPEN_OF_ALL || its.open >= OPEN_OF_ONE || its.new >= NEW_OF_ONE {
            return None;
        }
        its.open += 1;
        its.new += 1;
        Some(Place {
            places: Arc::clone(&self.places),
            peer,
        })
    }
}

/// A place of a peer, until it is dropped.
struct Place {
    places: Arc<Mutex<HashMap<IpAddr, Peer>>>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = places.get_mut(&self.peer) {
            peer.open = peer.open.saturating_sub(1);
        }
    }
}

impl<S> Accept<TcpStream, S> for Limits {
    type Stream = Limited;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let limited = stream.peer_addr().and_then(|peer| {
            let place = self.place(peer.ip().to_canonical(), Instant::now());
            let place = place.ok_or_else(|| io::Error::other("it has its share of connections"))?;
            Ok(Limited {
                stream,
                end: Box::pin(sleep(self.longest)),
                pause: self.while_used.then_some(self.longest),
                _place: place,
            })
        });
        ready(limited.map(|stream| (stream, service)))
    }
}

/// A connection that has its place.
pub struct Limited {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    /// From each use on it has this time again.
    pause: Option<Duration>,
    _place: Place,
}

impl Limited {
    fn is_at_its_end(&mut self, context: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(context).is_ready()
    }

    fn used<T>(&mut self, use_: Poll<T>) -> Poll<T> {
        if let (Some(pause), true) = (self.pause, use_.is_ready()) {
            self.end.as_mut().reset(tokio::time::Instant::now() + pause);
        }
        use_
    }
}

impl AsyncRead for Limited {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.is_at_its_end(context) {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => {
                let read = Pin::new(&mut self.stream).poll_read(context, into);
                self.used(read)
            }
        }
    }
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.is_at_its_end(context) {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => {
                let written = Pin::new(&mut self.stream).poll_write(context, bytes);
                self.used(written)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    const FLOOD: &str = "127.0.0.9";

    #[test]
    fn a_peer_has_its_share_and_gets_it_again() {
        let (limits, now) = (Limits::with_an_end(SECOND), Instant::now());
        let (one, other): (IpAddr, IpAddr) = (FLOOD.parse().unwrap(), "127.0.0.8".parse().unwrap());
        let held: Vec<Place> = (0..OPEN_OF_ONE).map_while(|_| limits.place(one, now)).collect();
        assert_eq!(held.len(), OPEN_OF_ONE);
        assert!(limits.place(one, now).is_none() && limits.place(other, now).is_some());
        drop(held);
        // One after the other, until the second is over.
        let more = (0..).take_while(|_| limits.place(one, now).is_some()).count();
        assert_eq!(u32::try_from(OPEN_OF_ONE + more).unwrap(), NEW_OF_ONE);
        assert!(limits.place(one, now + SECOND).is_some());
        assert!(limits.places.lock().unwrap().len() <= 2);
        let _gone = limits.place(other, now + 3 * SECOND);
        assert_eq!(limits.places.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn connections_that_say_nothing_end_and_keep_nobody_out() {
        let pause = Duration::from_millis(500);
        for limits in [Limits::with_an_end(pause), Limits::while_used(pause)] {
            flood(limits).await;
        }
    }

    async fn flood(limits: Limits) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = axum_server::from_tcp(listener).unwrap().acceptor(limits);
        let routes = Router::new().route("/", get(async || "here"));
        tokio::spawn(server.serve(routes.into_make_service()));
        let from = async |source: &str| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
            socket.connect(address).await.unwrap()
        };
        let mut idle = Vec::new();
        for _ in 0..2 * OPEN_OF_ONE {
            idle.push(from(FLOOD).await);
        }
        let mut conn = from("127.0.0.1").await;
        conn.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        conn.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"),
            "{answer}"
        );
        for conn in &mut idle {
            // Closed, or reset where it had no place.
            let read = conn.read(&mut [0]).await;
            assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        }
    }
}
