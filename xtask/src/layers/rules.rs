//! The design's table of crates as data. A change here is a change of the design, and belongs in
//! `docs/DESIGN.md` too.

/// What one package of the workspace may stand on.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) package: &'static str,
    /// The packages of this workspace it may depend on.
    pub(super) reach: Reach,
    /// For a pure crate, the only third-party crates it may depend on: no clock, no socket, no
    /// thread comes with them.
    pub(super) third_party: Option<&'static [ThirdParty]>,
}

#[derive(Debug)]
pub(super) enum Reach {
    /// These and no others.
    Only(&'static [&'static str]),
    /// The top of the graph: nothing depends on it, so that no edge can do harm.
    Any,
}

#[derive(Debug)]
pub(super) enum ThirdParty {
    Always(&'static str),
    /// Only behind a feature of the pure crate.
    Optional(&'static str),
}

/// A path that a pure crate may not name.
#[derive(Debug)]
pub(super) struct Forbidden {
    pub(super) path: &'static [&'static str],
    pub(super) mend: &'static str,
}

pub(super) const LAYERS: &[Layer] = &[
    Layer {
        package: "whimbrel-topic",
        reach: Reach::Only(&[]),
        third_party: Some(&[
            ThirdParty::Always("bytes"),
            ThirdParty::Always("foldhash"),
            ThirdParty::Always("hashbrown"),
            ThirdParty::Always("thiserror"),
        ]),
    },
    Layer {
        package: "whimbrel-codec",
        reach: Reach::Only(&["whimbrel-topic"]),
        third_party: Some(&[
            ThirdParty::Always("bytes"),
            ThirdParty::Always("thiserror"),
            ThirdParty::Optional("arbitrary"),
            ThirdParty::Optional("tokio-util"),
        ]),
    },
    Layer {
        package: "whimbrel-session",
        reach: Reach::Only(&["whimbrel-codec"]),
        third_party: Some(&[ThirdParty::Always("bytes"), ThirdParty::Always("thiserror")]),
    },
    Layer {
        package: "whimbrel-broker-core",
        reach: Reach::Only(&["whimbrel-session"]),
        third_party: Some(&[
            ThirdParty::Always("bytes"),
            ThirdParty::Always("foldhash"),
            ThirdParty::Always("hashbrown"),
            ThirdParty::Always("slab"),
            ThirdParty::Always("thiserror"),
        ]),
    },
    Layer {
        package: "whimbrel-net",
        reach: Reach::Only(&[]),
        third_party: None,
    },
    Layer {
        package: "whimbrel-client",
        reach: Reach::Only(&["whimbrel-session", "whimbrel-net"]),
        third_party: None,
    },
    Layer {
        package: "whimbrel-load",
        reach: Reach::Only(&["whimbrel-session", "whimbrel-net"]),
        third_party: None,
    },
    Layer {
        package: "whimbrel-store",
        reach: Reach::Only(&["whimbrel-broker-core"]),
        third_party: None,
    },
    Layer {
        package: "whimbrel-broker",
        reach: Reach::Only(&["whimbrel-broker-core", "whimbrel-net", "whimbrel-store"]),
        third_party: None,
    },
    Layer {
        package: "whimbrel-conformance",
        reach: Reach::Only(&["whimbrel-codec"]),
        third_party: None,
    },
    Layer {
        package: "whimbrel-sim",
        reach: Reach::Only(&["whimbrel-broker-core", "whimbrel-store"]),
        third_party: None,
    },
    Layer {
        package: "whimbrel-crash",
        reach: Reach::Only(&["whimbrel-codec"]),
        third_party: None,
    },
    Layer {
        package: "whimbrel-interop",
        reach: Reach::Only(&["whimbrel-broker", "whimbrel-client"]),
        third_party: None,
    },
    Layer {
        package: "whimbrel",
        reach: Reach::Any,
        third_party: None,
    },
    Layer {
        package: "whimbrel-benches",
        reach: Reach::Any,
        third_party: None,
    },
    Layer {
        package: "xtask",
        reach: Reach::Only(&[]),
        third_party: None,
    },
];

/// Edges that tests alone may have beside: from a package to one that does not lie below it.
///
/// The target may not reach the package, or a release could publish neither first.
pub(super) const TEST_EDGES: &[(&str, &str)] = &[
    // What measures brokers is tested with a broker.
    ("whimbrel-load", "whimbrel-broker"),
];

pub(super) const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        path: &["std", "time", "Instant"],
        mend: TAKE_TIME,
    },
    Forbidden {
        path: &["std", "time", "SystemTime"],
        mend: TAKE_TIME,
    },
    Forbidden {
        path: &["std", "thread"],
        mend: "return what is to be done as a value and let whimbrel-broker run the threads",
    },
    Forbidden {
        path: &["std", "net"],
        mend: "sockets belong in whimbrel-net; an address as a mere value is in core::net",
    },
    Forbidden {
        path: &["std", "fs"],
        mend: "files belong in whimbrel-store, behind a trait",
    },
    Forbidden {
        path: &["std", "env"],
        mend: "take the setting as an argument",
    },
    Forbidden {
        path: &["std", "process"],
        mend: "return an error and let the binary decide",
    },
    Forbidden {
        path: &["std", "hash", "RandomState"],
        mend: TAKE_SEED,
    },
    Forbidden {
        path: &["std", "collections", "hash_map", "RandomState"],
        mend: TAKE_SEED,
    },
    Forbidden {
        path: &["tokio"],
        mend: "keep the logic here free of I/O and do the waiting in whimbrel-broker or whimbrel-client",
    },
];

const TAKE_TIME: &str =
    "take the time as an argument named `now`, a `Tick` or wall-clock milliseconds";
const TAKE_SEED: &str = "take a seeded hasher, so that one seed gives one run";
