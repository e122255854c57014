//! The herd: after an outage every instance comes back within a few minutes, each at an instant of its own, and again
//! when it was told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fleet::{Asked, Fleet};
use super::load::Request;
use super::outcome::{Fault, Outcome};
use super::{Arguments, show, tell};

/// What came of it.
#[derive(Default)]
struct Tally {
    /// From its due time to its answer, of each sync that was granted: the wait for a free connection counts.
    micros: Vec<u32>,
    /// Told to come again, with `Retry-After`.
    told: u64,
    errors: u64,
    first_error: Option<String>,
}

pub(crate) fn run(
    arguments: &Arguments,
    address: SocketAddr,
    fleet: &Arc<Fleet>,
    instances: usize,
    within: Duration,
) -> Outcome<()> {
    tell(&format!(
        "{instances} instances return within {} s, on {} connections",
        within.as_secs(),
        arguments.herd_connections
    ));
    let (next, tally) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Tally::default())));
    let request = fleet.syncs(Asked::EveryToken);
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..arguments.herd_connections {
            let (next, tally, request) = (Arc::clone(&next), Arc::clone(&tally), Arc::clone(&request));
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            running.spawn(async move {
                let (mut sending, mut received) = (Vec::new(), Vec::new());
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= instances {
                        return;
                    }
                    let due = began + within.mul_f64(turn as f64 / instances as f64);
                    tokio::time::sleep_until(due.into()).await;
                    come(&mut stream, address, &request, due, (&mut sending, &mut received), &tally).await;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.map_err(|_| Fault::new("a connection of the herd panicked"))?;
        }
        Outcome::Ok(())
    })?;
    let took = began.elapsed();
    let mut tally = std::mem::take(&mut *tally.lock().map_err(|_| Fault::new("a connection panicked"))?);
    tally.micros.sort_unstable();
    let at = |share: f64| {
        let index = ((tally.micros.len() as f64 * share) as usize).min(tally.micros.len().saturating_sub(1));
        f64::from(tally.micros.get(index).copied().unwrap_or_default()) / 1e3
    };
    show(&format!(
        "herd: {} of {instances} answered in {:.1} s ({:.0} per s); told to come again {} times; {} errors; p50 {:.1} ms, \
         p99 {:.1} ms, slowest {:.1} ms",
        tally.micros.len(),
        took.as_secs_f64(),
        tally.micros.len() as f64 / took.as_secs_f64(),
        tally.told,
        tally.errors,
        at(0.5),
        at(0.99),
        at(1.0),
    ));
    match tally.first_error {
        None => Ok(()),
        Some(error) => Err(Fault::new(format!("the first error: {error}"))),
    }
}

/// One instance, until it is granted.
async fn come(
    stream: &mut TcpStream,
    address: SocketAddr,
    request: &Request,
    due: Instant,
    (sending, received): (&mut Vec<u8>, &mut Vec<u8>),
    tally: &Mutex<Tally>,
) {
    sending.clear();
    request(sending);
    let mut attempts = 0;
    loop {
        let answer = exchange(stream, sending, received).await;
        attempts += 1;
        let lock = || tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match answer {
            Ok(Answer::Granted) => {
                lock().micros.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
                return;
            }
            Ok(Answer::ComeAgain(wait)) => {
                lock().told += 1;
                tokio::time::sleep(wait).await;
            }
            Err(error) => {
                fail(tally, error);
                match TcpStream::connect(address).await {
                    Ok(fresh) => *stream = fresh,
                    Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            }
        }
        if attempts > MOST_ATTEMPTS {
            fail(tally, "an instance was sent away too often".to_owned());
            return;
        }
    }
}

fn fail(tally: &Mutex<Tally>, error: String) {
    let mut tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    tally.errors += 1;
    tally.first_error.get_or_insert(error);
}

enum Answer {
    ComeAgain(Duration),
    Granted,
}

/// Sends one request and reads its whole answer. Anything but a grant, or a back-off that is told, is an error.
async fn exchange(stream: &mut TcpStream, request: &[u8], received: &mut Vec<u8>) -> Result<Answer, String> {
    stream.write_all(request).await.map_err(|error| format!("sending: {error}"))?;
    received.clear();
    loop {
        if stream.read_buf(received).await.map_err(|error| format!("receiving: {error}"))? == 0 {
            return Err("the server closed the connection".to_owned());
        }
        let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
        let member = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        let length = member("content-length:").ok_or_else(|| format!("no length in {head}"))?;
        if received.len() < end + 4 + usize::try_from(length).unwrap_or(usize::MAX) {
            continue;
        }
        if head.starts_with("http/1.1 200 ") {
            return Ok(Answer::Granted);
        }
        return match member("retry-after:") {
            Some(seconds) if head.starts_with("http/1.1 503 ") || head.starts_with("http/1.1 429 ") => {
                Ok(Answer::ComeAgain(Duration::from_secs(seconds)))
            }
            _ => Err(String::from_utf8_lossy(received).into_owned()),
        };
    }
}

const MOST_ATTEMPTS: u32 = 100;
