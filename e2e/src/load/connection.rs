//! The client's side of HTTP/1.1 (RFC 9112), as far as a server may use it towards a GET.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest head and longest chunk accepted, in bytes.
const LIMIT: usize = 1 << 20;

/// Why a request got no whole answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// No connection came about.
    Connect(io::Error),
    /// Closed before any byte of an answer; an error when it was reset, none when it was closed in order.
    Unanswered(Option<io::Error>),
    /// Ended within an answer.
    Cut(Option<io::Error>),
    /// What came is no HTTP/1.1.
    Malformed(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = |error: &Option<io::Error>| error.as_ref().map_or("closed".to_owned(), ToString::to_string);
        match self {
            Self::Connect(error) => write!(f, "connecting: {error}"),
            Self::Unanswered(error) => write!(f, "before any byte of an answer: {}", how(error)),
            Self::Cut(error) => write!(f, "within an answer: {}", how(error)),
            Self::Malformed(what) => write!(f, "not HTTP/1.1: {what}"),
        }
    }
}

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The connection may be used again after this answer.
    pub(super) keeps: bool,
    framing: Framing,
}

/// One connection and what was received on it but not yet consumed.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// It has carried a whole answer before.
    pub(super) reused: bool,
}

impl Connection {
    pub(super) async fn open(target: SocketAddr) -> Result<Self, Fault> {
        let stream = TcpStream::connect(target).await.map_err(Fault::Connect)?;
        stream.set_nodelay(true).map_err(Fault::Connect)?;
        Ok(Self { stream, received: Vec::new(), reused: false })
    }

    /// The address this side has, to find the connection in a trace.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    /// Sends a GET.
    pub(super) async fn send(&mut self, path: &str, host: &str, keep: bool) -> Result<(), Fault> {
        let close = if keep { "" } else { "Connection: close\r\n" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n{close}\r\n");
        // Nothing asked for can have been answered before, so what is here would belong to no request.
        if !self.received.is_empty() {
            return Err(Fault::Malformed("bytes that nobody asked for".to_owned()));
        }
        self.stream.write_all(request.as_bytes()).await.map_err(|error| Fault::Unanswered(Some(error)))
    }

    /// Reads a head; interim answers (1xx) are skipped.
    pub(super) async fn head(&mut self) -> Result<Head, Fault> {
        loop {
            let end = loop {
                if let Some(end) = find(&self.received, b"\r\n\r\n") {
                    break end;
                }
                if self.received.len() > LIMIT {
                    return Err(Fault::Malformed("a head without end".to_owned()));
                }
                let unanswered = self.received.is_empty();
                match self.fill().await {
                    Ok(0) if unanswered => return Err(Fault::Unanswered(None)),
                    Ok(0) => return Err(Fault::Cut(None)),
                    Ok(_) => {}
                    Err(error) if unanswered => return Err(Fault::Unanswered(Some(error))),
                    Err(error) => return Err(Fault::Cut(Some(error))),
                }
            };
            let text = String::from_utf8_lossy(&self.received[..end]).into_owned();
            self.received.drain(..end + 4);
            let head = parse_head(&text)?;
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    /// Reads the whole body.
    pub(super) async fn body(&mut self, head: Head) -> Result<Vec<u8>, Fault> {
        match head.framing {
            Framing::Length(length) => self.take(length).await,
            Framing::Chunked => {
                let mut body = Vec::new();
                while let Some(chunk) = self.chunk().await? {
                    body.extend(chunk);
                }
                Ok(body)
            }
            Framing::UntilClosed => {
                while self.fill().await.map_err(|error| Fault::Cut(Some(error)))? > 0 {}
                Ok(std::mem::take(&mut self.received))
            }
        }
    }

    /// Reads a chunk; none is the last one, trailers included.
    pub(super) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let line = self.line().await?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16)
            .ok()
            .filter(|size| *size <= LIMIT)
            .ok_or_else(|| Fault::Malformed(format!("a chunk of size {digits:?}")))?;
        if size == 0 {
            while !self.line().await?.is_empty() {}
            return Ok(None);
        }
        let chunk = self.take(size).await?;
        if !self.line().await?.is_empty() {
            return Err(Fault::Malformed("a chunk longer than it says".to_owned()));
        }
        Ok(Some(chunk))
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(end) = find(&self.received, b"\r\n") {
                let line = String::from_utf8_lossy(&self.received[..end]).into_owned();
                self.received.drain(..end + 2);
                return Ok(line);
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Fault> {
        while self.received.len() < length {
            self.more().await?;
        }
        let rest = self.received.split_off(length);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    async fn more(&mut self) -> Result<(), Fault> {
        match self.fill().await {
            Ok(0) => Err(Fault::Cut(None)),
            Ok(_) if self.received.len() > 2 * LIMIT => {
                Err(Fault::Malformed("an answer too long".to_owned()))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::Cut(Some(error))),
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.received.reserve(4096);
        self.stream.read_buf(&mut self.received).await
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse_head(text: &str) -> Result<Head, Fault> {
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let malformed = || Fault::Malformed(format!("{first:?} as a status line"));
    let rest = first.strip_prefix("HTTP/1.1 ").ok_or_else(malformed)?;
    let status: u16 = rest.get(..3).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;

    let (mut length, mut chunked, mut keeps) = (None, false, true);
    for line in lines {
        let (name, value) =
            line.split_once(':').ok_or_else(|| Fault::Malformed(format!("{line:?} as a header")))?;
        let has = |word: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let parsed = value.trim().parse().ok().filter(|length| *length <= LIMIT);
                length = Some(parsed.ok_or_else(|| Fault::Malformed(format!("a length of {value:?}")))?);
            }
            "transfer-encoding" => chunked = has("chunked"),
            "connection" => keeps = !has("close"),
            _ => {}
        }
    }
    // RFC 9112 6.3: an interim answer, 204 and 304 have no body; chunked beats a length.
    let framing = match length {
        _ if status < 200 || status == 204 || status == 304 => Framing::Length(0),
        _ if chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClosed,
    };
    Ok(Head { status, keeps: keeps && framing != Framing::UntilClosed, framing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_how_the_body_ends() {
        let head = parse_head("HTTP/1.1 200 OK\r\ncontent-length: 12\r\nx: y").unwrap();
        assert_eq!((head.status, head.keeps, head.framing), (200, true, Framing::Length(12)));
        let head = parse_head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3").unwrap();
        assert_eq!(head.framing, Framing::Chunked);
        let head = parse_head("HTTP/1.1 503 Oops\r\nConnection: Close\r\nContent-Length: 3").unwrap();
        assert!(!head.keeps);
        assert!(!parse_head("HTTP/1.1 200 OK").unwrap().keeps, "it ends with the connection");
        assert_eq!(parse_head("HTTP/1.1 100 Continue").unwrap().framing, Framing::Length(0));
    }

    #[test]
    fn what_is_no_http_is_refused() {
        for text in ["", "HTTP/2 200 OK", "HTTP/1.1 abc", "HTTP/1.1 200 OK\r\nno colon"] {
            assert!(parse_head(text).is_err(), "{text:?}");
        }
        assert!(parse_head("HTTP/1.1 200 OK\r\ncontent-length: -1").is_err());
    }
}
