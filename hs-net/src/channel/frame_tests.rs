use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Master), Just(Role::Spare)]
}

fn checkpoint() -> impl Strategy<Value = CheckpointId> {
    any::<(u64, u64)>().prop_map(|(generation, increment)| CheckpointId {
        generation,
        increment,
    })
}

fn bytes_of(datagram: &Datagram<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 2000];
    let len = datagram.emit(&mut bytes);
    bytes.truncate(len);
    bytes
}

fn message_of(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 1000];
    let len = message.emit(&mut bytes);
    bytes.truncate(len);
    bytes
}

/// Datagrams of all kinds, as bytes.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let hello = (
        any::<[u64; 6]>(),
        role(),
        any::<bool>(),
        256u16..,
        any::<[u8; 20]>(),
    )
        .prop_map(
            |([session, term, to, challenge, answer, application], role, paired, datagram_len_max, build)| {
                let (session, term) = (Session(session), Term(term));
                let to = Some(Session(to)).filter(|to| *to != Session::NOBODY);
                let hello = Hello {
                    session,
                    role,
                    term,
                    to,
                    paired,
                    datagram_len_max,
                    challenge,
                    answer,
                    application,
                    build,
                };
                bytes_of(&Datagram::Hello(hello))
            },
        );
    let heartbeat = (any::<[u64; 3]>(), role()).prop_map(|([session, term, counter], role)| {
        bytes_of(&Datagram::Heartbeat(Heartbeat {
            session: Session(session),
            role,
            term: Term(term),
            counter,
        }))
    });
    let ack = (
        any::<[u64; 3]>(),
        any::<u32>(),
        any::<[u64; ACK_WORDS_MAX]>(),
        0..=ACK_WORDS_MAX,
    )
        .prop_map(|([connection, next, limit], echo_us, mut bitmap, words)| {
            bitmap[words..].fill(0);
            bytes_of(&Datagram::Ack(Ack {
                connection: Connection(connection),
                next,
                limit,
                echo_us,
                bitmap,
            }))
        });
    let chunk = (
        checkpoint(),
        any::<(bool, bool, bool)>(),
        prop::collection::vec(any::<u8>(), 0..900),
    )
        .prop_map(|(checkpoint, (first, last, arms), bytes)| {
            message_of(&Message::Chunk {
                checkpoint,
                first,
                last,
                arms,
                bytes: &bytes,
            })
        });
    let small = (checkpoint(), 0..3, any::<String>()).prop_map(|(checkpoint, which, why)| {
        message_of(&match which {
            0 => Message::Abandon { checkpoint },
            1 => Message::Kept { checkpoint },
            _ => Message::Refused {
                checkpoint,
                why: &why,
            },
        })
    });
    let data = (
        any::<(u64, u64, u32)>(),
        any::<(u64, u64, u32)>(),
        prop_oneof![chunk, small],
    )
        .prop_map(
            |((connection, sequence, sent_us), (next, limit, echo_us), message)| {
                let connection = Connection(connection);
                bytes_of(&Datagram::Data(Data {
                    connection,
                    received: Cumulative { next, limit, echo_us },
                    sequence,
                    sent_us,
                    message: &message,
                }))
            },
        );
    let probe = any::<u64>().prop_map(|number| bytes_of(&Datagram::Probe(Connection(number))));
    let deaths = prop_oneof![Just(Death::Killed), Just(Death::Panicked), Just(Death::Ended)];
    let obituary = (any::<(u64, u64)>(), deaths).prop_map(|((session, term), death)| {
        bytes_of(&Datagram::Obituary(Obituary {
            session: Session(session),
            death,
            term: Term(term),
        }))
    });
    let noted = any::<u64>().prop_map(|number| bytes_of(&Datagram::Noted(Session(number))));
    prop_oneof![hello, heartbeat, ack, data, probe, obituary, noted]
}

proptest! {
    /// What was written is read back, and written again it is the same.
    #[test]
    fn reads_what_it_writes(bytes in datagram()) {
        let parsed = Datagram::parse(&bytes).unwrap();
        prop_assert_eq!(bytes_of(&parsed), bytes.clone());
        if let Datagram::Data(data) = &parsed {
            let message = Message::parse(data.message).unwrap();
            prop_assert_eq!(message_of(&message), data.message);
        }
    }

    /// A datagram that ends early is refused, or is a whole one whose last field has no fixed end.
    #[test]
    fn a_piece_is_no_datagram(bytes in datagram(), at in any::<prop::sample::Index>()) {
        let piece = &bytes[..at.index(bytes.len())];
        match Datagram::parse(piece) {
            Err(_) => {}
            Ok(Datagram::Data(data)) => {
                let open = matches!(
                    Message::parse(data.message).unwrap(),
                    Message::Chunk { .. } | Message::Refused { .. }
                );
                prop_assert!(open);
            }
            Ok(other) => prop_assert!(false, "a piece was taken for {:?}", other),
        }
    }

    /// Whatever the bytes, reading them ends with a value or an error.
    #[test]
    fn no_bytes_are_too_bad(
        mut bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..100), datagram()],
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        for (at, value) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        if let Ok(parsed) = Datagram::parse(&bytes) {
            prop_assert!(bytes_of(&parsed).len() <= bytes.len());
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let bytes = bytes_of(&Datagram::Probe(Connection(9)));
    let with = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        Datagram::parse(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, b'X'), ParseError::Magic);
    assert_eq!(with(2, 9), ParseError::Version(9));
    assert_eq!(with(3, 77), ParseError::Kind(77));
    assert_eq!(Datagram::parse(&bytes[..11]).unwrap_err(), ParseError::Truncated);
    assert_eq!(
        Datagram::parse(&[&bytes[..], &[0]].concat()).unwrap_err(),
        ParseError::TrailingBytes
    );
}

#[test]
fn an_obituary_says_how_it_ended() {
    let mut bytes = bytes_of(&Datagram::Obituary(Obituary {
        session: Session(9),
        death: Death::Ended,
        term: Term(2),
    }));
    assert_eq!(bytes.len(), 21);
    bytes[12] = 4;
    assert_eq!(Datagram::parse(&bytes).unwrap_err(), ParseError::Field("death"));
}

#[test]
fn a_long_reason_is_cut_between_letters() {
    let checkpoint = CheckpointId {
        generation: 1,
        increment: 2,
    };
    let mut bytes = [0; 20];
    let len = Message::Refused {
        checkpoint,
        why: "ääää",
    }
    .emit(&mut bytes);
    assert_eq!(
        Message::parse(&bytes[..len]),
        Ok(Message::Refused {
            checkpoint, why: "ä"
        })
    );
}
