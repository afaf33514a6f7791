//! HTTP smoke tests: each of the new pods is asked at its own address.

use std::{collections::BTreeMap, net::IpAddr};

use futures::{StreamExt as _, future::join_all, stream};
use http_body_util::Full;
use hyper::{
    Request,
    header::{HOST, HeaderName},
};
use serde_json::Value;

use super::wire::{self, Reply};
use crate::{api::HttpTest, plan::analysis::Answer};

/// As much of a body as is read.
const LONGEST_BODY: usize = 64 << 10;
/// How long a pod may take to say whom it sees.
const PEERS_TIMEOUT: crate::api::Duration = crate::api::Duration::from_secs(5);
/// Pods asked for their peers at the same time.
const PEERS_AT_ONCE: usize = 16;
/// Longest part of a `Location` that is passed on, in characters.
const LONGEST_LOCATION: usize = 100;
/// Sent unless the test sets them: Phoenix' `force_ssl` redirects anything else to https.
const HEADERS: [(HeaderName, &str); 2] =
    [(HOST, "localhost"), (HeaderName::from_static("x-forwarded-proto"), "https")];

/// Asks all pods at once. All must answer as they should.
pub(super) async fn test(addresses: &[String], port: u16, test: &HttpTest) -> Answer {
    if addresses.is_empty() {
        return Answer::Failed("there is no pod to ask".to_owned());
    }
    let answers = join_all(addresses.iter().map(|address| one(address, port, test))).await;
    let failed = addresses.iter().zip(answers).find_map(|(address, answer)| Some((address, answer.err()?)));
    failed.map_or(Answer::Passed, |(address, why)| {
        Answer::Failed(format!("GET {} of the pod at {address}: {why}", test.path))
    })
}

/// Asks all pods whom they see. The one that sees the fewest has the word; one that does not say fails.
pub(super) async fn peers(addresses: &[String], port: u16, path: &str, json_path: &str) -> Answer {
    let test = HttpTest {
        path: path.to_owned(),
        status: 200,
        body_contains: None,
        json_path: None,
        value: None,
        timeout: PEERS_TIMEOUT,
        retries: 0,
        headers: BTreeMap::new(),
    };
    let mut least: Option<(u32, &String)> = None;
    let asking: Vec<_> = addresses.iter().map(|address| count(address, port, &test, json_path)).collect();
    let answers: Vec<_> = stream::iter(asking).buffered(PEERS_AT_ONCE).collect().await;
    for (address, answer) in addresses.iter().zip(answers) {
        match answer {
            Ok(seen) if least.is_none_or(|(least, _)| seen < least) => least = Some((seen, address)),
            Ok(_) => {}
            Err(why) => return Answer::Failed(format!("GET {path} of the pod at {address}: {why}")),
        }
    }
    match least {
        Some((least, pod)) => Answer::Peers { least, pod: pod.clone() },
        None => Answer::Failed("there is no pod to ask".to_owned()),
    }
}

/// How many peers a pod says it sees.
async fn count(address: &str, port: u16, test: &HttpTest, json_path: &str) -> Result<u32, String> {
    let reply = reply(address, port, test).await?;
    judge(test, &reply)?;
    peers_in(&reply, json_path)
}

fn peers_in(reply: &Reply, path: &str) -> Result<u32, String> {
    let number = match at_path(reply, path)? {
        Value::Array(peers) => u32::try_from(peers.len()).ok(),
        other => other.as_u64().and_then(|number| u32::try_from(number).ok()),
    };
    number.ok_or_else(|| format!("{path} in its body is neither a number of peers nor a list of them"))
}

async fn one(address: &str, port: u16, test: &HttpTest) -> Result<(), String> {
    judge(test, &reply(address, port, test).await?)
}

async fn reply(address: &str, port: u16, test: &HttpTest) -> Result<Reply, String> {
    // a name would be looked up, and lead anywhere
    let address: IpAddr = address.parse().map_err(|_| "its address is no IP address".to_owned())?;
    let mut request = Request::get(&test.path);
    for (name, value) in HEADERS {
        if !test.headers.keys().any(|own| own.eq_ignore_ascii_case(name.as_str())) {
            request = request.header(name, value);
        }
    }
    for (name, value) in &test.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::default()).map_err(|error| format!("it cannot be asked: {error}"))?;
    let host = address.to_string();
    let asked = wire::ask(&host, port, None, request, LONGEST_BODY);
    let reply = tokio::time::timeout(test.timeout.into(), asked).await;
    reply.map_err(|_| format!("no whole answer within {}", test.timeout))?
}

/// Whether an answer is what it should be. The body itself is never quoted: it may hold anything.
fn judge(test: &HttpTest, reply: &Reply) -> Result<(), String> {
    if i32::from(reply.status) != test.status {
        let to = reply.location.as_deref().map_or_else(String::new, |location| {
            format!(" to {}", location.chars().take(LONGEST_LOCATION).collect::<String>())
        });
        let redirect = if (300..=399).contains(&reply.status) {
            format!(" (a redirect{to}; none is followed)")
        } else {
            String::new()
        };
        return Err(format!("it answered {}{redirect}, not {}", reply.status, test.status));
    }
    if let Some(text) = &test.body_contains
        && !contains(&reply.body, text.as_bytes())
    {
        return Err(format!("its body does not hold {text:?}"));
    }
    let (Some(path), Some(wanted)) = (&test.json_path, &test.value) else { return Ok(()) };
    let found = at_path(reply, path)?;
    let shown = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    if shown == *wanted { Ok(()) } else { Err(format!("{path} in its body is not {wanted:?}")) }
}

/// What stands in an answer's body at a path.
fn at_path(reply: &Reply, path: &str) -> Result<Value, String> {
    if reply.cut {
        return Err(format!("its body is longer than {LONGEST_BODY} bytes, too long to look for {path}"));
    }
    let body: Value = serde_json::from_slice(&reply.body).map_err(|_| "its body is no JSON".to_owned())?;
    look(&body, path).cloned().ok_or_else(|| format!("its body has no {path}"))
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len().max(1)).any(|window| window == text)
}

/// What stands at `a.b[0].c`.
fn look<'a>(body: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = body;
    for part in path.split('.') {
        let (name, indexes) = part.split_once('[').map_or((part, ""), |(name, rest)| (name, rest));
        at = at.get(name)?;
        for index in indexes.split('[').filter(|index| !index.is_empty()) {
            let index: usize = index.strip_suffix(']')?.parse().ok()?;
            at = at.get(index)?;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(test: &str, status: u16, body: &str, cut: bool) -> Result<(), String> {
        let test: HttpTest = serde_saphyr::from_str(test).unwrap();
        let location = Some("https://elsewhere.example/".to_owned());
        judge(&test, &Reply { status, location, body: body.as_bytes().to_vec(), cut })
    }

    #[track_caller]
    fn bad(test: &str, status: u16, body: &str, because: &str) {
        let why = verdict(test, status, body, false).expect_err(body);
        assert!(why.contains(because), "{why}");
    }

    #[test]
    fn the_status_decides() {
        assert_eq!(verdict("{path: /}", 200, "", false), Ok(()));
        assert_eq!(verdict("{path: /, status: 404}", 404, "", false), Ok(()));
        bad("{path: /}", 204, "", "it answered 204, not 200");
        bad("{path: /}", 500, "secret", "it answered 500, not 200");
        bad("{path: /}", 301, "", "a redirect to https://elsewhere.example/; none is followed");
    }

    #[test]
    fn the_body_decides() {
        let holds = "{path: /, bodyContains: Wel}";
        assert_eq!(verdict(holds, 200, "a Welcome", true), Ok(()));
        bad(holds, 200, "welcome", "does not hold \"Wel\"");
        bad(holds, 200, "", "does not hold");
    }

    #[test]
    fn a_place_in_json_decides() {
        let test = "{path: /, jsonPath: 'checks[1].ok', value: 'true'}";
        assert_eq!(verdict(test, 200, r#"{"checks":[0,{"ok":true}]}"#, false), Ok(()));
        assert_eq!(verdict(test, 200, r#"{"checks":[0,{"ok":"true"}]}"#, false), Ok(()));
        bad(test, 200, r#"{"checks":[0,{"ok":false}]}"#, "checks[1].ok in its body is not \"true\"");
        bad(test, 200, r#"{"checks":[]}"#, "has no checks[1].ok");
        bad(test, 200, "[]", "has no checks[1].ok");
        bad(test, 200, "<html>", "no JSON");
        assert!(
            verdict(test, 200, r#"{"checks":[0,{"ok":true}]}"#, true)
                .is_err_and(|why| why.contains("too long"))
        );
    }

    #[test]
    fn peers_are_a_number_or_a_list() {
        let seen = |path: &str, body: &str| {
            let reply = Reply { status: 200, location: None, body: body.as_bytes().to_vec(), cut: false };
            peers_in(&reply, path)
        };
        assert_eq!(seen("n", r#"{"n": 2}"#), Ok(2));
        assert_eq!(seen("c.nodes", r#"{"c": {"nodes": ["a", "b", "c"]}}"#), Ok(3));
        for (path, body, why) in [
            ("n", r#"{"n": "2"}"#, "neither a number"),
            ("n", r#"{"n": -1}"#, "neither a number"),
            ("m", r#"{"n": 1}"#, "has no m"),
            ("n", "<html>", "no JSON"),
        ] {
            assert!(seen(path, body).is_err_and(|said| said.contains(why)), "{body}");
        }
    }

    #[test]
    fn places() {
        let body = json!({"a": {"b": [[1, 2], {"c-d": null}]}, "0": 5});
        for (path, there) in [
            ("a.b[0][1]", json!(2)),
            ("a.b[1].c-d", json!(null)),
            ("0", json!(5)),
            ("a.b", json!([[1, 2], {"c-d": null}])),
        ] {
            assert_eq!(look(&body, path), Some(&there), "{path}");
        }
        for path in ["b", "a.b[2]", "a.b.c", "a[0]", "a.b[x]", "a.b[0"] {
            assert_eq!(look(&body, path), None, "{path}");
        }
    }
}
