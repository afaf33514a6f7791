//! The network of real nodes: a bridge on this machine, and a network namespace
//! per node on it. All addresses follow from a slot number, so that several
//! clusters fit on one machine.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{ledger::Ledger, process::run};

/// How many nodes there are.
pub const NODES: u8 = 2;

/// The name of the namespace on the bridge that belongs to no node: it has its
/// own proxy, and passes what this machine sends to Services on to them.
const CLIENTS: &str = "clients";

/// The addresses and names of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    slot: u8,
}

impl Network {
    /// The network with this number.
    pub const fn new(slot: u8) -> Self {
        Self { slot }
    }

    /// Takes the first free slot by making its directory for sockets, whose name
    /// has to be short: a socket's path is limited to 107 bytes (unix(7)).
    pub fn claim(ledger: &Ledger) -> Result<Self> {
        for slot in 0..100 {
            let network = Self { slot };
            let dir = network.run_dir();
            let owner = dir.join("cluster");
            if fs::create_dir(&dir).is_err() {
                // A slot is stale when its cluster's ledger is gone or names another one.
                let claimed_by = fs::read_to_string(&owner).unwrap_or_default();
                match Ledger::read(Path::new(&claimed_by)) {
                    Ok(None) if !claimed_by.is_empty() => {}
                    Ok(Some(other)) if other.record().slot != Some(slot) => {}
                    _ => continue,
                }
            }
            let own = ledger.dir().to_str().context("a cluster directory in UTF-8")?;
            fs::write(&owner, own).with_context(|| format!("writing {}", owner.display()))?;
            ledger.update(|record| {
                record.slot = Some(slot);
                record.run_dir = Some(dir);
            })?;
            return Ok(network);
        }
        bail!("all 100 sets of addresses are taken: see /run/phx-e2e-*/cluster for whose they are")
    }

    /// Where the sockets are.
    pub fn run_dir(self) -> PathBuf {
        PathBuf::from(format!("/run/phx-e2e-{}", self.slot))
    }

    const fn address(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 100 + self.slot, third, fourth)
    }

    /// This machine's address on the bridge.
    pub const fn bridge_ip(self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// The address of a node, counted from zero.
    pub const fn node_ip(self, index: u8) -> Ipv4Addr {
        self.address(0, 2 + index)
    }

    const fn clients_ip(self) -> Ipv4Addr {
        self.address(0, 250)
    }

    /// The range of all pods.
    pub fn all_pods(self) -> String {
        format!("{}/18", self.address(64, 0))
    }

    /// The range of a node's pods.
    pub fn pods(self, index: u8) -> String {
        format!("{}/24", self.address(64 + index, 0))
    }

    /// The range of Services.
    pub fn services(self) -> String {
        format!("{}/20", self.address(128, 0))
    }

    /// The API server's Service.
    pub const fn first_service(self) -> Ipv4Addr {
        self.address(128, 1)
    }

    /// The name server's Service.
    pub const fn dns_service(self) -> Ipv4Addr {
        self.address(128, 10)
    }

    fn bridge(self) -> String {
        format!("phx{}", self.slot)
    }

    /// This machine's end of a namespace's link.
    fn link(self, place: &str) -> String {
        format!("phx{}-{place}", self.slot)
    }

    fn netns(self, place: &str) -> String {
        format!("phx{}-{place}", self.slot)
    }

    /// The network namespace of a node, or of the clients.
    pub fn netns_path(self, place: &str) -> PathBuf {
        Path::new("/run/netns").join(self.netns(place))
    }

    /// The network namespace that belongs to no node.
    pub fn clients_netns(self) -> PathBuf {
        self.netns_path(CLIENTS)
    }

    /// Every namespace and its address.
    fn places(self) -> Vec<(String, Ipv4Addr)> {
        let nodes = (0..NODES).map(|index| (node_name(index), self.node_ip(index)));
        nodes.chain([(CLIENTS.to_owned(), self.clients_ip())]).collect()
    }

    /// Makes all of it; what is made is written down first.
    pub fn create(self, ledger: &Ledger) -> Result<()> {
        let places = self.places();
        let bridge = self.bridge();
        ledger.update(|record| {
            // A namespace takes the other end of its link with it.
            record.netns = places.iter().map(|(place, _)| self.netns(place)).collect();
            record.links = places.iter().map(|(place, _)| self.link(place)).collect();
            record.links.push(bridge.clone());
        })?;
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
        run("ip", &["address", "add", &format!("{}/24", self.bridge_ip()), "dev", &bridge])?;
        run("ip", &["link", "set", &bridge, "up"])?;
        for (place, address) in &places {
            self.create_place(place, *address)?;
        }
        for index in 0..NODES {
            let via = self.node_ip(index).to_string();
            run("ip", &["route", "add", &self.pods(index), "via", &via])?;
        }
        run("ip", &["route", "add", &self.services(), "via", &self.clients_ip().to_string()])?;
        Ok(())
    }

    fn create_place(self, place: &str, address: Ipv4Addr) -> Result<()> {
        let netns = self.netns(place);
        let link = self.link(place);
        run("ip", &["netns", "add", &netns])?;
        // Before its link exists, which takes over these defaults. Redirects would tell a
        // client to go around the namespace that translates its packets.
        sysctl(
            &netns,
            &[
                "net.ipv4.ip_forward=1",
                "net.ipv4.conf.all.send_redirects=0",
                "net.ipv4.conf.default.send_redirects=0",
            ],
        )?;
        // Answers between pods of one node pass the translation too. Only there if the
        // kernel's bridge has the hook; if it has not, it needs no switch.
        let _ = sysctl(&netns, &["net.bridge.bridge-nf-call-iptables=1"]);
        run("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &netns])?;
        run("ip", &["link", "set", &link, "master", &self.bridge(), "up"])?;
        let within = |arguments: &[&str]| run("ip", &[&["-n", &netns], arguments].concat());
        within(&["link", "set", "lo", "up"])?;
        within(&["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        within(&["link", "set", "eth0", "up"])?;
        self.set_routes(place)
    }

    /// The routes of a namespace; they go when its link goes down.
    fn set_routes(self, place: &str) -> Result<()> {
        let netns = self.netns(place);
        let within = |arguments: &[&str]| run("ip", &[&["-n", &netns], arguments].concat());
        within(&["route", "replace", "default", "via", &self.bridge_ip().to_string()])?;
        for index in 0..NODES {
            if node_name(index) != place {
                let via = self.node_ip(index).to_string();
                within(&["route", "replace", &self.pods(index), "via", &via])?;
            }
        }
        Ok(())
    }

    /// Takes a node's cable out or puts it in, at this machine's end.
    pub fn set_link(self, place: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        run("ip", &["link", "set", &self.link(place), state])?;
        if up { self.set_routes(place) } else { Ok(()) }
    }
}

fn sysctl(netns: &str, settings: &[&str]) -> Result<String> {
    let enter = format!("--net=/run/netns/{netns}");
    run("nsenter", &[&[&enter, "--", "sysctl", "-q", "-w"], settings].concat())
}

/// The name of a node, counted from zero.
pub fn node_name(index: u8) -> String {
    format!("node-{}", index + 1)
}

/// The names of all nodes.
pub fn node_names() -> Vec<String> {
    (0..NODES).map(node_name).collect()
}
