//! A receiver of requests over HTTP/1.1, on the loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request: its first line, its headers in lower case, its body.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// Answers each request with this status.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// The processes of scripts wait for answers while the test does: it has a thread of its own.
    pub(crate) fn start(status: &'static str) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&received);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    tokio::spawn(serve(stream, status, Arc::clone(&into)));
                }
                #[allow(unreachable_code, reason = "says what the errors are")]
                anyhow::Ok(())
            })
        });
        Ok(Self { address, received })
    }

    pub(crate) fn take(&self) -> Vec<Received> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut received)
    }
}

async fn serve(
    stream: TcpStream,
    status: &'static str,
    into: Arc<Mutex<Vec<Received>>>,
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await?;
            if header.trim().is_empty() {
                break;
            }
            headers.push(header.trim().to_ascii_lowercase());
        }
        let length = headers
            .iter()
            .find_map(|it| it.strip_prefix("content-length: "));
        let length: usize = length.map_or(Ok(0), str::parse)?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let received = Received {
            line: line.trim().to_owned(),
            headers,
            body: String::from_utf8(body)?,
        };
        into.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(received);
        let answer = format!("HTTP/1.1 {status}\r\nX-Own: yes\r\nContent-Length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).await?;
    }
}
