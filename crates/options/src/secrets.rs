//! What is never shown in a log: the values of settings that are secrets.

/// Stands for the value of a secret.
pub const NOT_SHOWN: &str = "(not shown)";

/// Whether the value of a setting must not be shown. Mistyped names (`sasl.passwort`) count as
/// well.
pub fn is_secret(name: &str) -> bool {
    const MARKS: [&str; 10] = [
        "pass",
        "pwd",
        "secret",
        "pem",
        "token",
        "jaas",
        "oauthbearer",
        "private",
        "ssl.key",
        "credential",
    ];
    let name = name.to_ascii_lowercase();
    // Where a file lies is no secret, and has to be shown when it cannot be read.
    !name.ends_with(".location") && MARKS.iter().any(|mark| name.contains(mark))
}

/// Options as they are written (`a=b c=d`), secrets not shown: one may stand there by mistake.
pub fn without_secrets(options: &str) -> String {
    let shown = options
        .split(' ')
        .map(|option| match option.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={NOT_SHOWN}"),
            _ => option.to_owned(),
        });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        assert!(
            ["ssl.key.passwort", "sasl.Passwd", "ssl.keystore.pwd"]
                .iter()
                .all(|name| is_secret(name))
        );
        assert!(!is_secret("ssl.key.location") && !is_secret("kafka_brokers"));
        assert_eq!(
            without_secrets("topic=a sasl.password=b c"),
            "topic=a sasl.password=(not shown) c"
        );
    }
}
