//! One file from the network: retried, resumed, held to its size and hash. Who drops the future aborts the transfer.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::address::{Address, origin, shown};
use super::lanes::{First, race};
use crate::error::{Error, Result};
use crate::weights::index::hex;

/// A connection that has brought nothing for this long is taken for dead.
const STALLED_MS: u32 = 15_000;

/// What a private host wants to see. Nothing of it is logged or follows a redirect.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    pub headers: BTreeMap<String, String>,
    pub credentials: Credentials,
    /// Other origins that a redirect may lead to (`https://cdn.example.org`); none by itself.
    pub origins: Vec<String>,
    /// What a signed address ends with, behind the `?`, the same for every file.
    pub query: Option<String>,
    /// Addresses of files, by name, that are not in the folder: signed ones, each for itself.
    pub addresses: BTreeMap<String, String>,
}

/// As in `fetch`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    Omit,
    #[default]
    SameOrigin,
    Include,
}

impl Access {
    /// Whether a redirect could carry a secret away.
    pub fn is_private(&self) -> bool {
        !self.headers.is_empty() || self.credentials == Credentials::Include
    }

    /// Where a file is fetched from, and with what: headers and credentials are for the folder's own origin. `located` is what the
    /// caller says of this file alone. Errors: input-invalid.
    pub fn way_to(&self, folder: &Address, name: &str, located: Option<&str>) -> Result<(String, Self)> {
        let Some(url) = located.or(self.addresses.get(name).map(String::as_str)) else {
            let url = folder.file(name)?;
            let query = self.query.as_deref().map(|query| format!("?{}", query.trim_start_matches('?')));
            return Ok((url + &query.unwrap_or_default(), self.clone()));
        };
        Address::parse(url)?;
        if origin(url) == origin(folder.as_str()) {
            return Ok((url.into(), self.clone()));
        }
        let bare = Self { headers: BTreeMap::new(), credentials: Credentials::Omit, ..self.clone() };
        Ok((url.into(), bare))
    }

    fn allows(&self, to: &str) -> bool {
        origin(to).is_some_and(|to| self.origins.iter().any(|allowed| origin(allowed).as_ref() == Some(&to)))
    }
}

/// What the browser's own HTTP cache may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Any,
    /// Asks the host whether it is still the same: for the index, which is what changes.
    Revalidate,
    /// Neither read nor written: our own cache keeps these files.
    Bypass,
    /// From the host itself: the copy on the way was damaged.
    Reload,
}

#[derive(Debug)]
pub struct Get<'a> {
    pub url: &'a str,
    /// The first byte wanted; above 0 a `Range` is asked for.
    pub from: u64,
    pub freshness: Freshness,
    pub access: &'a Access,
}

pub struct Reply<B> {
    pub status: u16,
    /// The address after redirects.
    pub url: String,
    /// The first byte of the answer by its `Content-Range`, where that header may be read.
    pub from: Option<u64>,
    /// `Retry-After`, where it may be read.
    pub retry_after: Option<String>,
    pub body: B,
}

/// The network as far as delivery needs it, so that tests can be one.
#[allow(async_fn_in_trait)] // one thread, on which no future is Send
pub trait Network {
    type Body: Body;
    /// An error is a connection that failed, without an answer. Errors: network.
    async fn get(&self, request: &Get<'_>) -> Result<Reply<Self::Body>>;
    /// Where the caller wants a file of the folder to be fetched from; `None`: where it lies. Errors: network.
    async fn locate(&self, _name: &str) -> Result<Option<String>> {
        Ok(None)
    }
    async fn sleep(&self, milliseconds: u32);
    /// Milliseconds since 1970.
    fn now(&self) -> f64;
}

/// The bytes of an answer. Dropped, the transfer is cut off.
#[allow(async_fn_in_trait)]
pub trait Body {
    /// Appends the next bytes and says how many came: 0 at the end. When more than `room` came, none is appended.
    /// Errors: network.
    async fn read(&mut self, into: &mut Vec<u8>, room: u64) -> Result<u64>;
}

/// A file and what is known of it beforehand.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub name: &'a str,
    pub url: &'a str,
    pub size: Size,
    /// Lower-case hex.
    pub sha256: Option<&'a str>,
    pub freshness: Freshness,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Exactly(u64),
    AtMost(u64),
}

impl Size {
    fn limit(self) -> u64 {
        match self {
            Self::Exactly(bytes) | Self::AtMost(bytes) => bytes,
        }
    }
}

/// How often, and how long between.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Attempts that may fail one after another without a new byte.
    pub attempts: u32,
    pub first_ms: u32,
    pub longest_ms: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, first_ms: 500, longest_ms: 15_000 }
    }
}

impl Retry {
    pub const NEVER: Self = Self { attempts: 1, first_ms: 0, longest_ms: 0 };

    /// Milliseconds to wait after this many failures; `None`: give up. The host's own wish counts, up to a minute;
    /// otherwise it doubles, less up to a half by `jitter` (0 to 1), so that many visitors do not come back at once.
    pub fn delay(&self, failures: u32, retry_after: Option<&str>, jitter: f64) -> Option<u32> {
        if failures >= self.attempts {
            return None;
        }
        if let Some(seconds) = retry_after.and_then(|value| value.trim().parse::<u32>().ok()) {
            return Some(seconds.min(60) * 1000);
        }
        let doubled = self.first_ms.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest_ms);
        Some((f64::from(doubled) * (1.0 - jitter.clamp(0.0, 1.0) / 2.0)) as u32)
    }
}

/// Room made beforehand for a file that says it is this large or larger; what says more has to send it.
const RESERVED: u64 = 32 << 20;

/// What has come of a file so far.
#[derive(Default)]
struct Partial {
    bytes: Vec<u8>,
    hasher: Sha256,
}

impl Partial {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Growing step by step would copy a shard several times over.
    fn reserve(&mut self, wanted: &Wanted<'_>) -> Result<()> {
        let Size::Exactly(bytes) = wanted.size else { return Ok(()) };
        let room = bytes.min(RESERVED).saturating_sub(self.len());
        let oom = |_| Error::OutOfMemory { what: wanted.name.into(), needed: bytes };
        self.bytes.try_reserve_exact(room as usize).map_err(oom)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.hasher = Sha256::new();
    }
}

enum Failure {
    /// The connection or the host, for now: try again from where it broke.
    Broken {
        error: Error,
        retry_after: Option<String>,
    },
    /// All came, and it is not the file: try again past every cache.
    Damaged(Error),
    Final(Error),
}

impl From<Error> for Failure {
    /// A failing connection may come back; what else goes wrong would go wrong again.
    fn from(error: Error) -> Self {
        match error {
            Error::Network { .. } => Self::Broken { error, retry_after: None },
            _ => Self::Final(error),
        }
    }
}

/// Fetches a whole file. `on_bytes` hears how many have come (fewer than before when it begins anew).
/// Errors: network, size-mismatch, checksum-mismatch, out-of-memory.
pub async fn fetch<N: Network>(
    network: &N,
    wanted: &Wanted<'_>,
    access: &Access,
    retry: &Retry,
    on_bytes: &dyn Fn(u64),
) -> Result<Vec<u8>> {
    let mut partial = Partial::default();
    let mut freshness = wanted.freshness;
    let (mut failures, mut best) = (0, 0);
    loop {
        let request = Get { url: wanted.url, from: partial.len(), freshness, access };
        match attempt(network, wanted, &request, &mut partial, on_bytes).await {
            Ok(()) => return Ok(partial.bytes),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Damaged(error)) if freshness == Freshness::Reload => return Err(error),
            Err(Failure::Damaged(_)) => {
                freshness = Freshness::Reload;
                partial.clear();
            }
            Err(Failure::Broken { error, retry_after }) => {
                if partial.len() > best {
                    (best, failures) = (partial.len(), 0);
                }
                failures += 1;
                // Some hosts answer across origins, but not when a Range is asked for.
                if failures >= 3 {
                    partial.clear();
                }
                let jitter = network.now().fract();
                let Some(delay) = retry.delay(failures, retry_after.as_deref(), jitter) else { return Err(error) };
                network.sleep(delay).await;
            }
        }
        on_bytes(partial.len());
    }
}

async fn attempt<N: Network>(
    network: &N,
    wanted: &Wanted<'_>,
    request: &Get<'_>,
    partial: &mut Partial,
    on_bytes: &dyn Fn(u64),
) -> Result<(), Failure> {
    let network_error = |status, reason: String| Error::Network { url: shown(wanted.url), status, reason };
    let mut reply = match race(network.get(request), network.sleep(STALLED_MS)).await {
        First::Left(reply) => reply?,
        First::Right(()) => return Err(network_error(None, "the host did not answer".into()).into()),
    };
    if origin(&reply.url) != origin(wanted.url) && !request.access.allows(&reply.url) {
        let reason = format!("it redirects to another origin, {}", origin(&reply.url).unwrap_or_default());
        return Err(Failure::Final(network_error(Some(reply.status), reason)));
    }
    match reply.status {
        200 => partial.clear(),
        206 if request.from > 0 && reply.from.is_none_or(|from| from == request.from) => {}
        206 | 416 => {
            partial.clear();
            return Err(network_error(Some(reply.status), "the host sent another part than was asked for".into()).into());
        }
        0 => return Err(Failure::Final(network_error(Some(0), "it redirects, which requests with secrets do not follow".into()))),
        status @ (408 | 425 | 429 | 500..=599) => {
            let error = network_error(Some(status), format!("the host answered {status}"));
            return Err(Failure::Broken { error, retry_after: reply.retry_after.take() });
        }
        status => return Err(Failure::Final(network_error(Some(status), format!("the host answered {status}")))),
    }
    partial.reserve(wanted)?;
    receive(network, wanted, reply.body, partial, on_bytes).await?;
    verify(wanted, partial)
}

async fn receive<N: Network>(
    network: &N,
    wanted: &Wanted<'_>,
    mut body: N::Body,
    partial: &mut Partial,
    on_bytes: &dyn Fn(u64),
) -> Result<(), Failure> {
    let limit = wanted.size.limit();
    loop {
        let before = partial.bytes.len();
        let read = body.read(&mut partial.bytes, limit - before as u64);
        let came = match race(read, network.sleep(STALLED_MS)).await {
            First::Left(came) => came?,
            First::Right(()) => {
                let reason = "the transfer stalled".into();
                return Err(Error::Network { url: shown(wanted.url), status: None, reason }.into());
            }
        };
        if came == 0 {
            return Ok(());
        }
        if before as u64 + came > limit {
            // Cut off here: what a host may send has no end.
            let (file, found) = (wanted.name.into(), before as u64 + came);
            return Err(Failure::Damaged(Error::SizeMismatch { file, expected: limit, found }));
        }
        partial.hasher.update(&partial.bytes[before..]);
        on_bytes(partial.len());
    }
}

fn verify(wanted: &Wanted<'_>, partial: &Partial) -> Result<(), Failure> {
    if let Size::Exactly(expected) = wanted.size
        && partial.len() != expected
    {
        return Err(Failure::Damaged(Error::SizeMismatch { file: wanted.name.into(), expected, found: partial.len() }));
    }
    match wanted.sha256 {
        Some(expected) => {
            let found = hex(&partial.hasher.clone().finalize());
            let (file, expected) = (wanted.name.to_string(), expected.to_ascii_lowercase());
            if found == expected { Ok(()) } else { Err(Failure::Damaged(Error::ChecksumMismatch { file, expected, found })) }
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use pollster::block_on;

    use super::*;
    use crate::delivery::testing::{Event, Host};
    use crate::weights::index::sha256;

    const URL: &str = "https://host/model/a.bin";

    fn content() -> Vec<u8> {
        (0..100).collect()
    }

    fn host(events: impl IntoIterator<Item = Event>) -> Host {
        let host = Host::default();
        host.serve(URL, &content());
        host.plan(URL, events);
        host
    }

    fn get(host: &Host, size: Size) -> Result<Vec<u8>> {
        let hash = sha256(&content());
        let wanted = Wanted { name: "a.bin", url: URL, size, sha256: Some(&hash), freshness: Freshness::Bypass };
        block_on(fetch(host, &wanted, &Access::default(), &Retry::default(), &|_| {}))
    }

    fn code(result: Result<Vec<u8>>) -> &'static str {
        result.unwrap_err().code()
    }

    #[test]
    fn a_broken_transfer_goes_on_where_it_broke() {
        let host = host([Event::BreaksAfter(40), Event::Unreachable, Event::BreaksAfter(20)]);
        assert_eq!(get(&host, Size::Exactly(100)).unwrap(), content());
        assert_eq!(host.asked("a.bin"), [0, 40, 40, 60]);
    }

    #[test]
    fn a_host_that_knows_no_ranges_is_read_from_the_start() {
        let host = host([Event::BreaksAfter(40), Event::IgnoresRange]);
        assert_eq!(get(&host, Size::Exactly(100)).unwrap(), content());
        assert_eq!(host.asked("a.bin"), [0, 40]);
    }

    #[test]
    fn where_ranges_fail_again_and_again_the_file_is_read_from_the_start() {
        let host = host([Event::BreaksAfter(40), Event::Unreachable, Event::Unreachable]);
        assert_eq!(get(&host, Size::Exactly(100)).unwrap(), content());
        assert_eq!(host.asked("a.bin"), [0, 40, 40, 0]);
    }

    #[test]
    fn a_busy_host_is_asked_again_as_it_wishes_and_else_ever_more_rarely() {
        let busy = |after| Event::Status(429, after);
        let waits = host([busy(None), busy(Some("7")), Event::Status(503, None), busy(Some("99999"))]);
        assert_eq!(get(&waits, Size::Exactly(100)).unwrap(), content());
        assert_eq!(*waits.slept.borrow(), [500, 7_000, 2_000, 60_000]);
        let gives_up = host(vec![Event::Status(500, None); 9]);
        let error = get(&gives_up, Size::Exactly(100)).unwrap_err();
        assert!(matches!(error, Error::Network { status: Some(500), .. }));
        assert_eq!(gives_up.asked("a.bin").len(), 5);
    }

    #[test]
    fn jitter_takes_up_to_a_half() {
        let retry = Retry::default();
        assert_eq!([0.0, 0.5, 1.0].map(|jitter| retry.delay(2, None, jitter)), [Some(1000), Some(750), Some(500)]);
        assert_eq!(Retry { attempts: 99, ..retry }.delay(60, None, 0.0), Some(15_000));
        assert_eq!(Retry::NEVER.delay(1, None, 0.0), None);
    }

    #[test]
    fn what_is_refused_is_not_asked_again() {
        let host = host([Event::Status(403, None)]);
        assert!(matches!(get(&host, Size::Exactly(100)), Err(Error::Network { status: Some(403), .. })));
        assert_eq!(host.asked("a.bin"), [0]);
    }

    #[test]
    fn a_damaged_copy_is_fetched_once_more_from_the_host_itself() {
        let mut damaged = content();
        damaged[50] ^= 1;
        let once = host([Event::Sends(damaged.clone())]);
        assert_eq!(get(&once, Size::Exactly(100)).unwrap(), content());
        assert_eq!(once.requests.borrow()[1].2, Freshness::Reload);
        let always = host(vec![Event::Sends(damaged); 3]);
        assert_eq!(code(get(&always, Size::Exactly(100))), "checksum-mismatch");
        assert_eq!(always.asked("a.bin"), [0, 0]);
    }

    #[test]
    fn a_file_that_changed_between_two_parts_is_noticed() {
        let host = host([Event::BreaksAfter(40)]);
        let mut changed = content();
        changed[70] ^= 1;
        host.serve(URL, &changed);
        assert_eq!(code(get(&host, Size::Exactly(100))), "checksum-mismatch");
    }

    #[test]
    fn a_wrong_size_is_told_and_an_endless_answer_is_cut_off() {
        let short = host(vec![Event::Sends(vec![1; 99]); 2]);
        let found = |found| Error::SizeMismatch { file: "a.bin".into(), expected: 100, found };
        assert_eq!(get(&short, Size::Exactly(100)), Err(found(99)));
        let endless = host(vec![Event::Sends(vec![1; 100_000]); 2]);
        let heard = RefCell::new(0);
        let wanted = Wanted { name: "a.bin", url: URL, size: Size::Exactly(100), sha256: None, freshness: Freshness::Any };
        let note = |bytes| *heard.borrow_mut() = bytes;
        let result = block_on(fetch(&endless, &wanted, &Access::default(), &Retry::default(), &note));
        assert_eq!(result, Err(found(105)), "the first chunk that passes the limit");
        assert!(*heard.borrow() <= 100);
    }

    #[test]
    fn a_size_may_be_known_as_a_limit_only() {
        assert_eq!(get(&host([]), Size::AtMost(100)).unwrap(), content());
        assert_eq!(code(get(&host([]), Size::AtMost(99))), "size-mismatch");
    }

    #[test]
    fn a_stalled_transfer_is_taken_up_again() {
        let host = host([Event::StallsAfter(14)]);
        assert_eq!(get(&host, Size::Exactly(100)).unwrap(), content());
        assert_eq!(host.asked("a.bin"), [0, 14]);
        assert_eq!(host.slept.borrow()[0], STALLED_MS);
    }

    #[test]
    fn another_origin_is_not_followed() {
        let away = host([Event::RedirectsTo("https://other/a.bin")]);
        let error = get(&away, Size::Exactly(100)).unwrap_err();
        assert!(error.to_string().contains("https://other"), "{error}");
        assert_eq!(away.asked("a.bin"), [0]);
        let within = host([Event::RedirectsTo("https://HOST:443/elsewhere/a.bin")]);
        assert_eq!(get(&within, Size::Exactly(100)).unwrap(), content());
        let access = Access { origins: vec!["https://OTHER:443/".into()], ..Access::default() };
        let allowed = host([Event::RedirectsTo("https://other/a.bin")]);
        let hash = sha256(&content());
        let wanted = Wanted { name: "a.bin", url: URL, size: Size::Exactly(100), sha256: Some(&hash), freshness: Freshness::Bypass };
        assert_eq!(block_on(fetch(&allowed, &wanted, &access, &Retry::default(), &|_| {})).unwrap(), content());
        let hidden = host([Event::Status(0, None)]);
        assert_eq!(code(get(&hidden, Size::Exactly(100))), "network");
        assert_eq!(hidden.asked("a.bin"), [0]);
    }

    #[test]
    fn signed_addresses_are_used_as_they_are_and_secrets_stay_with_the_folder() {
        let access = |json| serde_json::from_str::<Access>(json).unwrap();
        let folder = Address::parse("https://host/model").unwrap();
        let signed = access(r#"{"query": "?sig=1&se=2", "headers": {"Authorization": "x"}}"#);
        assert_eq!(signed.way_to(&folder, "a.bin", None).unwrap(), (format!("{URL}?sig=1&se=2"), signed.clone()));
        let each =
            access(r#"{"headers": {"Authorization": "x"}, "addresses": {"a.bin": "https://cdn/q?sig=1", "b.bin": "https://host/b?s"}}"#);
        let (url, bare) = each.way_to(&folder, "a.bin", None).unwrap();
        assert_eq!((url.as_str(), bare.is_private()), ("https://cdn/q?sig=1", false));
        assert!(each.way_to(&folder, "b.bin", None).unwrap().1.is_private());
        assert_eq!(each.way_to(&folder, "c.bin", None).unwrap().0, "https://host/model/c.bin");
        let odd = access(r#"{"addresses": {"a.bin": "file:///etc/passwd"}}"#);
        assert_eq!(odd.way_to(&folder, "a.bin", None).unwrap_err().code(), "input-invalid");
    }

    #[test]
    fn secrets_are_headers_and_credentials_to_other_origins() {
        let access = |json| serde_json::from_str::<Access>(json);
        assert!(!access("{}").unwrap().is_private());
        assert!(!access(r#"{"credentials": "same-origin"}"#).unwrap().is_private());
        assert!(access(r#"{"credentials": "include"}"#).unwrap().is_private());
        assert!(access(r#"{"headers": {"Authorization": "Bearer x"}}"#).unwrap().is_private());
        assert!(access(r#"{"mode": "cors"}"#).is_err());
    }
}
