//! Two nodes that find each other through DNS, in both of the ways that releases do.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use crate::node::{Node, Pod, Scratch, free_port, wait_for};

const NODES: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];

#[test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
fn dns_cluster_finds_the_other_node() {
    meet("dns_cluster", "DNS_CLUSTER_QUERY", "shop-headless.default.svc.cluster.local");
}

#[test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
fn libcluster_finds_the_other_node() {
    meet("libcluster", "PHOENIX_HEADLESS_SERVICE", "shop-headless");
}

fn meet(strategy: &str, variable: &str, service: &str) {
    let scratch = Scratch::new(strategy);
    let inetrc = scratch.0.join("inetrc");
    let dns = answer_dns();
    std::fs::write(&inetrc, format!("{{resolv_conf,\"\"}}.\n{{nameserver,{{127,0,0,1}},{dns}}}.\n")).unwrap();
    // Without epmd, so that both may have the same basename on one machine.
    let distribution = free_port(NODES[0].into());

    let nodes: Vec<Node> = NODES
        .iter()
        .map(|ip| {
            let flags = format!(
                "-start_epmd false -erl_epmd_port {distribution} -kernel inet_dist_use_interface {{{}}}",
                ip.to_string().replace('.', ",")
            );
            Pod::new("v1", IpAddr::V4(*ip), "ecto://u:p@127.0.0.1:1/none")
                .with("ERL_ZFLAGS", &flags)
                .with("ERL_INETRC", &inetrc.to_string_lossy())
                .with("ROOST_BIND", &ip.to_string())
                .with("ROOST_CLUSTER", strategy)
                .with("ROOST_CLUSTER_INTERVAL_MS", "200")
                .with(variable, service)
                .serve(&scratch.0.join("log"))
        })
        .collect();

    wait_for("the cluster", || (nodes[0].json("/nodes")["nodes"][0] == "roost@127.0.0.2").then_some(()));
    assert_eq!(nodes[1].json("/nodes")["nodes"][0], "roost@127.0.0.1");
}

/// Answers every A question with both nodes, every other with nothing; returns its port.
fn answer_dns() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(&reply(&packet[..length]), peer);
        }
    });
    port
}

/// RFC 1035, section 4: the question is repeated, each record points back at its name.
fn reply(question: &[u8]) -> Vec<u8> {
    let name_end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap();
    let wanted = &question[12..name_end + 5];
    let is_a = question[name_end + 1..name_end + 3] == [0, 1];
    let records: &[Ipv4Addr] = if is_a { &NODES } else { &[] };

    let mut reply = question[..2].to_vec();
    reply.extend([0x85, 0x80, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
    reply.extend(wanted);
    for address in records {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}
