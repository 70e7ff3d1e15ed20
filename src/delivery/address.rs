//! Rules for addresses: where a model folder may lie and how its files are named below it.

use crate::error::{Error, Result};

/// The address of a folder on the web: absolute, http or https, without query and fragment, ending with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    folder: String,
}

impl Address {
    /// Errors: input-invalid.
    pub fn parse(url: &str) -> Result<Self> {
        let invalid = |reason: &str| Err(Error::input("url", format!("{}: {reason}", shown(url))));
        if url.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return invalid("spaces, control characters and backslashes must be percent-encoded");
        }
        let Some((scheme, rest)) = url.split_once("://") else { return invalid("an absolute http or https address is needed") };
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return invalid("only http and https can be fetched");
        }
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() {
            return invalid("it names no host");
        }
        if host.contains('@') {
            return invalid("a name and password cannot be part of it: send an Authorization header");
        }
        if path.split('/').any(is_dots) {
            return invalid("resolve . and .. first");
        }
        let path = path.trim_end_matches('/');
        let slash = if path.is_empty() { "" } else { "/" };
        Ok(Self { folder: format!("{scheme}://{}/{path}{slash}", host.to_ascii_lowercase()) })
    }

    /// The address of a file in the folder. Errors: input-invalid where the name would lead out of it.
    pub fn file(&self, name: &str) -> Result<String> {
        let escapes = |segment: &str| segment.is_empty() || is_dots(segment) || segment.contains('\\') || segment.contains('\0');
        if name.split('/').any(escapes) {
            return Err(Error::input("file", format!("{name:?} is not the name of a file in a model folder")));
        }
        let mut url = self.folder.clone();
        for byte in name.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => url.push(char::from(byte)),
                _ => url.push_str(&format!("%{byte:02X}")),
            }
        }
        Ok(url)
    }

    pub fn as_str(&self) -> &str {
        &self.folder
    }
}

/// Also as servers and URL parsers read it after percent-decoding.
fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// `https://host:port` of an address, without the port that its scheme implies.
pub fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let host = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
    let implied = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let host = host.strip_suffix(implied).unwrap_or(&host);
    (!host.is_empty()).then(|| format!("{scheme}://{host}"))
}

/// An address as messages may show it: what grants access (a name and password, a query) stays out of logs.
pub fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => plain.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_the_same_however_it_is_written() {
        for url in ["https://Example.org/models/demo", "HTTPS://example.org/models/demo/", "https://example.org/models/demo?v=2#top"] {
            assert_eq!(Address::parse(url).unwrap().as_str(), "https://example.org/models/demo/");
        }
        assert_eq!(Address::parse("http://localhost:8080").unwrap().as_str(), "http://localhost:8080/");
    }

    #[test]
    fn what_is_not_a_folder_on_the_web_is_refused() {
        for url in [
            "",
            "models/demo",
            "//host/x",
            "file:///etc/passwd",
            "blob:https://a/b",
            "javascript://x",
            "https://",
            "https:///x",
            "https://user:pass@host/x",
            "https://host/a b",
            "https://host/a\\b",
            "https://host/a/../b",
            "https://host/a/%2E%2e/b",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert_eq!(error.code(), "input-invalid", "{url}");
            assert!(!error.to_string().contains("pass@"), "{error}");
        }
    }

    #[test]
    fn files_stay_in_their_folder() {
        let folder = Address::parse("https://host/m").unwrap();
        assert_eq!(folder.file("config.json").unwrap(), "https://host/m/config.json");
        assert_eq!(folder.file("onnx/a b?#%.bin").unwrap(), "https://host/m/onnx/a%20b%3F%23%25.bin");
        for name in ["", "/etc", "../x", "a/../x", "a//b", "a/", ".", "a\\b", "%2e%2e/x", "x\0"] {
            assert_eq!(folder.file(name).unwrap_err().code(), "input-invalid", "{name:?}");
        }
        assert_eq!(folder.file("https://evil/x").unwrap_err().code(), "input-invalid");
        assert_eq!(folder.file("https:x").unwrap(), "https://host/m/https%3Ax");
    }

    #[test]
    fn origins_are_compared_as_browsers_do() {
        assert_eq!(origin("HTTPS://Host:443/a"), origin("https://host"));
        assert_ne!(origin("https://host"), origin("http://host"));
        assert_ne!(origin("https://host"), origin("https://host:8443"));
        assert_eq!(origin("data:text/plain,x"), None);
    }

    #[test]
    fn messages_show_no_secrets() {
        assert_eq!(shown("https://a:b@host/x/y.bin?token=1#z"), "https://host/x/y.bin");
        assert_eq!(shown("models/demo?key=1"), "models/demo");
    }
}
