//! Checkpoints as files, byte by byte: whoever changes the format without meaning to finds out here.
//!
//! They are made by `cargo test -p hs-core --lib golden -- --ignored`, which is right only together with a new
//! [`FORMAT_VERSION`] (`docs/checkpoint-format.md` has one of them, byte by byte).

use core::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::{format, fs};

use super::forms::encode_onto;
use super::*;
use crate::registry::descriptor::UdpFlags;

const FULL: &[u8] = include_bytes!("../../../tests/golden/full.hscp");
const INCREMENT: &[u8] = include_bytes!("../../../tests/golden/increment.hscp");

const WORDS: &[u8] = b"the state of a machine that died, ";

fn text() -> Vec<u8> {
    WORDS.iter().copied().cycle().take(PAGE_LEN).collect()
}

/// No two words of it are the same, so that it cannot be packed.
fn noise() -> Vec<u8> {
    let words = 1_u32..=(PAGE_LEN / 4) as u32;
    words
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect()
}

fn descriptors() -> Vec<Descriptor> {
    let address = |last, port| SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, last), port);
    vec![
        file(3, 77),
        Descriptor {
            number: 4,
            kind: DescriptorKind::Udp {
                local: address(10, 5353),
                peer: Some(address(1, 53)),
                flags: UdpFlags::GETNAME | UdpFlags::GETPEER,
            },
        },
        Descriptor {
            number: 5,
            kind: DescriptorKind::TcpListener {
                local: address(10, 6379),
                backlog: 16,
            },
        },
    ]
}

fn signals() -> Vec<SignalAction> {
    vec![
        action(SignalNumber::Int, 0x20_1000),
        action(SignalNumber::Usr2, 0x20_2000),
    ]
}

/// Pages 0 … 3 and 16 … 17, of each form that a full checkpoint has.
fn full() -> Checkpoint {
    let zero = vec![0; PAGE_LEN];
    let pages = [
        (0, noise()),
        (1, zero.clone()),
        (2, zero.clone()),
        (3, text()),
        (16, text()),
        (17, zero),
    ];
    checkpoint(Kind::Full, &[(0, 4), (16, 2)], &pages, 2).with(descriptors(), signals())
}

/// Two words of page 0 changed, page 3 was written to and is as it was, page 16 is zero now, and page 17 is text.
fn increment() -> Checkpoint {
    let mut changed = noise();
    changed[8..16].copy_from_slice(b"Hotspare");
    changed[PAGE_LEN - 8..].copy_from_slice(&7_u64.to_le_bytes());
    let pages = [(0, changed), (3, text()), (16, vec![0; PAGE_LEN]), (17, text())];
    checkpoint(Kind::Incremental { base: 0 }, &[(0, 4), (16, 2)], &pages, 1)
        .with(vec![file(3, 78)], vec![action(SignalNumber::Int, 0x20_1000)])
}

/// What is at this address after the full one.
fn after_full(address: usize) -> [u8; PAGE_LEN] {
    full().pages[&((address - START) / PAGE_LEN)]
        .as_slice()
        .try_into()
        .unwrap()
}

fn encode_full() -> Vec<u8> {
    encode_onto(&full(), old, |number| {
        if number == 0 { Content::Raw } else { Content::Lz4 }
    })
}

fn encode_increment() -> Vec<u8> {
    let form = |number| {
        if number == 17 {
            Content::Lz4
        } else {
            Content::Difference
        }
    };
    encode_onto(&increment(), after_full, form)
}

fn run(first: usize, pages: usize, content: Content) -> (PageRange, Content) {
    (PageRange::new(START + first * PAGE_LEN, pages).unwrap(), content)
}

#[test]
fn the_files_hold_what_they_held() {
    let (found, runs) = decode_onto(FULL, || usize::MAX, old).unwrap();
    assert_eq!(found, full());
    assert_eq!(
        runs,
        [
            run(0, 1, Content::Raw),
            run(3, 1, Content::Lz4),
            run(16, 1, Content::Lz4)
        ]
    );
    let (found, runs) = decode_onto(INCREMENT, || 1, after_full).unwrap();
    assert_eq!(found, increment());
    assert_eq!(
        runs,
        [
            run(0, 1, Content::Difference),
            run(3, 1, Content::Difference),
            run(17, 1, Content::Lz4)
        ]
    );
}

#[test]
fn what_is_encoded_is_what_the_files_are() {
    assert!(
        encode_full() == FULL,
        "the format has changed: is its version new?"
    );
    assert!(
        encode_increment() == INCREMENT,
        "the format has changed: is its version new?"
    );
}

#[test]
fn headers_can_be_looked_at_beforehand() {
    assert_eq!(Header::peek(FULL), Ok(full().header));
    assert_eq!(Header::peek(&INCREMENT[..100]), Ok(increment().header));
    for len in [0, 7, 8, 49] {
        assert_eq!(Header::peek(&FULL[..len]), Err(DecodeError::Truncated));
    }
    assert_eq!(
        Header::peek(b"HSCP\x01\x00\x10\x00"),
        Err(DecodeError::WrongVersion { found: 1 })
    );
}

#[test]
#[ignore = "writes the golden files anew"]
fn write_the_golden_files() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, bytes) in [("full", encode_full()), ("increment", encode_increment())] {
        fs::write(folder.join(format!("{name}.hscp")), bytes).unwrap();
    }
}
