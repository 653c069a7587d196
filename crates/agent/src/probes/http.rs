//! One GET and its whole answer: one request a connection needs no client library, only a parser.

use std::sync::Arc;

use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::sample::{connect, host_and_port};

/// Bytes of an answer's head, at most.
const MAX_HEAD: usize = 16 * 1024;
/// Fields of an answer's head, at most.
const MAX_FIELDS: usize = 256;
/// Interim answers (1xx) before the one that counts, at most.
const MAX_INTERIM: usize = 8;
/// Bytes of an answer's body that are waited for: of a longer one, or one without an end, the first.
const MAX_BODY: u64 = 1024 * 1024;

/// The status of a GET, once its answer has come to its end. HTTP/1.1 with `Connection: close`. Redirects
/// are answers like any other.
pub(super) async fn get(url: &str, lookups: &Arc<Semaphore>) -> Result<u16, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is not http://"))?;
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let slash = if path.starts_with('/') { "" } else { "/" };
    let (host, port) = host_and_port(authority, Some(80))?;
    let mut stream = connect(host, port, lookups).await?;
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: squall-probe\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = Answer { stream, read: Vec::new() };
    for _ in 0..MAX_INTERIM {
        let (status, body) = answer.head().await?;
        if status >= 200 {
            answer.body(body).await?;
            return Ok(status);
        }
    }
    Err("only interim answers".to_owned())
}

/// Where a body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    Close,
}

struct Answer {
    stream: TcpStream,
    /// Bytes that came and are not dealt with.
    read: Vec<u8>,
}

impl Answer {
    /// Reads more; false at the end.
    async fn more(&mut self) -> Result<bool, String> {
        let mut more = [0; 4096];
        let n = self.stream.read(&mut more).await.map_err(|e| e.to_string())?;
        self.read.extend_from_slice(&more[..n]);
        Ok(n > 0)
    }

    /// Takes one head off what comes.
    async fn head(&mut self) -> Result<(u16, Body), String> {
        loop {
            if let Some((end, status, body)) = parse_head(&self.read)? {
                self.read.drain(..end);
                return Ok((status, body));
            }
            if self.read.len() >= MAX_HEAD {
                return Err(format!("the answer's head is over {MAX_HEAD} bytes"));
            }
            if !self.more().await? {
                let empty = self.read.is_empty();
                let what = if empty { "without" } else { "in the middle of" };
                return Err(format!("closed {what} an answer"));
            }
        }
    }

    /// Takes the body off what comes, up to [`MAX_BODY`].
    async fn body(&mut self, body: Body) -> Result<(), String> {
        match body {
            Body::Length(length) => self.skip(length.min(MAX_BODY)).await,
            Body::Close => {
                let mut left = MAX_BODY;
                loop {
                    left = left.saturating_sub(self.read.len() as u64);
                    self.read.clear();
                    if left == 0 || !self.more().await? {
                        return Ok(());
                    }
                }
            }
            Body::Chunked => {
                let mut left = MAX_BODY;
                while left > 0 {
                    let (line, size) = self.chunk().await?;
                    if size == 0 {
                        break;
                    }
                    left = left.saturating_sub(line);
                    // With the end of its line.
                    let whole = size.saturating_add(2);
                    self.skip(whole.min(left)).await?;
                    left = left.saturating_sub(whole);
                }
                Ok(())
            }
        }
    }

    /// Takes the line before a chunk off what comes: its length, and that of the chunk.
    async fn chunk(&mut self) -> Result<(u64, u64), String> {
        loop {
            match parse_chunk_size(&self.read) {
                Ok(Status::Complete((end, size))) => {
                    self.read.drain(..end);
                    return Ok((end as u64, size));
                }
                Ok(Status::Partial) if self.read.len() < MAX_HEAD => {}
                Ok(Status::Partial) | Err(_) => return Err("its body is badly chunked".to_owned()),
            }
            if !self.more().await? {
                return Err("closed in the middle of its body".to_owned());
            }
        }
    }

    async fn skip(&mut self, bytes: u64) -> Result<(), String> {
        let mut left = bytes;
        loop {
            let here = self.read.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.read.drain(..here);
            left -= here as u64;
            if left == 0 {
                return Ok(());
            }
            if !self.more().await? {
                return Err("closed in the middle of its body".to_owned());
            }
        }
    }
}

/// Where a head ends, its status, and where its body ends; none where there is more to come.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, u16, Body)>, String> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut response = Response::new(&mut fields);
    let end = match response.parse(bytes) {
        Ok(Status::Complete(end)) => end,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => {
            let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
            let line: String = String::from_utf8_lossy(line).chars().take(40).collect();
            return Err(match error {
                httparse::Error::TooManyHeaders => format!("its head has over {MAX_FIELDS} fields"),
                error => format!("not HTTP: {error}: `{line}`"),
            });
        }
    };
    let status = response.code.unwrap_or_default();
    let field = |name: &str| {
        let field = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        field.map(|h| String::from_utf8_lossy(h.value).trim().to_ascii_lowercase())
    };
    let body = if status < 200 || matches!(status, 204 | 304) {
        Body::Length(0)
    } else if let Some(coding) = field("transfer-encoding") {
        if coding.ends_with("chunked") { Body::Chunked } else { Body::Close }
    } else if let Some(length) = field("content-length") {
        let length = length.parse().map_err(|_| format!("content-length `{length}`"))?;
        Body::Length(length)
    } else {
        Body::Close
    };
    Ok(Some((end, status, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_has_a_status() {
        let status = |head: &[u8]| parse_head(head).map(|found| found.map(|(_, status, _)| status));
        assert_eq!(status(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n"), Ok(Some(200)));
        assert_eq!(status(b"HTTP/1.1 503\r\n\r\n"), Ok(Some(503)));
        assert_eq!(status(b"HTTP/1.1 503\r\nA"), Ok(None));
        for bad in
            [&b"HTTP/2 200 OK\r\n"[..], b"SSH-2.0 x\r\n", b"GET / x\r\n", b"HTTP/1.1 20 x\r\n"]
        {
            assert!(status(bad).is_err());
        }
    }
}
