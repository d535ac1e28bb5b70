//! The command line of `run-pair`, and its port.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

#[test]
fn the_documented_command_line_is_understood() {
    let words = "x --headless --forward 0 --kill-master-after 10 --exit-after 20.5 --report FILE --accel tcg --mem 128 --seed 5";
    let options = Line::try_parse_from(words.split(' ')).unwrap().options;
    assert_eq!(
        (options.app.as_str(), options.forward, options.headless),
        ("kv", 0, true)
    );
    assert_eq!(options.kill_master_after, Some(Duration::from_secs(10)));
    assert_eq!(options.exit_after, Some(Duration::from_millis(20_500)));
    assert_eq!(
        (options.accel, options.mem, options.seed),
        (Choice::Tcg, Some(128), Some(5))
    );
    assert_eq!(Line::try_parse_from(["x"]).unwrap().options.forward, 6379);
    let words = "x --cptfork eager --checkpoint copy --compress lz4 --shadow 0 --connections 2000 --checkpoint-file HSCPT --restore HSCPT0.CPT --detect any(icmp,file:FAIL) --fault kept-heard:30";
    assert_eq!(
        Line::try_parse_from(words.split(' '))
            .unwrap()
            .options
            .for_the_kernel(),
        [
            "hs.cptfork=eager",
            "hs.checkpoint=copy",
            "hs.compress=lz4",
            "hs.shadow-mib=0",
            "hs.connections=2000",
            "hs.checkpoint-file=HSCPT",
            "hs.restore=HSCPT0.CPT",
            "hs.detect=any(icmp,file:FAIL)",
            "hs.fault=kept-heard:30"
        ]
    );
    let agentless = Line::try_parse_from(["x", "--no-agent"]).unwrap().options;
    assert!(agentless.no_agent && !Line::try_parse_from(["x"]).unwrap().options.no_agent);
    let words = "x --disk other.img --disk-mib 100";
    let options = Line::try_parse_from(words.split(' ')).unwrap().options;
    assert_eq!((options.disk, options.disk_mib), (Some("other.img".into()), 100));
    for refused in [
        "--forward 70000",
        "--disk-mib 4000",
        "--kill-master-after -1",
        "--exit-after soon",
        "--mem 1",
        "--accel xen",
        "--compress zip",
        "--ear open",
        "--shadow 257",
        "--connections 0",
        "--cptfork fork",
        "--checkpoint lazy",
        "--checkpoint-file HSCPT0.CPT",
        "--restore a.long",
        "--detect ping",
        "--fault kept-heard",
    ] {
        assert!(
            Line::try_parse_from(format!("x {refused}").split(' ')).is_err(),
            "{refused}"
        );
    }
}

#[test]
fn a_port_in_use_is_named() {
    let (_held, port) = open_port(0).unwrap();
    let error = open_port(port).unwrap_err().to_string();
    assert!(
        error.contains(&port.to_string()) && error.contains("--forward"),
        "{error}"
    );
}
