//! A closed loop of keep-alive HTTP/1.1 connections: each sends its next request when the last one is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::cpu::{CpuTime, Meter};
use super::outcome::{Fault, Outcome};

/// Writes one whole request, another one each time.
pub(crate) type Request = Arc<dyn Fn(&mut Vec<u8>) + Send + Sync>;

/// How a server is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Threads of this process that send and receive.
    pub(crate) threads: usize,
    /// Unmeasured time before the measured.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// Answers per second within the measured time.
    pub(crate) rate: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Spent by what the meter watches, per answer.
    pub(crate) cpu: CpuTime,
    /// Answers of status 200, in the unmeasured time too.
    pub(crate) answered: u64,
    /// Connections that ended in anything but such an answer.
    pub(crate) errors: u64,
    /// The first of those, as it came.
    pub(crate) first_error: Option<String>,
}

/// Loads `address` with what `request` writes, and measures.
pub(crate) fn run(address: SocketAddr, load: Load, request: &Request, meter: &Meter) -> Outcome<Loaded> {
    let phase = Arc::new(AtomicU8::new(WARMING));
    let (ready, mut connected) = mpsc::unbounded_channel();
    let threads: Vec<_> = (0..load.threads)
        .map(|index| {
            let share =
                load.connections / load.threads + usize::from(index < load.connections % load.threads);
            let (phase, request, ready) = (Arc::clone(&phase), Arc::clone(request), ready.clone());
            std::thread::spawn(move || connections(address, share, &phase, &request, ready))
        })
        .collect();
    drop(ready);
    while connected.blocking_recv().is_some() {}

    std::thread::sleep(load.warm_up);
    let (before, began) = (meter.read()?, Instant::now());
    phase.store(MEASURING, Ordering::Relaxed);
    std::thread::sleep(load.measured);
    phase.store(ENDING, Ordering::Relaxed);
    let (took, spent) = (began.elapsed(), meter.read()?.since(before));

    let mut all = Tally::default();
    for thread in threads {
        all.add(thread.join().map_err(|_| Fault::new("a thread of the load generator panicked"))??);
    }
    all.micros.sort_unstable();
    let measured = all.micros.len();
    let at = |share: f64| {
        let index = ((measured as f64 * share) as usize).min(measured.saturating_sub(1));
        Duration::from_micros(all.micros.get(index).copied().unwrap_or_default().into())
    };
    Ok(Loaded {
        rate: measured as f64 / took.as_secs_f64(),
        p50: at(0.50),
        p99: at(0.99),
        cpu: spent.per(measured),
        answered: all.answered,
        errors: all.errors,
        first_error: all.first_error,
    })
}

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

/// What some connections have seen.
#[derive(Debug, Default)]
struct Tally {
    /// Of each answer within the measured time.
    micros: Vec<u32>,
    answered: u64,
    errors: u64,
    first_error: Option<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.answered += other.answered;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// One thread and its share of the connections.
fn connections(
    address: SocketAddr,
    count: usize,
    phase: &Arc<AtomicU8>,
    request: &Request,
    ready: mpsc::UnboundedSender<()>,
) -> Outcome<Tally> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async move {
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        drop(ready);
        let running: Vec<_> = streams
            .into_iter()
            .map(|stream| tokio::spawn(converse(stream, Arc::clone(phase), Arc::clone(request))))
            .collect();
        let mut all = Tally::default();
        for one in running {
            all.add(one.await.map_err(|_| Fault::new("a connection panicked"))?);
        }
        Ok(all)
    })
}

/// One connection, until the measured time is over.
async fn converse(mut stream: TcpStream, phase: Arc<AtomicU8>, request: Request) -> Tally {
    let mut tally = Tally::default();
    let (mut sending, mut received) = (Vec::with_capacity(1024), Vec::with_capacity(16 * 1024));
    while phase.load(Ordering::Relaxed) != ENDING {
        sending.clear();
        request(&mut sending);
        let began = Instant::now();
        match exchange(&mut stream, &sending, &mut received).await {
            Ok(()) => {
                tally.answered += 1;
                if phase.load(Ordering::Relaxed) == MEASURING {
                    tally.micros.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            }
            Err(error) => {
                tally.errors += 1;
                tally.first_error = Some(error);
                break;
            }
        }
    }
    tally
}

/// Sends one request and reads its whole answer, which must be 200.
async fn exchange(stream: &mut TcpStream, request: &[u8], received: &mut Vec<u8>) -> Result<(), String> {
    stream.write_all(request).await.map_err(|error| format!("sending: {error}"))?;
    received.clear();
    let mut whole = None;
    loop {
        if stream.read_buf(received).await.map_err(|error| format!("receiving: {error}"))? == 0 {
            return Err("the server closed the connection".to_owned());
        }
        if whole.is_none() {
            whole = length(received)?;
        }
        if whole.is_some_and(|whole| received.len() >= whole) {
            break;
        }
    }
    if received.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(received).into_owned())
    }
}

/// The length of the whole answer, once its headers are there.
fn length(received: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    for line in received[..end].split(|byte| *byte == b'\n') {
        if line.len() > LENGTH.len() && line[..LENGTH.len()].eq_ignore_ascii_case(LENGTH) {
            let value = std::str::from_utf8(&line[LENGTH.len()..]).unwrap_or_default().trim();
            let body: usize = value.parse().map_err(|_| "an unreadable Content-Length".to_owned())?;
            return Ok(Some(end + 4 + body));
        }
    }
    Err("an answer without Content-Length".to_owned())
}

const LENGTH: &[u8] = b"content-length:";
