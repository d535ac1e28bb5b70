//! Pages in each form, there and back, and what is refused of them.

use super::*;
use crate::format::section::{DIFFERENCE, LZ4};

/// Encodes each page in the form that `form` asks for, if it is shorter: a difference to what the spare has, or a block.
fn encode_in_forms(checkpoint: &Checkpoint, mut form: impl FnMut() -> Content) -> Vec<u8> {
    encode_onto(checkpoint, old, |_| form())
}

/// As differences to what `old` has, each page in its form.
pub(super) fn encode_onto(
    checkpoint: &Checkpoint,
    old: impl Fn(usize) -> [u8; PAGE_LEN],
    mut form: impl FnMut(usize) -> Content,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut flush = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok::<(), Infallible>(())
    };
    let mut buffer = vec![0xcc; BUFFER_BYTES];
    let tables = checkpoint.tables();
    let mut encoder = Encoder::begin(&mut buffer, &mut flush, &checkpoint.header, &tables).unwrap();
    let mut packer = Packer::new();
    for (number, contents) in &checkpoint.pages {
        let address = START + number * PAGE_LEN;
        let fill = |page: &mut [u8; PAGE_LEN], body: &mut [u8]| {
            page.copy_from_slice(contents);
            let made = match form(*number) {
                Content::Difference => bring_up_to_date(&mut old(address), page, body).map(Form::Difference),
                Content::Lz4 => packer.pack(page, body).map(Form::Lz4),
                Content::Zero | Content::Raw => None,
            };
            Ok(made.unwrap_or(Form::Whole))
        };
        encoder.page_in_form(address, fill).unwrap();
    }
    assert_eq!(encoder.end().unwrap(), bytes.len() as u64);
    bytes
}

/// An increment of pages that are what the spare has but for `writes`, or of zeroes.
fn increment(numbers: &[(usize, bool)], writes: &[(usize, usize, u8)]) -> Checkpoint {
    let contents = |number: usize, zero: bool| {
        let mut page = old(START + number * PAGE_LEN);
        for (at, len, byte) in writes {
            let end = (at + len).min(PAGE_LEN);
            page[*at..end].fill(byte.wrapping_add(number as u8));
        }
        (number, if zero { vec![0; PAGE_LEN] } else { page.to_vec() })
    };
    let pages: Vec<_> = numbers
        .iter()
        .map(|(number, zero)| contents(*number, *zero))
        .collect();
    checkpoint(Kind::Incremental { base: 2 }, &[(0, 300)], &pages, 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_form_is_decoded_however_it_is_cut(
        picks in prop::collection::vec(prop::option::weighted(0.7, prop::bool::weighted(0.2)), 1..60),
        writes in prop::collection::vec((0..PAGE_LEN, 1_usize..900, any::<u8>()), 0..12),
        forms in prop::collection::vec(prop::sample::select(&Content::ALL[..]), 1..20),
        cuts in prop::collection::vec(1_usize..3000, 1..20),
    ) {
        let numbers: Vec<_> = picks.iter().enumerate().filter_map(|(number, pick)| pick.map(|zero| (number, zero))).collect();
        let sent = increment(&numbers, &writes);
        let mut forms = forms.iter().cycle();
        let bytes = encode_in_forms(&sent, || *forms.next().unwrap());
        prop_assert_eq!(&decode_at_once(&bytes).unwrap(), &sent);
        let mut cuts = cuts.iter().cycle();
        prop_assert_eq!(&decode(&bytes, || *cuts.next().unwrap()).unwrap(), &sent);
    }

    #[test]
    fn damaged_bodies_never_panic(
        writes in prop::collection::vec((0..PAGE_LEN, 1_usize..40, any::<u8>()), 1..6),
        form in prop::sample::select(&[Content::Difference, Content::Lz4][..]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let sent = increment(&[(4, false), (5, false), (9, false)], &writes);
        let mut bytes = encode_in_forms(&sent, || form);
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        mend(&mut bytes);
        let _ = decode_at_once(&bytes);
    }
}

#[test]
fn a_short_form_is_short() {
    let sent = increment(&[(3, false), (5, false), (6, false), (7, false)], &[(8, 8, 9)]);
    let whole = encode_in_forms(&sent, || Content::Raw).len();
    let differences = encode_in_forms(&sent, || Content::Difference).len();
    // Two runs; for each page a length, and a segment of one word.
    let section = 8 + 2 * 8 + 4 * (2 + 4 + 8);
    assert_eq!(whole - differences, 8 + 2 * 8 + 4 * PAGE_LEN - section);
}

#[test]
fn every_truncation_and_every_flipped_bit_of_short_forms_is_refused() {
    let sent = increment(&[(3, false), (5, false), (6, false)], &[(8, 8, 9), (4000, 20, 1)]);
    for form in [Content::Difference, Content::Lz4] {
        let mut bytes = encode_in_forms(&sent, || form);
        for len in 0..bytes.len() {
            assert_eq!(decode_at_once(&bytes[..len]), Err(DecodeError::Truncated));
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_at_once(&bytes).is_err(), "{form:?}: bit {bit} flipped");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(decode_at_once(&bytes).unwrap(), sent);
    }
}

/// A section of one run of page 10, and 11 if there are two, with these bodies.
fn bodies(content: u8, bodies: &[&[u8]]) -> Vec<u8> {
    let mut section = vec![10, 0, 0, 0, bodies.len() as u8, 0, content, 0];
    for body in bodies {
        section.extend_from_slice(&(body.len() as u16).to_le_bytes());
        section.extend_from_slice(body);
    }
    forged(bodies.len() as u64)
        .section(PAGES, REQUIRED, &section)
        .end()
}

#[test]
fn each_fault_of_a_body_is_named() {
    let word = [3, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut block = vec![0; 5000];
    let len = Packer::new().pack(&[7; PAGE_LEN], &mut block).unwrap();
    let block = &block[..len];
    assert_eq!(
        decode_at_once(&bodies(DIFFERENCE, &[&word, &[]]))
            .unwrap()
            .pages
            .len(),
        2
    );
    assert_eq!(
        decode_at_once(&bodies(LZ4, &[block])).unwrap().pages[&10],
        [7; PAGE_LEN]
    );

    let cut = |content, room: usize| {
        let mut section = vec![10, 0, 0, 0, 1, 0, content, 0, 12, 0];
        section.extend_from_slice(&word);
        section.truncate(8 + room);
        forged(1).section(PAGES, REQUIRED, &section).end()
    };
    let length = |len_bytes| DecodeError::SectionLength {
        kind: PAGES,
        len_bytes,
    };
    let cases = [
        (bodies(DIFFERENCE, &[&word[..11]]), DecodeError::BadDifference(10)),
        (
            bodies(DIFFERENCE, &[&word, &[0, 2, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1]]),
            DecodeError::BadDifference(11),
        ),
        (bodies(DIFFERENCE, &[&[0; 4093]]), DecodeError::BadDifference(10)),
        (bodies(LZ4, &[&block[..len - 1]]), DecodeError::BadBlock(10)),
        (bodies(LZ4, &[block, &word]), DecodeError::BadBlock(11)),
        (bodies(LZ4, &[&[0; 4093]]), DecodeError::BadBlock(10)),
        (cut(DIFFERENCE, 1), length(1)),
        (cut(DIFFERENCE, 13), length(13)),
        (cut(LZ4, 0), length(0)),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode_at_once(&bytes), Err(error), "{error}");
        assert_eq!(decode(&bytes, || 3), Err(error), "{error}, in pieces of three");
    }
}

#[test]
fn a_full_checkpoint_has_no_differences() {
    let pages: Vec<_> = (0..3)
        .map(|number| (number, old(START + number * PAGE_LEN).to_vec()))
        .collect();
    let full = checkpoint(Kind::Full, &[(0, 3)], &pages, 0);
    let refused = DecodeError::Contradiction("a full checkpoint has no differences");
    assert_eq!(
        decode_at_once(&encode_in_forms(&full, || Content::Difference)),
        Err(refused)
    );
    assert_eq!(
        decode_at_once(&encode_in_forms(&full, || Content::Lz4)).unwrap(),
        full
    );
}
