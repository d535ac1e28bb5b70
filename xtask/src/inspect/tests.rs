//! The golden files of the format, as they are shown; and damage, as it is told.

use super::*;

fn golden(name: &str) -> Vec<u8> {
    let path = crate::command::root().join(format!("hs-core/tests/golden/{name}.hscp"));
    std::fs::read(path).expect("a golden file")
}

/// Both, one behind the other.
fn both() -> Vec<u8> {
    [golden("full"), golden("increment")].concat()
}

const FULL: &str = "\
checkpoint 5.0 at byte 0: full
  build        0707070707070707070707070707070707070707
  application  0xfeed
  term         3
  window       0x400000000000..0x400100000000 (1048576 pages)
  threads      2
    function 0x1000, argument 0x400000000000
    function 0x1001, argument 0x400000000001
  descriptors  3
    3    file DATA/LOG.TXT, read+write, at byte 77
    4    udp 10.77.0.10:5353 to 10.77.0.1:53, getname+getpeer
    5    tcp listener 10.77.0.10:6379, backlog 16
  signals      2
    SIGINT handler 0x201000, mask TERM
    SIGUSR2 handler 0x202000, mask TERM
  areas        2
    0x400000000000..0x400000004000 (4 pages)
    0x400000010000..0x400000012000 (2 pages)
  memory       6 pages
    zero        3 pages in 2 runs, 16 bytes, 0.1 % of the pages
    raw          1 page in 1 run, 4112 bytes, 100.4 % of the pages
    lz4         2 pages in 2 runs, 142 bytes, 1.7 % of the pages
  checksum     right, over 4756 bytes
";

const INCREMENT: &str = "\
checkpoint 5.1 at byte 4756: incremental, onto 5.0 or later
  build        0707070707070707070707070707070707070707
  application  0xfeed
  term         3
  window       0x400000000000..0x400100000000 (1048576 pages)
  threads      1
    function 0x1000, argument 0x400000000000
  descriptors  1
    3    file DATA/LOG.TXT, read+write, at byte 78
  signals      1
    SIGINT handler 0x201000, mask TERM
  areas        2
    0x400000000000..0x400000004000 (4 pages)
    0x400000010000..0x400000012000 (2 pages)
  memory       4 pages
    zero         1 page in 1 run, 8 bytes, 0.2 % of the pages
    difference  2 pages in 2 runs, 52 bytes, 0.6 % of the pages
    lz4          1 page in 1 run, 71 bytes, 1.7 % of the pages
  checksum     right, over 394 bytes
";

#[test]
fn the_golden_files_are_shown() {
    let found = read(&both());
    assert_eq!(found.damage, None);
    let words: Vec<String> = found.checkpoints.iter().map(Checkpoint::words).collect();
    assert_eq!(words, [FULL, INCREMENT]);
}

#[test]
fn damage_is_told_by_where_it_is() {
    let told = |bytes: &[u8]| {
        let found = read(bytes);
        (found.checkpoints.len(), found.damage.expect("damage"))
    };
    let mut flipped = both();
    flipped[4756 + 266] ^= 4;
    let (shown, damage) = told(&flipped);
    assert_eq!(shown, 2);
    assert!(
        damage.contains(
            "checkpoint 2, which begins at byte 4756, is damaged at byte 5150: it is damaged: checksum"
        ),
        "{damage}"
    );
    assert!(
        read(&flipped).checkpoints[1]
            .words()
            .contains("checksum     not reached")
    );

    let cut = &both()[..4756 + 250];
    assert_eq!(
        told(cut),
        (
            2,
            "checkpoint 2, which begins at byte 4756, is damaged at byte 5006: it ends too early".into()
        )
    );
    let trailing = [both(), b"more".to_vec()].concat();
    assert_eq!(
        told(&trailing),
        (
            2,
            "checkpoint 3, which begins at byte 5150, is damaged at byte 5150: it ends too early".into()
        )
    );
    assert_eq!(
        told(b"no checkpoint"),
        (
            0,
            "checkpoint 1, which begins at byte 0, is damaged at byte 0: it does not begin like a checkpoint"
                .into()
        )
    );
    assert_eq!(told(b""), (0, "it is empty".into()));
}

#[test]
fn every_cut_and_every_flipped_bit_is_damage() {
    let bytes = golden("increment");
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).damage.is_some(), "the first {len} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = read(&flipped);
        assert!(found.damage.is_some(), "bit {bit}");
        found
            .checkpoints
            .iter()
            .for_each(|checkpoint| drop(checkpoint.words()));
    }
}
