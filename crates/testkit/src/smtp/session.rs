//! A client of the mail server, from its first word to its last.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::Result;

use super::{Shared, TakenMail, locked};

/// A connection, protected or not.
pub(super) trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

struct Session<'a> {
    shared: &'a Shared,
    /// Below the protection.
    #[cfg_attr(
        not(feature = "mail-tls"),
        expect(dead_code, reason = "nothing protects it")
    )]
    stream: TcpStream,
    wire: BufReader<Box<dyn Wire>>,
    is_protected: bool,
    is_known: bool,
    from: String,
    to: String,
}

pub(super) fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    let below = stream.try_clone()?;
    #[cfg(feature = "mail-tls")]
    let (wire, is_protected) = match &shared.door.tls {
        Some(tls) if tls.is_implicit() => (tls.accept(stream)?, true),
        _ => (Box::new(stream) as Box<dyn Wire>, false),
    };
    #[cfg(not(feature = "mail-tls"))]
    let (wire, is_protected) = (Box::new(stream) as Box<dyn Wire>, false);
    let mut session = Session {
        shared,
        stream: below,
        wire: BufReader::new(wire),
        is_protected,
        is_known: shared.door.login.is_none(),
        from: String::new(),
        to: String::new(),
    };
    session.say("220 stand-in")?;
    while let Some(line) = session.line()? {
        locked(&shared.commands).push(line.clone());
        if !session.answer(&line)? {
            break;
        }
    }
    Ok(())
}

fn address(line: &str) -> String {
    let inside = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or_else(String::new, |(address, _)| address.to_owned())
}

impl Session<'_> {
    fn say(&mut self, text: &str) -> Result<()> {
        let wire = self.wire.get_mut();
        wire.write_all(format!("{text}\r\n").as_bytes())?;
        Ok(wire.flush()?)
    }

    fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        let count = self.wire.read_line(&mut line)?;
        Ok((count > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Whether the client can be protected, and is not yet.
    fn offers_tls(&self) -> bool {
        #[cfg(feature = "mail-tls")]
        return self.shared.door.tls.is_some() && !self.is_protected;
        #[cfg(not(feature = "mail-tls"))]
        return self.is_protected;
    }

    /// Answers a command; whether there may be another one.
    fn answer(&mut self, line: &str) -> Result<bool> {
        match line.get(..4).unwrap_or_default() {
            "EHLO" => {
                let mut offers = vec!["250-stand-in"];
                if self.offers_tls() {
                    offers.push("250-STARTTLS");
                } else if self.shared.door.login.is_some() {
                    offers.push("250-AUTH PLAIN");
                }
                offers.push("250 8BITMIME");
                self.say(&offers.join("\r\n"))?;
            }
            "STAR" if self.offers_tls() => self.protect()?,
            "AUTH" => self.log_in(line)?,
            "MAIL" if !self.is_known => self.say("530 5.7.0 authentication required")?,
            "MAIL" => {
                self.from = address(line);
                self.say("250 2.1.0 fine")?;
            }
            "RCPT" => {
                self.to = address(line);
                let refused = locked(&self.shared.refused).clone();
                let answer = refused.into_iter().find(|(other, _)| *other == self.to);
                self.say(answer.map_or("250 2.1.5 fine", |(_, answer)| answer))?;
            }
            "DATA" => self.take()?,
            "QUIT" => {
                self.say("221 bye")?;
                return Ok(false);
            }
            _ => self.say("250 fine")?,
        }
        Ok(true)
    }

    #[cfg(feature = "mail-tls")]
    fn protect(&mut self) -> Result<()> {
        if let Some(tls) = &self.shared.door.tls {
            self.say("220 2.0.0 go on")?;
            // What was sent before the handshake is not read behind it.
            self.wire = BufReader::new(tls.accept(self.stream.try_clone()?)?);
            self.is_protected = true;
        }
        Ok(())
    }

    #[cfg(not(feature = "mail-tls"))]
    fn protect(&mut self) -> Result<()> {
        self.say("454 4.7.0 there is no TLS")
    }

    fn log_in(&mut self, line: &str) -> Result<()> {
        let said = line.strip_prefix("AUTH PLAIN ");
        self.is_known = said.is_some() && said == self.shared.door.login;
        self.say(if self.is_known {
            "235 2.7.0 welcome"
        } else {
            "535 5.7.8 the user or the password is wrong"
        })
    }

    fn take(&mut self) -> Result<()> {
        self.say("354 go on")?;
        let mut text = String::new();
        while let Some(line) = self.line()?.filter(|line| line != ".") {
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push('\n');
        }
        let mail = TakenMail {
            from: self.from.clone(),
            to: self.to.clone(),
            text,
        };
        if let Some(next) = &self.shared.next
            && let Err(error) = next(&mail)
        {
            return self.say(&format!("451 4.3.0 {error}"));
        }
        locked(&self.shared.taken).push(mail);
        self.shared.arrived.notify_all();
        self.say("250 2.0.0 taken")
    }
}
