//! A headless Chromium, driven over the DevTools protocol.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::process::poll_until;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A browser with a profile of its own; it ends when this is dropped.
pub(crate) struct Chromium {
    child: Child,
    profile: TempDir,
}

/// A page of it.
pub(crate) struct Page {
    runtime: Runtime,
    socket: WebSocketStream<tokio::net::TcpStream>,
    session: Option<String>,
    origin: String,
    calls: u64,
    /// What the browser has told by itself.
    events: Vec<Value>,
}

impl Chromium {
    /// The program, if it is there.
    pub(crate) fn program() -> Option<String> {
        let named = env::var("CHROMIUM").ok();
        let installed = || {
            let path = env::var("PATH").unwrap_or_default();
            let mut places = env::split_paths(&path).map(|dir| dir.join("chromium"));
            places.find(|place| place.exists())
        };
        named.or_else(|| installed().map(|place| place.display().to_string()))
    }

    pub(crate) fn start(program: &str) -> Result<Self> {
        let profile = TempDir::new()?;
        let child = Command::new(program)
            .args([
                "--headless=new",
                "--remote-debugging-port=0",
                "--no-first-run",
            ])
            // Tests may run as root, in containers; nothing but our own pages is loaded.
            .args(["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        Ok(Self { child, profile })
    }

    /// A new page at a URL.
    pub(crate) fn page(&mut self, url: &str) -> Result<Page> {
        let file = self.profile.path().join("DevToolsActivePort");
        let place = poll_until(PATIENCE, || {
            let text = fs::read_to_string(&file).ok()?;
            let (port, path) = text.split_once('\n')?;
            let port: u16 = port.parse().ok()?;
            path.starts_with('/')
                .then(|| (port, path.trim().to_owned()))
        });
        let (port, path) = place.context("the browser does not start")?;
        let origin = url.split('/').take(3).collect::<Vec<_>>().join("/");
        let mut page = Page::connect(port, &path, origin)?;
        page.open(url)?;
        Ok(page)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page {
    fn connect(port: u16, path: &str, origin: String) -> Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let mut reader = BufReader::with_capacity(1, stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                bail!("the browser refuses: {head}");
            }
        }
        let stream = reader.into_inner();
        stream.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let socket = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            Ok::<_, anyhow::Error>(
                WebSocketStream::from_raw_socket(stream, Role::Client, None).await,
            )
        })?;
        Ok(Self {
            runtime,
            socket,
            session: None,
            origin,
            calls: 0,
            events: Vec::new(),
        })
    }

    fn open(&mut self, url: &str) -> Result<()> {
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", &attach)?;
        self.session = attached["sessionId"].as_str().map(ToOwned::to_owned);
        for domain in [
            "Page.enable",
            "Log.enable",
            "Runtime.enable",
            "ServiceWorker.enable",
        ] {
            self.call(domain, &json!({}))?;
        }
        self.call("Page.navigate", &json!({ "url": url }))?;
        Ok(())
    }

    /// What a command returns.
    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let message = Message::text(message.to_string());
        self.runtime.block_on(self.socket.send(message))?;
        loop {
            let said = self.hear()?;
            if said["id"] == self.calls {
                if said["error"].is_object() {
                    bail!("{method}: {}", said["error"]);
                }
                return Ok(said["result"].clone());
            }
            self.events.push(said);
        }
    }

    fn hear(&mut self) -> Result<Value> {
        loop {
            let socket = &mut self.socket;
            let next = async { tokio::time::timeout(PATIENCE, socket.next()).await };
            let next = self
                .runtime
                .block_on(next)
                .context("the browser is silent")?;
            if let Message::Text(text) = next.context("the browser has ended")?? {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }

    /// The value of an expression, which may be a promise.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let said = self.call("Runtime.evaluate", &parameters)?;
        if said["exceptionDetails"].is_object() {
            bail!("{expression}: {}", said["exceptionDetails"]);
        }
        Ok(said["result"]["value"].clone())
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) -> Result<()> {
        let found = poll_until(PATIENCE, || match self.evaluate(expression) {
            Ok(value) => (value == true).then_some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        found.unwrap_or_else(|| {
            let status = self.evaluate("document.body?.innerText")?;
            Err(anyhow!(
                "{expression} is not true: {status}; {:?}",
                self.errors()
            ))
        })
    }

    /// A key is pressed.
    pub(crate) fn key(&mut self, key: &str) -> Result<()> {
        let code = if key == "Enter" { 13 } else { 9 };
        let mut event =
            json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if key == "Enter" {
            event["text"] = json!("\r");
        }
        self.call("Input.dispatchKeyEvent", &event)?;
        event["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", &event)?;
        Ok(())
    }

    /// A text is typed.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", &json!({ "text": text }))?;
        Ok(())
    }

    pub(crate) fn allow_notifications(&mut self) -> Result<()> {
        let session = self.session.take();
        let parameters = json!({ "origin": self.origin, "permissions": ["notifications"] });
        let allowed = self.call("Browser.grantPermissions", &parameters);
        self.session = session;
        allowed.map(|_| ())
    }

    /// The registration of the service worker, as the browser names it.
    pub(crate) fn registration(&mut self) -> Result<String> {
        let is_update =
            |event: &&Value| event["method"] == "ServiceWorker.workerRegistrationUpdated";
        let found = self.events.iter().filter(is_update).find_map(|event| {
            let id = event["params"]["registrations"][0]["registrationId"].as_str();
            id.map(ToOwned::to_owned)
        });
        found.context("the browser has told of no registration")
    }

    /// Hands a push to the service worker.
    pub(crate) fn push(&mut self, registration: &str, message: &Value) -> Result<()> {
        let parameters = json!({ "origin": self.origin, "registrationId": registration, "data": message.to_string() });
        self.call("ServiceWorker.deliverPushMessage", &parameters)?;
        Ok(())
    }

    /// Errors that the browser has logged of the page.
    pub(crate) fn errors(&self) -> Vec<String> {
        let is_error = |event: &&Value| {
            (event["method"] == "Log.entryAdded" && event["params"]["entry"]["level"] == "error")
                || event["method"] == "Runtime.exceptionThrown"
        };
        let errors = self.events.iter().filter(is_error);
        errors.map(|event| event["params"].to_string()).collect()
    }
}
