use std::string::ToString;
use std::vec;

use proptest::prelude::*;

use super::*;

const PAIR: &str = "hs.role=master hs.service=10.77.0.10/24 hs.machine=10.77.0.11 hs.peer-machine=10.77.0.12 \
                    hs.cluster=10.78.0.1/24 hs.peer-cluster=10.78.0.2";

fn parse(text: &str) -> Result<Options, OptionsError> {
    Options::parse(text.as_bytes())
}

/// The message that refuses `text`.
fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn an_empty_line_is_a_guest_alone() {
    let alone = Options {
        pair: None,
        cptfork: Cptfork::Kernel(Mode::Lazy),
        check_blocks: cfg!(debug_assertions),
        seed: None,
        log: LevelFilter::Info,
        application: vec![],
    };
    assert_eq!(parse("").unwrap(), alone);
    assert_eq!(parse("  \t\n ").unwrap(), alone);
    assert_eq!(parse("--").unwrap(), alone);
}

#[test]
fn a_whole_line() {
    let line = std::format!(
        "{PAIR} hs.heartbeat-ms=5 hs.deadline-ms=15 hs.ncon=16 hs.checkpoint=copy hs.shadow-mib=256 \
         hs.connections=8192 hs.compress=lz4 hs.cptfork=eager hs.check-blocks=on hs.seed=18446744073709551615 hs.log=trace \
         -- port=6379 -- x"
    );
    let options = parse(&line).unwrap();
    let pair = options.pair.unwrap();
    assert_eq!(pair.role, Role::Master);
    assert_eq!(
        pair.service,
        Network {
            address: Ipv4Addr::new(10, 77, 0, 10),
            prefix_len: 24
        }
    );
    assert_eq!(pair.machine_address, Ipv4Addr::new(10, 77, 0, 11));
    assert_eq!(pair.peer_machine_address, Ipv4Addr::new(10, 77, 0, 12));
    assert_eq!(
        pair.cluster,
        Network {
            address: Ipv4Addr::new(10, 78, 0, 1),
            prefix_len: 24
        }
    );
    assert_eq!(pair.peer_cluster_address, Ipv4Addr::new(10, 78, 0, 2));
    assert_eq!(pair.heartbeat, Duration::from_millis(5));
    assert_eq!(pair.deadline, Duration::from_millis(15));
    assert_eq!((pair.ncon, pair.connections_max), (16, 8192));
    assert_eq!(pair.checkpoint, Choice::Copy);
    assert_eq!(
        (pair.shadow_pages, pair.compression),
        (256 * 256, Compression::Lz4)
    );
    assert_eq!(options.cptfork, Cptfork::Kernel(Mode::Eager));
    assert!(options.check_blocks);
    assert!(!parse("hs.check-blocks=off").unwrap().check_blocks);
    assert_eq!(options.seed, Some(u64::MAX));
    assert_eq!(options.log, LevelFilter::Trace);
    assert_eq!(options.application, ["port=6379", "--", "x"]);
}

#[test]
fn what_need_not_be_said_has_defaults() {
    let pair = parse(PAIR).unwrap().pair.unwrap();
    assert_eq!(
        (pair.heartbeat, pair.deadline, pair.ncon, pair.checkpoint),
        (HEARTBEAT_DEFAULT, DEADLINE_DEFAULT, NCON_DEFAULT, Choice::Auto)
    );
    assert_eq!((pair.shadow_pages, pair.compression), (4096, Compression::None));
    assert_eq!(pair.connections_max, 1024);
}

#[test]
fn each_way_of_checkpoints_can_be_forced() {
    for (word, choice) in [
        ("auto", Choice::Auto),
        ("copy", Choice::Copy),
        ("incremental", Choice::Incremental),
        ("full", Choice::Full),
    ] {
        let options = parse(&std::format!("{PAIR} hs.checkpoint={word}")).unwrap();
        assert_eq!(options.pair.unwrap().checkpoint, choice);
    }
}

#[test]
fn where_checkpoints_go_and_what_a_death_is_can_be_said() {
    let line = std::format!(
        "{PAIR} hs.checkpoint-file=hscpt hs.restore=OLD/HSCPT1.CPT hs.detect=any(icmp,file:FAIL)"
    );
    let pair = parse(&line).unwrap().pair.unwrap();
    assert_eq!(pair.checkpoint_files, CheckpointFiles::new("HSCPT").ok());
    assert_eq!(pair.restore, Source::parse("OLD/HSCPT1.CPT").ok());
    assert_eq!(pair.detection, Detection::parse("any(icmp,file:FAIL)").ok());
    let faulty = parse(&std::format!("{PAIR} hs.fault=kept-heard:20")).unwrap();
    assert_eq!(faulty.pair.unwrap().fault, Fault::parse("kept-heard:20").ok());
    assert_eq!(pair.agent_address, None);
    let options = parse(&std::format!("{PAIR} hs.agent=10.78.0.254")).unwrap();
    let agent_address = options.pair.unwrap().agent_address;
    assert_eq!(agent_address, Some(Ipv4Addr::new(10, 78, 0, 254)));
    let spare = std::format!("{} hs.restore=HSCPT", PAIR.replace("master", "spare"));
    assert_eq!(
        refusal(&spare),
        "hs.restore=HSCPT: is for a master, and not for the spare of hs.role"
    );
}

#[test]
fn each_way_of_freezing_has_its_word() {
    for mode in Mode::ALL {
        assert_eq!(
            parse(&std::format!("hs.cptfork={mode}")).unwrap().cptfork,
            Cptfork::Kernel(mode)
        );
    }
    assert_eq!(parse("hs.cptfork=plain").unwrap().cptfork, Cptfork::Plain);
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    for word in [
        "hs.colour=red",
        "hs.log",
        "quiet",
        "hs.LOG=info",
        "=",
        "hs.role=master=x".split('=').next().unwrap(),
    ] {
        let message = refusal(word);
        assert!(
            message.contains(&std::format!("{word:?}")) && message.contains("hs.peer-cluster"),
            "{message}"
        );
    }
}

#[test]
fn what_is_repeated_is_refused_by_name() {
    assert_eq!(refusal("hs.seed=1 hs.seed=1"), "hs.seed is given twice");
}

#[test]
fn what_is_malformed_is_refused_with_what_is_expected() {
    for (option, value) in [
        ("hs.role", "arbiter"),
        ("hs.service", "10.77.0.10"),
        ("hs.service", "10.77.0.10/+4"),
        ("hs.service", "10.77.0.10/31"),
        ("hs.service", "10.77.0.10/7"),
        ("hs.service", "10.77.0/24"),
        ("hs.machine", "10.77.0.256"),
        ("hs.peer-machine", "nowhere"),
        ("hs.cluster", "/24"),
        ("hs.peer-cluster", "10.78.0.2/24"),
        ("hs.heartbeat-ms", "0"),
        ("hs.heartbeat-ms", "+5"),
        ("hs.deadline-ms", "60001"),
        ("hs.deadline-ms", ""),
        ("hs.checkpoint-file", "eightlet"),
        ("hs.checkpoint-file", "HSCPT0.CPT"),
        ("hs.restore", ""),
        ("hs.restore", "a.longer"),
        ("hs.detect", "ping"),
        ("hs.detect", "any()"),
        ("hs.fault", "kept-heard"),
        ("hs.fault", "kept:1"),
        ("hs.agent", "10.78.0.254/24"),
        ("hs.ncon", "0"),
        ("hs.ncon", "17"),
        ("hs.ncon", "99999999999999999999"),
        ("hs.checkpoint", "lazy"),
        ("hs.checkpoint", ""),
        ("hs.shadow-mib", "257"),
        ("hs.connections", "0"),
        ("hs.connections", "8193"),
        ("hs.connections", "many"),
        ("hs.shadow-mib", "off"),
        ("hs.compress", "zstd"),
        ("hs.cptfork", "Lazy"),
        ("hs.cptfork", "fork"),
        ("hs.check-blocks", "yes"),
        ("hs.seed", "-1"),
        ("hs.seed", "18446744073709551616"),
        ("hs.log", "loud"),
    ] {
        let others = PAIR
            .split(' ')
            .filter(|word| !word.starts_with(&std::format!("{option}=")));
        let mut words: Vec<_> = others.map(String::from).collect();
        words.push(std::format!("{option}={value}"));
        let message = refusal(&words.join(" "));
        assert!(
            message.starts_with(&std::format!("{option}={value}: expected ")),
            "{message}"
        );
    }
}

#[test]
fn each_address_is_needed_by_a_pair() {
    for missing in PAIR.split(' ').skip(1) {
        let rest: Vec<_> = PAIR.split(' ').filter(|&word| word != missing).collect();
        let (name, _) = missing.split_once('=').unwrap();
        assert_eq!(
            refusal(&rest.join(" ")),
            std::format!("{name} is missing: hs.role is given, so it is needed")
        );
        assert_eq!(
            refusal(missing),
            std::format!("hs.role is missing: {name} is given, so it is needed")
        );
    }
    assert_eq!(
        refusal("hs.ncon=4"),
        "hs.role is missing: hs.ncon is given, so it is needed"
    );
    assert_eq!(
        refusal("hs.checkpoint=auto"),
        "hs.role is missing: hs.checkpoint is given, so it is needed"
    );
}

#[test]
fn contradictions_are_refused() {
    for (from, to, message) in [
        (
            "hs.machine=10.77.0.11",
            "hs.machine=10.77.1.11",
            "hs.machine=10.77.1.11: is not in the network of hs.service",
        ),
        (
            "hs.peer-cluster=10.78.0.2",
            "hs.peer-cluster=10.79.0.2",
            "hs.peer-cluster=10.79.0.2: is not in the network of hs.cluster",
        ),
        (
            "hs.machine=10.77.0.11",
            "hs.machine=10.77.0.255",
            "hs.machine=10.77.0.255: is the network's own or its broadcast address",
        ),
        (
            "hs.service=10.77.0.10/24",
            "hs.service=10.77.0.0/24",
            "hs.service=10.77.0.0/24: is the network's own or its broadcast address",
        ),
        (
            "hs.machine=10.77.0.11",
            "hs.machine=10.77.0.10",
            "hs.machine=10.77.0.10: is the same address as hs.service",
        ),
        (
            "hs.peer-machine=10.77.0.12",
            "hs.peer-machine=10.77.0.11",
            "hs.peer-machine=10.77.0.11: is the same address as hs.machine",
        ),
        (
            "hs.service=10.77.0.10/24",
            "hs.service=224.0.0.1/24",
            "hs.service=224.0.0.1/24: no host can have this address",
        ),
        (
            "hs.service=10.77.0.10/24",
            "hs.service=10.77.0.10/8",
            "hs.cluster=10.78.0.1/24: overlaps the network of hs.service",
        ),
    ] {
        let line = PAIR.replace(from, to);
        assert_ne!(line, PAIR);
        assert_eq!(refusal(&line), message);
    }
    for (agent, message) in [
        (
            "10.79.0.254",
            "hs.agent=10.79.0.254: is not in the network of hs.cluster",
        ),
        (
            "10.78.0.2",
            "hs.agent=10.78.0.2: is the same address as hs.peer-cluster",
        ),
    ] {
        assert_eq!(refusal(&std::format!("{PAIR} hs.agent={agent}")), message);
    }
    let with = |more: &str| refusal(&std::format!("{PAIR} {more}"));
    assert_eq!(
        with("hs.heartbeat-ms=20 hs.deadline-ms=20"),
        "hs.deadline-ms=20: is not longer than hs.heartbeat-ms"
    );
    assert_eq!(
        with("hs.heartbeat-ms=450"),
        "hs.heartbeat-ms=450: is not shorter than 450 ms, the default of hs.deadline-ms"
    );
}

#[test]
fn what_is_no_text_or_too_long_is_refused() {
    assert_eq!(Options::parse(b"hs.seed=\xff"), Err(OptionsError::NotText(8)));
    assert_eq!(
        Options::parse(&[b' '; COMMAND_LINE_LEN_MAX + 1]),
        Err(OptionsError::TooLong(2048))
    );
}

/// A line that is nearly right, so that the deeper checks are reached too.
fn nearly_right() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        3 => proptest::sample::select(PAIR.split(' ').collect::<Vec<_>>()).prop_map(String::from),
        1 => (proptest::sample::select(NAMES.map(|name| name.0).to_vec()), "[0-9./a-z+-]{0,12}")
            .prop_map(|(name, value)| std::format!("{name}={value}")),
        1 => "[ -~]{0,8}",
    ];
    proptest::collection::vec(word, 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = Options::parse(&bytes) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn nearly_right_lines_never_panic_and_hold_what_they_promise(line in nearly_right()) {
        match parse(&line) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(Options { pair: Some(pair), .. }) => {
                prop_assert!(pair.deadline > pair.heartbeat);
                prop_assert!((1..=NCON_MAX).contains(&pair.ncon));
                prop_assert!(pair.machine_address != pair.peer_machine_address);
            }
            Ok(_) => {}
        }
    }
}
