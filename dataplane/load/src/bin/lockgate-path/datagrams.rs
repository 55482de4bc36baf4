//! Datagrams at a rate, and how many of them arrive.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use serde_json::{Value, json};

/// Datagrams the sender may be behind its schedule; a pause longer than that moves the schedule
/// instead of ending in a burst.
const BEHIND: u64 = 64;
const PAUSE: Duration = Duration::from_micros(50);
/// The counter's own queue must not be what overflows.
const BUFFER: usize = 32 << 20;
/// Waiting for the first datagram, and for one more.
const FIRST: Duration = Duration::from_secs(10);
const NEXT: Duration = Duration::from_millis(300);

/// Returns how many were sent and the seconds it took; slower than `rate` when that cannot be reached.
pub fn send(to: SocketAddr, size: usize, rate: u64, count: u64) -> io::Result<Value> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let payload = vec![0x5a; size];
    let begun = Instant::now();
    let (mut schedule, mut sent, mut refused) = (begun, 0, 0u64);
    while sent < count {
        let now = Instant::now();
        let due = (now.duration_since(schedule).as_secs_f64() * rate as f64) as u64;
        if due > sent + BEHIND {
            let behind = Duration::from_secs_f64((due - sent - BEHIND) as f64 / rate as f64);
            schedule += behind;
        }
        let until = due.min(sent + BEHIND).min(count);
        if until == sent {
            std::thread::sleep(PAUSE);
        }
        for _ in sent..until {
            // A datagram that is not taken, or an answer that nobody listens, is a loss to be counted.
            refused += u64::from(socket.send(&payload).is_err());
        }
        sent = until;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({"sent": sent, "refused": refused, "seconds": seconds}))
}

/// Returns how many arrived: all, or those before a pause.
pub fn count(at: SocketAddr, count: u64) -> io::Result<Value> {
    let socket = UdpSocket::bind(at)?;
    if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    }
    println!("ready");
    io::stdout().flush()?;
    count_on(&socket, count)
}

fn count_on(socket: &UdpSocket, count: u64) -> io::Result<Value> {
    socket.set_read_timeout(Some(FIRST))?;
    let (mut received, mut block) = (0, [0; 65_536]);
    while received < count {
        match socket.recv(&mut block) {
            Ok(_) => {
                if received == 0 {
                    socket.set_read_timeout(Some(NEXT))?;
                }
                received += 1;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(json!({"received": received}))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn what_is_sent_at_a_rate_is_counted_to_its_end() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let report = send(at, 64, 1_000, 200).unwrap();
        assert_eq!(
            (&report["sent"], &report["refused"]),
            (&json!(200), &json!(0))
        );
        assert!(report["seconds"].as_f64().unwrap() > 0.19);
        assert_eq!(count_on(&socket, 150).unwrap()["received"], 150);
        assert_eq!(count_on(&socket, 51).unwrap()["received"], 50);
    }
}
