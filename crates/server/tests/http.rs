//! HTTP of `dovecast serve` with clients that are slow or many, and what is counted of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use tokio::net::TcpSocket;

const PATIENCE: Duration = dovecast_testkit::PATIENCE;

fn server(http: &str) -> Server {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let builder = builder.http(http);
    let builder = builder.config("[dispatch]\nallowed_networks = ['127.0.0.0/8']");
    let server = builder.start().expect("a server");
    // The connection that has found it ready is counted until its end is seen.
    let none = server.metric_is("dovecast_http_connections", |count| count < 1.0);
    none.expect("no connection is left");
    server
}

/// A connection that stays.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address().expect("an address")).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(BufReader::new(stream))
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("sent");
    }

    fn ask(&mut self, path: &str) -> (String, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        self.answer()
    }

    /// The head and the body of the next answer.
    fn answer(&mut self) -> (String, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).expect("a line"), 0, "{head}");
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        (head, String::from_utf8(body).expect("text"))
    }

    /// Everything until the server closes the connection.
    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).expect("the end");
        rest
    }
}

fn check_slow(server: &Server, of: &str, expected: f64) {
    let sample = format!("dovecast_http_timeouts_total{{of=\"{of}\"}}");
    let found = server.metric_is(&sample, |found| found >= expected);
    assert_eq!(found.ok(), Some(expected), "{sample}");
}

#[test]
fn a_connection_that_sends_half_a_head_or_nothing_is_closed() {
    let server = server("header_timeout_seconds = 1\nidle_timeout_seconds = 1");
    let mut half = Client::new(&server);
    half.send("GET /healthz HTTP/1.1\r\nhost: a\r\nx: ");
    assert_eq!(half.rest(), "");
    let mut none = Client::new(&server);
    assert_eq!(none.rest(), "");
    // One that has been answered, too.
    let mut idle = Client::new(&server);
    assert_eq!(idle.ask("/healthz").1, "ok\n");
    assert_eq!(idle.rest(), "");
    // Of the last one nothing was missing.
    check_slow(&server, "head", 2.0);
    check_slow(&server, "idle", 1.0);
    check_slow(&server, "request", 0.0);
}

#[test]
fn a_head_has_less_time_than_an_idle_connection_and_a_bounded_length() {
    let server = server("header_timeout_seconds = 1");
    let mut client = Client::new(&server);
    // Answered once, and idle after that for as long as the heads of the others take.
    assert_eq!(client.ask("/healthz").1, "ok\n");
    let mut half = Client::new(&server);
    assert_eq!(half.ask("/healthz").1, "ok\n");
    half.send("GET /healthz HTTP/1.1\r\nhost: a\r\nx: ");
    assert_eq!(half.rest(), "");
    check_slow(&server, "head", 1.0);
    let mut long = Client::new(&server);
    let many = format!("x: {}\r\n", "y".repeat(8000)).repeat(5);
    long.send(&format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{many}"));
    let said = long.rest();
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    assert_eq!(client.ask("/healthz").1, "ok\n");
    check_slow(&server, "idle", 0.0);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let server = server("request_timeout_seconds = 1");
    let token = server.admin_token().expect("a token");
    let mut client = Client::new(&server);
    client.send(&format!(
        "POST /api/hooks/messages HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"application\""
    ));
    let said = client.rest();
    assert!(
        said.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{said}"
    );
    assert!(
        said.ends_with("the body of the request did not arrive in time\n"),
        "{said}"
    );
    check_slow(&server, "request", 1.0);
}

#[test]
fn a_request_that_is_not_answered_in_time_is_ended() {
    let server = server("request_timeout_seconds = 1");
    let token = server.admin_token().expect("a token");
    let post = |path: &str, token: &str, body: &str| {
        let request = Request::new("POST", &format!("/api/hooks{path}"))
            .header("Authorization", &format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(body);
        server.ask(&request).expect("an answer")
    };
    let value = |body: &str, place: &str| {
        let json: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let value = json.pointer(place).and_then(|value| value.as_str());
        value.expect(place).to_owned()
    };
    let account = r#"{"token":{"name":"t","scope":"account","account_number":"1"}}"#;
    let account = value(&post("/tokens", &token, account).body, "/meta/token");
    // Nobody ever answers there.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let endpoint = format!(r#"{{"endpoint":{{"name":"a","url":"{url}","timeout_seconds":45}}}}"#);
    let id = value(&post("/endpoints", &account, &endpoint).body, "/data/id");
    let said = post(&format!("/endpoints/{id}/test"), &account, "{}");
    assert_eq!(
        (said.status, &*said.body),
        (503, "the request has taken too long\n")
    );
    check_slow(&server, "request", 1.0);
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_waited_for() {
    let server = server("request_timeout_seconds = 1");
    let mut client = Client::new(&server);
    // More than the buffers of both sides hold.
    for _ in 0..1000 {
        client.send("GET /api/hooks/v1/openapi.json HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    check_slow(&server, "reader", 1.0);
    drop(client);
    assert_eq!(server.get("/healthz").expect("an answer").0, 200);
}

#[test]
fn connections_beyond_the_bound_wait_for_a_place() {
    let server = server("max_connections = 10");
    let mut clients: Vec<Client> = (0..10)
        .map(|_| {
            let mut client = Client::new(&server);
            assert_eq!(client.ask("/healthz").1, "ok\n");
            client
        })
        .collect();
    let mut waiting = Client::new(&server);
    waiting.send("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n");
    let healthy =
        "dovecast_http_request_seconds_count{route=\"/healthz\",method=\"GET\",status=\"2xx\"} 10";
    // Health and metrics have places of their own.
    let monitor = server.monitor_address().expect("an address");
    let health = Request::get("/healthz").send(monitor).expect("an answer");
    assert_eq!(health.body, "ok\n");
    let healthy = healthy.replace(" 10", " 11");
    for _ in 0..20 {
        let (_, metrics) = server.get("/metrics").expect("metrics");
        for line in ["dovecast_http_connections 10", &healthy] {
            assert!(metrics.lines().any(|found| found == line), "{metrics}");
        }
    }
    drop(clients.pop());
    assert_eq!(waiting.answer().1, "ok\n");
}

#[test]
fn an_address_has_so_many_connections_and_leaves_the_others() {
    let server = server("max_connections_per_address = 2");
    let mut clients = [(); 2].map(|()| {
        let mut client = Client::new(&server);
        assert_eq!(client.ask("/healthz").1, "ok\n");
        client
    });
    let refused = Client::new(&server).rest();
    assert!(
        refused.starts_with("HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\n"),
        "{refused}"
    );
    // Another address of this host has places of its own.
    let mut other = Client(BufReader::new(from(
        [127, 0, 0, 2],
        server.address().expect("an address"),
    )));
    assert_eq!(other.ask("/healthz").1, "ok\n");
    for client in &mut clients {
        assert_eq!(client.ask("/healthz").1, "ok\n");
    }
    let counted = "dovecast_http_refused_connections_total";
    let counted = server.metric_is(counted, |count| count.to_bits() == 1_f64.to_bits());
    counted.expect("counted");
    let told = "its address has `max_connections_per_address` of [http] already";
    server.log_with(&[told]).expect("it is told");
    drop(clients);
    let again = poll_until(PATIENCE, || {
        let mut client = Client::new(&server);
        client.send("GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let mut said = String::new();
        // One that is refused may be closed before it has read what was sent.
        let _ = client.0.read_to_string(&mut said);
        said.starts_with("HTTP/1.1 200 ").then_some(())
    });
    assert_eq!(again, Some(()));
}

#[test]
fn who_holds_connections_for_health_and_metrics_leaves_some_to_others() {
    let server = server("");
    let monitor = server.monitor_address().expect("an address");
    // Places are given in the order in which connections come.
    let held: Vec<TcpStream> = (0..200).map(|_| from([127, 0, 0, 2], monitor)).collect();
    for _ in 0..20 {
        let health = Request::get("/healthz").send(monitor).expect("an answer");
        assert_eq!(health.body, "ok\n");
    }
    let told = "its address has all connections for health and metrics that one may have already";
    server.log_with(&[told]).expect("it is told");
    drop(held);
}

/// A connection from an address of this host.
fn from(address: [u8; 4], server: SocketAddr) -> TcpStream {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all();
    let connecting = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        socket.connect(server).await?.into_std()
    };
    let stream = runtime.build().expect("a runtime").block_on(connecting);
    let stream = stream.expect("connected");
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

#[test]
fn requests_are_counted_by_route_method_and_class_of_status() {
    let server = server("");
    let token = server.admin_token().expect("a token");
    for (method, path) in [
        ("GET", "/api/hooks/apps?limit=1"),
        ("GET", "/api/hooks/apps"),
        ("GET", "/api/hooks/apps/7"),
        ("GET", "/api/hooks/apps/8?a=b"),
        ("POST", "/api/hooks/apps/register"),
        ("BREW", "/api/hooks/apps"),
        ("GET", "/api/hooks/nothing/of/this/name"),
        ("GET", "/nothing"),
        ("GET", "/healthz"),
    ] {
        let request = Request::new(method, path);
        let request = request.header("Authorization", &format!("Bearer {token}"));
        server.ask(&request).expect("an answer");
    }
    let (_, metrics) = server.get("/metrics").expect("metrics");
    for (route, method, status, count) in [
        ("/api/hooks/apps", "GET", "2xx", 2),
        ("/api/hooks/apps/{id}", "GET", "4xx", 2),
        ("/api/hooks/apps/register", "POST", "4xx", 1),
        ("/api/hooks/apps", "other", "4xx", 1),
        ("none", "GET", "4xx", 2),
        ("/healthz", "GET", "2xx", 1),
    ] {
        let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
        for sample in [
            format!("dovecast_http_request_seconds_count{{{labels}}} {count}"),
            format!("dovecast_http_request_seconds_bucket{{{labels},le=\"+Inf\"}} {count}"),
        ] {
            assert!(
                metrics.lines().any(|found| found == sample),
                "no {sample}: {metrics}"
            );
        }
    }
}
