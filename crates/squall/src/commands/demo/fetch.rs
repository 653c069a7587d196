//! `squall fetch URL`, hidden: what the demo asks a service from within a host, where no other program
//! for it need be installed.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that are read, at most.
const MAX_BODY: u64 = 4 * 1024 * 1024;

/// Prints the body of a plain HTTP answer.
pub fn main(url: &str) -> ExitCode {
    match fetch(url).and_then(|body| io::stdout().write_all(&body)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its caller reads the exit code; this line is for a person who typed it.
            let _ = writeln!(io::stderr(), "squall fetch {url}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fetch(url: &str) -> io::Result<Vec<u8>> {
    let rest = url.strip_prefix("http://").ok_or_else(|| io::Error::other("not http://"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = authority
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other(format!("{authority} has no address")))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer ends with the connection, and nothing comes in chunks.
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_BODY).read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("no HTTP answer"))?;
    Ok(answer.split_off(end + 4))
}
