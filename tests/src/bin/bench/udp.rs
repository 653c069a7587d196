//! Raw UDP echo: one socket sends a datagram to each client, each sends one back. No loss is
//! expected on loopback; what is lost is sent again and counted.

use std::io::{self, BufRead, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use squall_wire::transport::marked_udp;
use tokio::runtime::Handle;

use crate::child::Child;
use crate::{ANSWER, Outcome, PUSH};

/// After so long without an answer what is missing is sent again.
const AGAIN: Duration = Duration::from_millis(50);

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// The server and its clients.
pub struct Udp(Child);

impl Udp {
    /// Starts `n` clients in `runtime`.
    pub fn start(runtime: &Handle, n: usize) -> Outcome<Udp> {
        let mut server = Child::serve(&["udp"])?;
        let _inside = runtime.enter();
        for _ in 0..n {
            let socket = tokio::net::UdpSocket::from_std(marked_udp(loopback(), None)?)?;
            server.say(&socket.local_addr()?.to_string())?;
            runtime.spawn(echo(socket));
        }
        server.say("")?;
        server.hear()?;
        Ok(Udp(server))
    }

    /// One round; returns how many datagrams were lost.
    pub fn round(&mut self) -> Outcome<u64> {
        self.0.say("go")?;
        Ok(self.0.hear()?.parse()?)
    }
}

async fn echo(socket: tokio::net::UdpSocket) {
    let mut buffer = [0; PUSH];
    while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
        let _ = socket.send_to(&buffer[..ANSWER], from).await;
    }
}

/// The server: addresses, an empty line, then rounds.
pub fn serve() -> Outcome<()> {
    let socket = marked_udp(loopback(), None)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(AGAIN))?;
    let mut clients: Vec<SocketAddr> = Vec::new();
    let mut round = 0;
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            "" => say("ready")?,
            "go" => {
                round += 1;
                say(&ask_all(&socket, &clients, round)?.to_string())?;
            }
            address => clients.push(address.parse()?),
        }
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Sends to all, then hears all.
fn ask_all(socket: &UdpSocket, clients: &[SocketAddr], round: u32) -> io::Result<u64> {
    let mut missing = vec![true; clients.len()];
    let mut left = clients.len();
    let mut buffer = [0; PUSH];
    buffer[..4].copy_from_slice(&round.to_be_bytes());
    let (mut sent, mut tries) = (0, 0);
    while left > 0 {
        tries += 1;
        for (n, client) in clients.iter().enumerate().filter(|(n, _)| missing[*n]) {
            let number = u32::try_from(n).expect("a few thousand clients");
            buffer[4..8].copy_from_slice(&number.to_be_bytes());
            socket.send_to(&buffer, client)?;
            sent += 1;
        }
        while left > 0 {
            let mut answer = [0; PUSH];
            match socket.recv_from(&mut answer) {
                Ok(_) if answer[..4] == round.to_be_bytes() => {}
                Ok(_) => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
            let number = u32::from_be_bytes(answer[4..8].try_into().expect("four bytes"));
            if let Some(missing) = missing.get_mut(number as usize)
                && std::mem::take(missing)
            {
                left -= 1;
            }
        }
        if tries > 100 {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(sent - clients.len() as u64)
}
