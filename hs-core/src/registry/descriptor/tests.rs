use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::host::Session;
use crate::registry::{Records, Registered};

fn path(text: &str) -> FilePath {
    FilePath::new(text).unwrap()
}

fn address(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 10), port)
}

fn listener(number: u32, port: u16) -> Descriptor {
    let local = address(port);
    Descriptor {
        number,
        kind: DescriptorKind::TcpListener { local, backlog: 16 },
    }
}

fn any_path() -> impl Strategy<Value = FilePath> {
    prop::collection::vec("[A-Za-z0-9_~-]{1,8}(\\.[A-Z0-9$]{1,3})?", 1..5).prop_map(|names| {
        let text = names.join("/");
        path(&text)
    })
}

fn any_address() -> impl Strategy<Value = SocketAddrV4> {
    (any::<u32>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port))
}

pub(crate) fn any_descriptor() -> impl Strategy<Value = Descriptor> {
    let kind = prop_oneof![
        (any_path(), 0_u8..8, any::<u64>()).prop_map(|(path, mode, offset)| DescriptorKind::File {
            path,
            mode: FileMode::from_bits_truncate(mode),
            offset,
        }),
        (any_address(), prop::option::of(any_address()), any::<u8>()).prop_map(|(local, peer, flags)| {
            let flags = UdpFlags::from_bits_truncate(flags);
            DescriptorKind::Udp { local, peer, flags }
        }),
        (any_address(), any::<u32>())
            .prop_map(|(local, backlog)| DescriptorKind::TcpListener { local, backlog }),
    ];
    (any::<u32>(), kind).prop_map(|(number, kind)| Descriptor { number, kind })
}

#[test]
fn paths_are_of_eight_and_three_letters() {
    for (text, kept) in [
        ("a", "A"),
        ("data.db", "DATA.DB"),
        ("LOGS/2005/TODAY.TXT", "LOGS/2005/TODAY.TXT"),
        ("sav~1", "SAV~1"),
    ] {
        assert_eq!(path(text).as_str(), kept);
    }
    for (text, at) in [
        ("", 0),
        ("/DATA", 0),
        ("DATA/", 5),
        ("A//B", 2),
        ("LOGS/too-long-a-name", 5),
        ("DATA.JSON", 0),
        (".DB", 0),
        ("DATA.", 0),
        ("A.B.C", 0),
        ("A B", 0),
        ("MÜLL", 0),
        ("A\0", 0),
    ] {
        assert_eq!(FilePath::new(text), Err(PathError::NotAName { at }), "{text:?}");
    }
    let long = ["ABCDEFG"; 8].join("/");
    assert_eq!(path(&format!("{long}A")).as_str().len(), PATH_LEN_MAX);
    assert_eq!(
        FilePath::new(&format!("{long}.A")),
        Err(PathError::TooLong { len_bytes: 65 })
    );
}

#[test]
fn a_number_is_registered_once() {
    let _session = Session::start(64);
    let (first, second) = (listener(3, 80), listener(4, 81));
    register(first).unwrap();
    register(second).unwrap();
    let error = register(listener(3, 99)).unwrap_err();
    assert_eq!(error, DescriptorError::Registered(3));
    assert!(format!("{error}").contains("descriptor 3"));
    assert_eq!(descriptors(), [first, second]);

    let moved = Descriptor {
        number: 3,
        kind: DescriptorKind::File {
            path: path("A.B"),
            mode: FileMode::READ,
            offset: 1 << 40,
        },
    };
    update(moved).unwrap();
    assert_eq!(descriptors(), [moved, second]);
    assert_eq!(update(listener(5, 1)), Err(DescriptorError::NotRegistered(5)));

    deregister(3).unwrap();
    assert_eq!(deregister(3), Err(DescriptorError::NotRegistered(3)));
    assert_eq!(descriptors(), [second]);
    register(first).unwrap();
    assert_eq!(descriptors(), [second, first]);
}

#[test]
fn the_table_is_bounded() {
    let _session = Session::start(64);
    let max = library::DESCRIPTORS_MAX as u32;
    for number in 0..max {
        register(listener(number, 1)).unwrap();
    }
    assert_eq!(register(listener(max, 1)), Err(DescriptorError::TooMany));
    deregister(7).unwrap();
    register(listener(max, 1)).unwrap();
    let numbers: Vec<u32> = descriptors().iter().map(|known| known.number).collect();
    assert_eq!(
        numbers,
        (0..=max).filter(|number| *number != 7).collect::<Vec<_>>()
    );
}

proptest! {
    #[test]
    fn a_descriptor_has_one_record(descriptor in any_descriptor()) {
        prop_assert_eq!(Descriptor::of_record(&descriptor.to_record()), Some(descriptor));
    }

    /// A change that a kind has is what an update makes of it; any other is none.
    #[test]
    fn what_has_changed_is_refreshed_in_place(
        known in prop::collection::vec(any_descriptor(), 1..5),
        change in prop_oneof![
            any::<u64>().prop_map(Change::Offset),
            (any_address(), prop::option::of(any_address()))
                .prop_map(|(local, peer)| Change::Addresses(local, peer)),
        ],
    ) {
        let _session = Session::start(64);
        let mut expected: Vec<Descriptor> = Vec::new();
        for (index, descriptor) in known.iter().enumerate() {
            expected.push(Descriptor { number: 7 * index as u32, ..*descriptor });
            register(expected[index]).unwrap();
        }
        let (mut records, mut registered) = (Records::with_room(), [Registered::default(), Registered::default()]);
        library::with(|library| records.collect(library)).unwrap();
        super::change(0, change).unwrap();
        // What was taken down before is brought up to date with only what has changed.
        library::with(|library| records.collect(library)).unwrap();
        registered[0].read(&records);
        let mut afresh = Records::with_room();
        library::with(|library| afresh.collect(library)).unwrap();
        registered[1].read(&afresh);
        prop_assert_eq!(&registered[0], &registered[1]);
        prop_assert_eq!(super::change(1, change), Err(DescriptorError::NotRegistered(1)));
        match (change, &mut expected[0].kind) {
            (Change::Offset(to), DescriptorKind::File { offset, .. }) => *offset = to,
            (Change::Addresses(to, by), DescriptorKind::Udp { local, peer, .. }) => (*local, *peer) = (to, by),
            _ => {}
        }
        prop_assert_eq!(descriptors(), expected);
    }

    #[test]
    fn what_is_a_record_is_that_of_its_descriptor(
        descriptor in any_descriptor(),
        damage in prop::collection::vec((0..RECORD_LEN, any::<u8>()), 0..4),
    ) {
        let mut record = descriptor.to_record();
        for (at, byte) in damage {
            record[at] = byte;
        }
        if let Some(found) = Descriptor::of_record(&record) {
            prop_assert_eq!(found.to_record(), record);
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        if let Ok(path) = FilePath::new(&text) {
            prop_assert_eq!(path.as_str(), text.to_ascii_uppercase());
        }
    }
}
