//! Where traces go: the address of a collector that speaks OTLP.

use std::str::FromStr;

use url::Url;

/// The address of a collector; empty where there is none, which is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collector(Option<Url>);

/// The text is no address of a collector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not an address like http://collector.monitoring:4318: {0}")]
pub struct CollectorError(String);

impl FromStr for Collector {
    type Err = CollectorError;

    fn from_str(text: &str) -> Result<Self, CollectorError> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let refused = |reason: &str| CollectorError(reason.to_owned());
        let url: Url = text.parse().map_err(|error: url::ParseError| refused(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("it must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("a password belongs into OTEL_EXPORTER_OTLP_HEADERS"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("it must have no query or fragment"));
        }
        Ok(Self(Some(url)))
    }
}

impl Collector {
    /// Where spans are posted: `/v1/traces` below the address, as OTLP has it.
    pub(crate) fn traces(&self) -> Option<Url> {
        let mut url = self.0.clone()?;
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_posted_below_the_address() {
        let traces = |text: &str| text.parse::<Collector>().unwrap().traces().map(|url| url.to_string());
        assert_eq!(traces("http://collector:4318").as_deref(), Some("http://collector:4318/v1/traces"));
        assert_eq!(traces("https://o.example/otlp/").as_deref(), Some("https://o.example/otlp/v1/traces"));
        assert_eq!(traces(""), None);
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_a_password() {
        for text in ["collector:4318", "grpc://collector", "http://me:hush@collector", "http://c/?key=hush"] {
            let refusal = text.parse::<Collector>().unwrap_err().to_string();
            assert!(
                refusal.contains("http://collector.monitoring:4318") && !refusal.contains("hush"),
                "{text}"
            );
        }
    }
}
