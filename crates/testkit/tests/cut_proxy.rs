//! The forwarder that is cut as a network is: what passes, what waits, and what either side hears
//! of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dovecast_testkit::cut_proxy::CutProxy;
use dovecast_testkit::loopback;

/// Long enough for what is on its way to arrive.
const SILENCE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = dovecast_testkit::PATIENCE;

/// A server, the forwarder before it, and a connection through both.
struct Through {
    listener: TcpListener,
    proxy: CutProxy,
    client: TcpStream,
    server: TcpStream,
}

fn through() -> Through {
    let target = (loopback::unique_address(), 4000);
    let listener = TcpListener::bind(target).expect("a port");
    let proxy = CutProxy::start(target).expect("a proxy");
    let client = TcpStream::connect(proxy.address()).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    Through {
        listener,
        proxy,
        client,
        server,
    }
}

fn hears(mut side: &TcpStream, expected: &str) {
    side.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut heard = vec![0; expected.len()];
    side.read_exact(&mut heard).expect("read");
    assert_eq!(heard, expected.as_bytes());
}

fn hears_nothing(mut side: &TcpStream) {
    side.set_read_timeout(Some(SILENCE)).expect("a timeout");
    let heard = side.read(&mut [0]);
    let kind = heard.as_ref().map_err(std::io::Error::kind);
    assert!(matches!(kind, Err(ErrorKind::WouldBlock)), "{heard:?}");
}

fn says(mut side: &TcpStream, what: &str) {
    side.write_all(what.as_bytes()).expect("written");
}

#[test]
fn what_is_said_passes_in_both_directions_and_so_does_the_end() {
    let Through {
        proxy: _proxy,
        client,
        server,
        ..
    } = through();
    says(&client, "request");
    hears(&server, "request");
    says(&server, "answer");
    hears(&client, "answer");
    drop(server);
    assert_eq!((&client).read(&mut [0]).expect("the end"), 0);
}

#[test]
fn a_cut_is_silent_and_what_was_held_back_comes_when_it_is_healed() {
    let Through {
        listener,
        proxy,
        client,
        server,
    } = through();
    proxy.cut();
    says(&client, "request");
    says(&server, "answer");
    hears_nothing(&server);
    hears_nothing(&client);
    let late = TcpStream::connect(proxy.address()).expect("connected");
    says(&late, "late");
    hears_nothing(&late);
    proxy.heal();
    hears(&server, "request");
    hears(&client, "answer");
    let (accepted, _) = listener.accept().expect("accepted");
    hears(&accepted, "late");
}

#[test]
fn the_end_of_one_side_is_not_heard_through_a_cut() {
    let Through {
        proxy,
        client,
        server,
        ..
    } = through();
    proxy.cut();
    drop(server);
    hears_nothing(&client);
    proxy.heal();
    assert_eq!((&client).read(&mut [0]).expect("the end"), 0);
}

#[test]
fn a_connection_that_was_forgotten_stays_silent_when_the_cut_is_healed() {
    let Through {
        listener,
        proxy,
        client,
        server,
    } = through();
    proxy.cut();
    proxy.forget();
    says(&client, "request");
    drop(server);
    proxy.heal();
    let next = TcpStream::connect(proxy.address()).expect("connected");
    let (accepted, _) = listener.accept().expect("accepted");
    says(&next, "request");
    hears(&accepted, "request");
    hears_nothing(&client);
}

#[test]
fn a_reset_ends_what_is_connected_and_new_connections_are_served() {
    let Through {
        listener,
        proxy,
        client,
        server,
    } = through();
    proxy.cut();
    proxy.reset();
    for side in [&client, &server] {
        side.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut side = side;
        let heard = side.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(heard, Err(ErrorKind::ConnectionReset));
    }
    proxy.heal();
    let next = TcpStream::connect(proxy.address()).expect("connected");
    let (accepted, _) = listener.accept().expect("accepted");
    says(&next, "request");
    hears(&accepted, "request");
}

#[test]
fn a_dropped_one_listens_no_more() {
    let Through {
        proxy,
        client,
        server: _server,
        ..
    } = through();
    let address: SocketAddr = proxy.address();
    assert_ne!(address.ip(), Ipv4Addr::LOCALHOST);
    drop(proxy);
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let ended = (&client).read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
}
