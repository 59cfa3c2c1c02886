//! Bytes between the host and a server in the guest.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy_buf, split};

/// Carries bytes both ways until both directions have ended, or the host or the server has gone; an end in one direction is
/// passed on. A server may answer and close before it has read all that comes: what it does not take any more must not keep
/// its answer from going out (spec 6.4). `buffer`: bytes underway in each direction.
pub async fn carry<H, S>(host: H, server: S, buffer: usize) -> io::Result<()>
where
    H: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_host, mut to_host) = split(host);
    let (from_server, mut to_server) = split(server);
    let up = async {
        let mut bytes = vec![0; buffer];
        while let count @ 1.. = from_host.read(&mut bytes).await? {
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return Ok(());
            }
        }
        // One that is gone already tells so in the other direction.
        let _ = to_server.shutdown().await;
        Ok(())
    };
    let down = async {
        copy_buf(&mut BufReader::with_capacity(buffer, from_server), &mut to_host).await?;
        to_host.shutdown().await
    };
    tokio::try_join!(up, down).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{DuplexStream, duplex},
        net::{TcpListener, TcpStream},
        task::JoinHandle,
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// The host's end, the server's end, and what carries between them.
    async fn carried() -> (DuplexStream, TcpStream, JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (host, inner) = duplex(1 << 16);
        let carrying = tokio::spawn(carry(inner, connection, 1 << 16));
        (host, listener.accept().await.unwrap().0, carrying)
    }

    async fn ended(carrying: JoinHandle<io::Result<()>>) -> io::Result<()> {
        timeout(SOON, carrying).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn ends_are_passed_on_one_by_one() {
        let (mut host, mut server, carrying) = carried().await;
        host.write_all(b"question").await.unwrap();
        host.shutdown().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        drop(server);
        host.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "questionanswer");
        ended(carrying).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_before_all_is_read_goes_out() {
        let (mut host, mut server, carrying) = carried().await;
        let (mut from, mut to) = split(&mut host);
        let sending = async { while to.write_all(&[0; 1 << 16]).await.is_ok() {} };
        let answering = async {
            server.read_exact(&mut [0; 10]).await.unwrap();
            server.write_all(b"too large").await.unwrap();
            // With unread bytes: the kernel answers what still comes with a reset.
            drop(server);
            let mut text = String::new();
            from.read_to_string(&mut text).await.map(|_| text)
        };
        let ((), text) = tokio::join!(sending, answering);
        assert_eq!(text.unwrap(), "too large");
        drop(host);
        // The server's reset is an error to nobody who has had the answer.
        let _ = ended(carrying).await;
    }

    #[tokio::test]
    async fn a_host_that_leaves_is_told_to_the_server() {
        let (host, mut server, carrying) = carried().await;
        drop(host);
        assert_eq!(timeout(SOON, server.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
        drop(server);
        let _ = ended(carrying).await;
    }
}
