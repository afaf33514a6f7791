//! The broken versions are broken as their names say.

use crate::http::{Client, get};
use crate::node::{LOCALHOST, Pod, Scratch, wait_for, wait_for_sql};

#[test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
fn crash_boots_and_exits_with_one() {
    let scratch = Scratch::new("crash");
    let mut node = Pod::new("crash", LOCALHOST, "ecto://u:p@127.0.0.1:1/none").serve(&scratch.0.join("log"));
    assert_eq!(node.wait().code(), Some(1));
}

#[tokio::test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
async fn neverready_is_healthy_and_unready_with_its_database_up() {
    let scratch = Scratch::new("neverready");
    let postgres = scratch.postgres().await;
    let node = Pod::new("neverready", LOCALHOST, &postgres.url("roost")).serve(&scratch.0.join("log"));
    let asked = "SELECT count(*) >= 2 FROM pg_stat_activity WHERE application_name LIKE 'roost@%'";
    wait_for_sql(&postgres, asked, "t").await;
    assert_eq!(node.get("/health").status, 200);
    assert_eq!(node.get("/ready").status, 503);
}

#[test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
fn force_ssl_redirects_as_phoenix_does_and_pipelines_are_answered_in_order() {
    let scratch = Scratch::new("ssl");
    let pod = Pod::new("v1", LOCALHOST, "ecto://u:p@127.0.0.1:1/none")
        .with("ROOST_FORCE_SSL", "true")
        .with("PHX_HOST", "shop.test");
    let node = pod.start(&scratch.0.join("log"));
    wait_for("the server", || get(pod.address, "/health").ok().filter(|answer| answer.status == 200));

    let mut client = Client::connect(node.pod.address).unwrap();
    // The second Host header wins in the server's map: a name that is not excluded.
    client.send("/version?x=1", "Host: 10.0.0.1:4000\r\n").unwrap();
    client.send("/version", "Host: shop.test\r\nX-Forwarded-Proto: https\r\n").unwrap();
    let redirect = client.answer().unwrap();
    assert_eq!(redirect.status, 301);
    assert!(redirect.head.contains("location: https://shop.test/version?x=1\r\n"), "{}", redirect.head);
    let secure = client.answer().unwrap();
    assert_eq!(secure.status, 200);
    assert!(secure.head.contains("strict-transport-security: max-age=31536000"), "{}", secure.head);
}
