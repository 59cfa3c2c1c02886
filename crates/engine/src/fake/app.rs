//! The application in the fake guest: a small HTTP/1.1 server with a counter and hooks.

use std::{future::pending, io};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::{
    guest::Guest,
    script::{Answer, hook},
};

/// Where the platform calls the application (spec 5.5).
const HOOK_PATH: &str = "/aws/lambda-microvms/runtime/v1/";

/// The longest request line and headers together.
const MAX_HEAD_BYTES: u64 = 64 << 10;

/// What matters of a request.
struct Request {
    method: String,
    path: String,
    body: Body,
    /// The client waits for `100 Continue` before it sends the body.
    expects_continue: bool,
    keep_alive: bool,
}

/// How the body's end is known.
enum Body {
    Length(u64),
    Chunked,
}

/// Serves one connection until the client ends it, or what comes is not HTTP/1.
pub(super) async fn serve(guest: &Guest, stream: impl tokio::io::AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(head) = read_head(&mut stream).await? else {
            return Ok(());
        };
        let Some(request) = parse(&head) else {
            stream.write_all(&response(400, "{\"message\": \"bad request\"}", true, false)).await?;
            return stream.shutdown().await;
        };
        if request.expects_continue {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        discard(&mut stream, &request.body).await?;
        let (status, body) = answer(guest, &request).await?;
        let with_body = request.method != "HEAD";
        stream.write_all(&response(status, &body, with_body, request.keep_alive)).await?;
        stream.flush().await?;
        if !request.keep_alive {
            return stream.shutdown().await;
        }
    }
}

/// The status and body for a request; an error closes the connection.
async fn answer(guest: &Guest, request: &Request) -> io::Result<(u16, String)> {
    let path = request.path.split('?').next().unwrap_or_default();
    let script = guest.script();
    if let Some(hook) = path.strip_prefix(HOOK_PATH).and_then(hook) {
        if request.method != "POST" {
            return Ok((405, "{\"message\": \"hooks are called with POST\"}".into()));
        }
        tokio::time::sleep(script.hook_delay).await;
        return match guest.call_hook(hook) {
            Answer::Status(status) => Ok((status, "{}".into())),
            Answer::Never => pending().await,
            Answer::Close => Err(io::ErrorKind::ConnectionAborted.into()),
        };
    }
    tokio::time::sleep(script.delay).await;
    let (count, uptime) = guest.count_request();
    let seconds = uptime.as_secs_f64();
    let body = format!("{{\"requests_served\": {count}, \"uptime_seconds\": {seconds:.3}, \"pid\": 1}}");
    Ok((script.app_status.unwrap_or(200), body))
}

fn response(status: u16, body: &str, with_body: bool, keep_alive: bool) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    };
    // These two have no body by definition.
    let body = if matches!(status, 204 | 304) { "" } else { body };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n{length}connection: {connection}\r\n\r\n"
    );
    if with_body {
        bytes.push_str(body);
    }
    bytes.into_bytes()
}

/// Request line and headers up to the empty line; `None` when the client ended between requests.
async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut head = String::new();
    let mut limited = stream.take(MAX_HEAD_BYTES);
    loop {
        let start = head.len();
        if limited.read_line(&mut head).await? == 0 {
            let clean = head.is_empty() && limited.limit() > 0;
            return if clean { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if head[start..].trim_end().is_empty() {
            if start > 0 {
                return Ok(Some(head));
            }
            head.clear(); // an empty line before a request is ignored (RFC 9112, 2.2)
        }
    }
}

fn parse(head: &str) -> Option<Request> {
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        body: Body::Length(0),
        expects_continue: false,
        keep_alive: match version {
            "HTTP/1.1" => true,
            "HTTP/1.0" => false,
            _ => return None,
        },
    };
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" if matches!(request.body, Body::Length(_)) => {
                request.body = Body::Length(value.parse().ok()?);
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => request.body = Body::Chunked,
            "transfer-encoding" => return None,
            "expect" => request.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            "connection" if value.eq_ignore_ascii_case("close") => request.keep_alive = false,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => request.keep_alive = true,
            _ => {}
        }
    }
    Some(request)
}

/// Reads a body to its end.
async fn discard(stream: &mut (impl AsyncBufRead + Unpin), body: &Body) -> io::Result<()> {
    match body {
        Body::Length(bytes) => skip(stream, *bytes).await,
        Body::Chunked => loop {
            let line = read_line(stream).await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            if size == 0 {
                while !read_line(stream).await?.trim_end().is_empty() {} // trailers
                return Ok(());
            }
            skip(stream, size).await?;
            read_line(stream).await?;
        },
    }
}

async fn skip(stream: &mut (impl AsyncBufRead + Unpin), bytes: u64) -> io::Result<()> {
    let skipped = tokio::io::copy(&mut stream.take(bytes), &mut tokio::io::sink()).await?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// One bounded line; the end of the stream is an error.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = String::new();
    stream.take(MAX_HEAD_BYTES).read_line(&mut line).await?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// Sends `bytes` and ends; what the application answers.
    async fn exchange(guest: &Guest, bytes: &[u8]) -> String {
        let (mut client, server) = duplex(1 << 20);
        client.write_all(bytes).await.expect("fits");
        client.shutdown().await.expect("ends");
        let _ = serve(guest, server).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("text");
        answer
    }

    #[tokio::test]
    async fn requests_on_one_connection_are_counted() {
        let guest = Guest::started(&[]);
        let answer = exchange(
            &guest,
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n\
              POST /any?q HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc\
              POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\ntrailer: 1\r\n\r\n\
              GET / HTTP/1.1\r\nconnection: close\r\n\r\n\
              GET /never HTTP/1.1\r\n\r\n",
        )
        .await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 4, "{answer}");
        assert!(answer.contains("{\"requests_served\": 4, \"uptime_seconds\": 0.000, \"pid\": 1}"), "{answer}");
        assert_eq!(answer.matches("connection: close").count(), 1);
    }

    #[tokio::test]
    async fn hooks_do_not_count_and_answer_as_scripted() {
        let guest = Guest::started(&[("HEARTH_FAKE_RUN_STATUS", "500,200"), ("HEARTH_FAKE_SUSPEND_STATUS", "close")]);
        let run = format!("POST {HOOK_PATH}run HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}");
        assert!(exchange(&guest, run.as_bytes()).await.starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
        assert!(exchange(&guest, run.as_bytes()).await.starts_with("HTTP/1.1 200 OK\r\n"));
        let suspend = format!("POST {HOOK_PATH}suspend HTTP/1.1\r\n\r\n");
        assert_eq!(exchange(&guest, suspend.as_bytes()).await, "");
        let get = format!("GET {HOOK_PATH}run HTTP/1.1\r\n\r\n");
        assert!(exchange(&guest, get.as_bytes()).await.starts_with("HTTP/1.1 405 "));
        assert!(exchange(&guest, b"GET / HTTP/1.1\r\n\r\n").await.contains("\"requests_served\": 1,"));
    }

    #[tokio::test]
    async fn what_is_not_http_ends_the_connection() {
        let guest = Guest::started(&[]);
        for rubbish in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            b"GET /\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        ] {
            assert!(exchange(&guest, rubbish).await.starts_with("HTTP/1.1 400 "));
        }
        assert_eq!(exchange(&guest, b"GET / HTTP/1.1\r\nhalf a he").await, "");
        assert_eq!(exchange(&guest, &vec![b'x'; 100 << 10]).await, "");
        assert_eq!(exchange(&guest, &[0xff, 0xfe, b'\n']).await, "");
        assert_eq!(exchange(&guest, b"").await, "");
    }
}
