//! Connections without TLS: which protocol a client speaks is told by its first bytes (RFC 9113 section 3.3).

use std::io::{self, Cursor};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
};

/// What a client of HTTP/2 by prior knowledge sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The connection with nothing taken from it, and whether it is one of HTTP/2. No bound on time.
pub(crate) async fn open(tcp: TcpStream) -> io::Result<(impl AsyncRead + AsyncWrite + Send + Unpin, bool)> {
    let (mut from_client, to_client) = tcp.into_split();
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let more = (PREFACE.len() - first.len()) as u64;
        if (&mut from_client).take(more).read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let http2 = first == PREFACE;
    Ok((tokio::io::join(Cursor::new(first).chain(from_client), to_client), http2))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn the_first_bytes_tell_and_are_still_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (pieces, expected) in [
            (&["GET / HTTP/1.1\r\n\r\n"][..], false),
            (&["P", "RI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0"], true),
            (&["PRI", " /x HTTP/1.1\r\n\r\n"], false),
            (&["P", "OST"], false),
        ] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.set_nodelay(true).unwrap();
            let (tcp, _) = listener.accept().await.unwrap();
            let send = async {
                for piece in pieces {
                    client.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
                client.shutdown().await.unwrap();
            };
            let (opened, ()) = tokio::join!(open(tcp), send);
            let (mut stream, http2) = opened.unwrap();
            let mut all = String::new();
            stream.read_to_string(&mut all).await.unwrap();
            assert_eq!((http2, all), (expected, pieces.concat()));
        }
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        drop(client);
        assert!(open(tcp).await.is_err());
    }
}
