//! One number out of a Prometheus.
//!
//! <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>

use std::{fmt::Write as _, time::Duration};

use http_body_util::Full;
use hyper::{
    Request,
    body::Bytes,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use serde::Deserialize;
use serde_json::Value;

use super::{endpoint::Endpoint, wire};
use crate::plan::analysis::Answer;

/// Longest answer that is read: one number takes a few hundred bytes, and an error may name its labels.
const LONGEST_ANSWER: usize = 1 << 20;
/// Longest part of an error that is passed on, in characters.
const LONGEST_ERROR: usize = 200;

/// Asks for one number. Whatever goes wrong is an [`Answer::Nothing`] that says what, without the endpoint's address:
/// apps' owners read it.
pub(super) async fn query(endpoint: &Endpoint, query: &str, timeout: Duration) -> Answer {
    let asked = tokio::time::timeout(timeout, ask(endpoint, query, timeout)).await;
    let name = &endpoint.name;
    match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => Answer::Nothing(format!("Prometheus {name}: {why}")),
        Err(_) => Answer::Nothing(format!("Prometheus {name} did not answer within {} s", timeout.as_secs())),
    }
}

async fn ask(endpoint: &Endpoint, query: &str, timeout: Duration) -> Result<Answer, String> {
    let host = match (endpoint.host.contains(':'), endpoint.port) {
        (true, port) => format!("[{}]:{port}", endpoint.host),
        (false, port) => format!("{}:{port}", endpoint.host),
    };
    let form = format!("query={}&timeout={}s", encode(query), timeout.as_secs().max(1));
    let mut request = Request::post(format!("{}/api/v1/query", endpoint.base))
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(file) = &endpoint.bearer {
        let token = tokio::fs::read_to_string(file).await;
        let token = token.map_err(|error| format!("the operator cannot read its bearer token: {error}"))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| "the operator's bearer token is none".to_owned())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let request = request.body(Full::new(Bytes::from(form))).map_err(|error| error.to_string())?;
    let tls = endpoint.tls.as_ref();
    let reply = wire::ask(&endpoint.host, endpoint.port, tls, request, LONGEST_ANSWER).await?;
    if reply.cut {
        return Err(format!(
            "its answer is longer than {LONGEST_ANSWER} bytes; make the query answer one number"
        ));
    }
    read(reply.status, &reply.body)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

/// The number in an answer. Several numbers are none: which would count?
fn read(status: u16, body: &[u8]) -> Result<Answer, String> {
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
        return Err(match status {
            300..=399 => format!("it answered {status}, and no redirect is followed"),
            401 | 403 => format!("it answered {status}; the operator's configuration needs another token"),
            _ => format!("it answered {status} with something that is no answer to a query"),
        });
    };
    let data = match body.data {
        Some(data) if body.status == "success" && (200..300).contains(&status) => data,
        _ => {
            let error: String = body.error.chars().take(LONGEST_ERROR).collect();
            return Err(format!("it answered {status}: {error}"));
        }
    };
    match (data.result_type.as_str(), &data.result) {
        ("scalar", result) => number(result),
        ("vector", Value::Array(series)) => match series.as_slice() {
            [] => Ok(Answer::Nothing("no data: the query matches nothing".to_owned())),
            [one] => number(&one["value"]),
            many => Err(format!("the query answers {} series; make it one, as with sum()", many.len())),
        },
        (other, _) => Err(format!("the query answers a {other}; it must be a scalar or a vector of one")),
    }
}

fn number(pair: &Value) -> Result<Answer, String> {
    match pair.get(1).and_then(Value::as_str) {
        Some(value) => Ok(Answer::Value(value.to_owned())),
        None => Err("the query answers no number, but perhaps a histogram".to_owned()),
    }
}

/// As in a form: everything but letters, digits and a few signs in `%XX`.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // writing to a String does not fail
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Answer {
        read(status, body.as_bytes()).unwrap_or_else(Answer::Nothing)
    }

    #[track_caller]
    fn nothing(status: u16, body: &str, because: &str) {
        match of(status, body) {
            Answer::Nothing(why) => assert!(why.contains(because), "{why}"),
            answer => panic!("{answer:?}"),
        }
    }

    fn vector(series: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    }

    #[test]
    fn one_number_is_an_answer() {
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000.1,"0.25"]}}"#;
        assert_eq!(of(200, scalar), Answer::Value("0.25".to_owned()));
        let one = vector(r#"{"metric":{"a":"b"},"value":[1700000000.1,"12"]}"#);
        assert_eq!(of(200, &one), Answer::Value("12".to_owned()));
        let nan = vector(r#"{"metric":{},"value":[1,"NaN"]}"#);
        assert_eq!(of(200, &nan), Answer::Value("NaN".to_owned()), "for the planner to judge");
    }

    #[test]
    fn anything_else_says_what_it_is() {
        let one = r#"{"metric":{},"value":[1,"1"]}"#;
        nothing(200, &vector(""), "no data");
        nothing(200, &vector(&format!("{one},{one}")), "answers 2 series");
        nothing(200, &vector(r#"{"metric":{},"histogram":[1,{}]}"#), "histogram");
        nothing(200, &vector(r#"{"metric":{},"value":[1,5]}"#), "no number");
        nothing(200, r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#, "a matrix");
        nothing(200, r#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#, "a string");
        nothing(
            400,
            r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error"}"#,
            "400: 1:5: parse error",
        );
        nothing(503, r#"{"status":"error","error":"query timed out"}"#, "503: query timed out");
        nothing(200, r#"{"status":"error","error":"odd"}"#, "odd");
        nothing(200, r#"{"status":"success"}"#, "200");
        nothing(302, "<a href>", "no redirect is followed");
        nothing(401, "", "another token");
        nothing(200, "<html>", "no answer to a query");
        nothing(200, "", "no answer to a query");
    }

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(encode("a{b=\"c\"} + 1&é"), "a%7Bb%3D%22c%22%7D%20%2B%201%26%C3%A9");
    }
}
