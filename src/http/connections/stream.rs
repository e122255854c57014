//! One connection, which ends when its client takes too long: to say anything, to say all of it, or to listen.
//!
//! The HTTP server limits the time of a connection's first head alone. What is counted here is simpler and holds for
//! everything: from the first byte that is read after the last one that was written, a client is owed an answer.
//! Either it has sent so much that an answer could be given within its time, or it has kept a steady pace; and what it
//! is answered, it takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::doors::Place;

/// How long a client may be silent where it should speak, or deaf where it should listen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(pub(super) Duration);

pub(super) enum Transport {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// A client's connection.
pub(crate) struct Connection {
    transport: Transport,
    patience: Patience,
    /// Runs while a request is coming, and while nothing has come at all.
    reading: Option<Reading>,
    /// Runs while what is answered is not taken.
    writing: Option<Pin<Box<Sleep>>>,
    /// Whether it has ever said anything.
    is_new: bool,
    stopping: Pin<Box<dyn Future<Output = ()>>>,
    _place: Place,
}

/// A request on its way.
struct Reading {
    since: Instant,
    bytes: u64,
    timer: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn new(
        transport: Transport,
        place: Place,
        patience: Patience,
        stopping: Pin<Box<dyn Future<Output = ()>>>,
    ) -> Self {
        Self { transport, patience, reading: None, writing: None, is_new: true, stopping, _place: place }
    }

    /// Counts what came, and ends the connection of a client that takes too long.
    fn judge(&mut self, came: usize, context: &mut Context<'_>) -> io::Result<()> {
        let patience = self.patience.0;
        let reading = self.reading.get_or_insert_with(|| Reading {
            since: Instant::now(),
            bytes: 0,
            timer: Box::pin(sleep(patience)),
        });
        reading.bytes += came as u64;
        while reading.timer.as_mut().poll(context).is_ready() {
            let pace = reading.since.elapsed().as_secs() * LEAST_PER_SECOND;
            if reading.bytes < pace.max(1) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            reading.timer.as_mut().reset(Instant::now() + patience);
        }
        Ok(())
    }

    /// Waits for a client to take its answer, for as long as that may take.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let patience = self.patience.0;
        let timer = self.writing.get_or_insert_with(|| Box::pin(sleep(patience)));
        timer.as_mut().poll(context).map(|()| io::ErrorKind::TimedOut.into())
    }

    fn wrote(&mut self, outcome: &Poll<io::Result<usize>>) {
        if matches!(outcome, Poll::Ready(Ok(1..))) {
            self.writing = None;
            self.reading = None;
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        match outcome {
            Poll::Ready(Ok(())) => {
                let came = buffer.filled().len() - before;
                if came > 0 {
                    this.is_new = false;
                    this.judge(came, context)?;
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                // A spare connection that was never used has nothing to lose.
                if this.is_new && this.stopping.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                // Between two requests it may rest: that time is the server's to limit.
                if this.is_new || this.reading.is_some() {
                    this.judge(0, context)?;
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        this.wrote(&outcome);
        if outcome.is_pending() {
            return Poll::Ready(Err(ready!(this.wait(context))));
        }
        outcome
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Secure(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        };
        this.wrote(&outcome);
        if outcome.is_pending() {
            return Poll::Ready(Err(ready!(this.wait(context))));
        }
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Secure(stream) => Pin::new(stream).poll_flush(context),
        };
        if outcome.is_pending() {
            return Poll::Ready(Err(ready!(this.wait(context))));
        }
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        };
        if outcome.is_pending() {
            return Poll::Ready(Err(ready!(this.wait(context))));
        }
        outcome
    }
}

/// Slower than any line that an instance has: what comes more slowly is held back on purpose.
const LEAST_PER_SECOND: u64 = 512;
