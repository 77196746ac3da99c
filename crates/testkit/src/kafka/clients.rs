//! librdkafka properties of clients, for each listener.

use super::{RealKafka, SASL_PASSWORD, SASL_USER};

impl RealKafka {
    /// librdkafka properties for [`RealKafka::bootstrap_plaintext`].
    pub fn client_settings_plaintext(&self) -> Vec<(String, String)> {
        owned([("bootstrap.servers", self.bootstrap_plaintext())])
    }

    /// librdkafka properties for [`RealKafka::bootstrap_sasl_ssl`].
    pub fn client_settings_sasl_ssl(&self) -> Vec<(String, String)> {
        owned([
            ("bootstrap.servers", self.bootstrap_sasl_ssl()),
            ("security.protocol", "SASL_SSL".to_owned()),
            ("ssl.ca.location", self.ca_path().display().to_string()),
            ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
            ("sasl.username", SASL_USER.to_owned()),
            ("sasl.password", SASL_PASSWORD.to_owned()),
        ])
    }

    /// librdkafka properties for [`RealKafka::bootstrap_mutual_tls`].
    pub fn client_settings_mutual_tls(&self) -> Vec<(String, String)> {
        let certificate = self.client_cert_path().display().to_string();
        let key = self.client_key_path().display().to_string();
        owned([
            ("bootstrap.servers", self.bootstrap_mutual_tls()),
            ("security.protocol", "SSL".to_owned()),
            ("ssl.ca.location", self.ca_path().display().to_string()),
            ("ssl.certificate.location", certificate),
            ("ssl.key.location", key),
        ])
    }
}

fn owned<const N: usize>(settings: [(&str, String); N]) -> Vec<(String, String)> {
    settings
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
}
