//! Users of this host who have a shell: some who may send events, as the mail processes of all
//! users do, and one who may not. Each has a user id of its own, which only root can give.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dovecast_relay::client::{Client, Options};
use dovecast_relay::spill;
use dovecast_relay::wire::{self, Hello, MAX_FRAME_BYTES, WireRecord};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::clock::now_ms;
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use uuid::Uuid;

use crate::mail::forged;
use crate::{Scene, is_soak};

/// The honest mail user, whose id nobody else has.
pub(crate) const HONEST: u32 = 61_001;
/// The IMAP user: the mail processes of that one have this id.
pub(crate) const IMAP_USER: u32 = 61_002;
/// A mail user with a shell, who floods.
pub(crate) const MAIL_USER: u32 = 61_003;
/// Another one, who takes places and memory.
pub(crate) const PLACE_TAKER: u32 = 61_004;
/// Who may send events.
pub(crate) const ALLOWED: &str = "61001-61004";
/// Somebody of whom the configuration says nothing.
pub(crate) const STRANGER: u32 = 61_100;
/// Mail processes at a time; one user id gets nine tenths of what others leave.
pub(crate) const MAX_CLIENTS: usize = 100;
/// Connections with a frame that is not finished.
const UNFINISHED: usize = 150;
/// How long the taker of places waits until more of a frame is read.
const UNREAD_TIME: Duration = Duration::from_millis(100);
/// Events of each process of the one who floods.
const EVENTS: usize = 1_000;

/// Most files that these users leave in the spill directory, together.
pub(crate) fn spill_files() -> usize {
    if is_soak() { 20_000 } else { 2_000 }
}

/// From here on this thread, and nothing else of this process, is of another user.
pub(crate) fn act_as(user: u32) -> Result<()> {
    let (group, user) = (Gid::from_raw(user), Uid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// A mail process's side of the relay.
pub(crate) fn client(scene: &Scene<'_>, program: &str) -> Client {
    Client::new(Options {
        socket: scene.server.relay_socket().to_owned(),
        spill_dir: scene.server.spill_dir().to_owned(),
        queue_bytes: 4 << 20,
        spill_bytes: 4 << 20,
        host: "mail1".to_owned(),
        program: program.to_owned(),
    })
}

/// An event, which is a transaction of its own.
pub(crate) fn record<'a>(user: &'a str, event: &'a str) -> WireRecord<'a> {
    WireRecord {
        topic: "dovecot",
        key: user.as_bytes(),
        value: event.as_bytes(),
        time_ms: u64::try_from(now_ms()).unwrap_or_default(),
        id: Uuid::now_v7(),
        txn: Uuid::nil(),
        txn_seq: 0,
        txn_last: true,
    }
}

/// Ends a mail process, which has all the time it wants.
pub(crate) fn finish(mut client: Client) {
    client.finish(Instant::now() + PATIENCE);
}

/// Sends as many events as it can, none of which says anything.
pub(crate) fn flood_events(scene: &Scene<'_>) {
    scene.again(|| {
        let mut client = client(scene, "flood");
        (0..EVENTS).for_each(|_| client.push(&record("flood", "{}")));
        client.flush();
        finish(client);
        Ok(())
    });
}

fn hello(program: &str, spill: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let hello = Hello {
        version: wire::VERSION,
        host: "mail1",
        program,
        spill,
    };
    wire::write_hello(&mut bytes, &hello);
    bytes
}

/// Takes all places it can get, each with a spill file that is not there and all but the end of a
/// frame.
pub(crate) fn leave_frames_unfinished(scene: &Scene<'_>) {
    let mut bytes = hello("unfinished", "0-gone.spill");
    let at = wire::begin_records(&mut bytes);
    bytes.resize(at + MAX_FRAME_BYTES, 0);
    wire::end_records(&mut bytes[..], at, 1);
    bytes.pop();
    let mut held = VecDeque::new();
    scene.again(|| {
        if held.len() >= UNFINISHED {
            held.pop_front();
        }
        let mut stream = UnixStream::connect(scene.server.relay_socket())?;
        stream.set_write_timeout(Some(UNREAD_TIME))?;
        match stream.write_all(&bytes) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
            _ => {}
        }
        held.push_back(stream);
        Ok(())
    });
}

/// Leaves files that are none in the spill directory, new ones in the place of the oldest, and what
/// is no file at all.
pub(crate) fn leave_nonsense(scene: &Scene<'_>) {
    let dir = scene.server.spill_dir();
    let own = Uuid::now_v7().simple().to_string();
    // Whoever follows it reads what only root may.
    let link = symlink("/etc/shadow", dir.join(format!("0-{own}-link.spill")));
    let directory = fs::create_dir(dir.join(format!("0-{own}-dir.spill")));
    link.and(directory).expect("everybody may make files here");
    let mut left: VecDeque<PathBuf> = VecDeque::new();
    let mut number = 0_u64;
    scene.again(|| {
        let are_enough = left.len() >= spill_files() / 2;
        if are_enough && let Some(oldest) = left.pop_front() {
            // The relay may have removed it.
            fs::remove_file(oldest).ok();
        }
        number += 1;
        let path = dir.join(format!("0-{own}-{number}.spill"));
        fs::write(&path, b"dovecast-spill 1\n\xff\xff\xff\xffnonsense")?;
        fs::set_permissions(&path, Permissions::from_mode(0o640))?;
        left.push_back(path);
        if are_enough {
            bail!("enough");
        }
        Ok(())
    });
}

/// Speaks for the honest user, in a spill file and over the socket, again and again, and is told
/// each time that it may not send.
pub(crate) fn knock(scene: &Scene<'_>) {
    let (user, event) = forged();
    let record = record(user, &event);
    let author = spill::Author::new("mail1", "stranger");
    let writer = spill::Writer::create(scene.server.spill_dir(), &author, &record, 1 << 20);
    let mut writer = writer.expect("everybody may make files here");
    writer.push(&record);
    writer.flush().expect("a short file");
    drop(writer);
    let mut bytes = hello("stranger", "");
    let at = wire::begin_records(&mut bytes);
    wire::write_record(&mut bytes, &record);
    wire::end_records(&mut bytes[..], at, 1);
    scene.again(|| {
        let mut stream = UnixStream::connect(scene.server.relay_socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&bytes)?;
        // Until it is sent away.
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    });
}
