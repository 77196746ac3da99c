//! `[presets.NAME]`: where else a service of a preset is, such as behind a proxy of the operator's.

use std::collections::BTreeMap;

use dovecast_drivers::webhook::PresetUrls;
use dovecast_drivers::webhook::presets::Preset;
use serde::{Deserialize, Deserializer, de};
use url::Url;

/// What is said of presets, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, Section>")]
pub(crate) struct Presets(PresetUrls);

/// A section of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default, deserialize_with = "urls")]
    urls: Vec<Url>,
}

impl TryFrom<BTreeMap<String, Section>> for Presets {
    type Error = String;

    fn try_from(sections: BTreeMap<String, Section>) -> Result<Self, String> {
        let mut urls = PresetUrls::new();
        for (name, section) in sections {
            let preset = Preset::get(&name).map_err(|error| error.to_string())?;
            urls.insert(preset.name.to_owned(), section.urls);
        }
        Ok(Self(urls))
    }
}

impl Presets {
    /// What URLs may begin with, besides what the services say.
    pub(crate) fn urls(&self) -> &PresetUrls {
        &self.0
    }
}

fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
    let texts: Vec<String> = Vec::deserialize(deserializer)?;
    let urls = texts.iter().map(|text| {
        let url = Url::parse(text).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.filter(|url| url.query().is_none() && url.username().is_empty());
        url.ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is not the beginning of a URL such as `https://chat.example.org/hooks/`"
            ))
        })
    });
    urls.collect()
}
