use super::*;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use allocator_api2::alloc::Global;
use proptest::prelude::*;
use proptest::sample::Index;

type Heap<T> = vec::Vec<T>;
type Args = Heap<Heap<u8>>;

#[derive(Clone, PartialEq, Debug)]
enum Seen {
    Request(Args),
    TooLarge,
    Broken(ProtocolError),
}

/// Feeds `input` in pieces that end at `cuts`, and returns what came out.
fn feed_all(input: &[u8], cuts: &[usize], quota: &mut Quota) -> Heap<Seen> {
    let mut request = Request::new(Global, Global);
    let mut seen = vec![];
    let mut from = 0;
    let mut ends = cuts.to_vec();
    ends.push(input.len());
    ends.sort_unstable();
    for end in ends {
        while from < end || matches!(request.state, State::Complete | State::Broken(_)) {
            let (used, progress) = request.feed(&input[from..end], quota);
            from += used;
            match progress {
                Progress::More => assert_eq!(from, end, "`More` takes everything"),
                Progress::Ready => {
                    seen.push(Seen::Request(request.args_from(0).map(<[u8]>::to_vec).collect()));
                    assert!(!request.is_empty());
                    request.finish(quota);
                }
                Progress::TooLarge => {
                    seen.push(Seen::TooLarge);
                    request.finish(quota);
                }
                Progress::Stalled => panic!("nobody else holds memory"),
                Progress::Broken(error) => {
                    seen.push(Seen::Broken(error));
                    request.release(quota);
                    assert_eq!(quota.used_bytes(), 0);
                    return seen;
                }
            }
        }
    }
    request.release(quota);
    assert_eq!(quota.used_bytes(), 0);
    seen
}

fn encode(args: &Args) -> Heap<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend(format!("${}\r\n", arg.len()).bytes());
        bytes.extend(arg);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn argument() -> impl Strategy<Value = Heap<u8>> {
    prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (LARGE_BYTES - 2..3 * LARGE_BYTES, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn requests() -> impl Strategy<Value = Heap<Args>> {
    proptest::collection::vec(proptest::collection::vec(argument(), 1..6), 1..6)
}

fn quota() -> Quota {
    Quota::new(64 << 20)
}

proptest! {
    #[test]
    fn requests_come_out_as_they_were_sent_however_they_are_cut(
        requests in requests(),
        cuts in proptest::collection::vec(any::<Index>(), 0..20),
    ) {
        let bytes: Heap<u8> = requests.iter().flat_map(encode).collect();
        let cuts: Heap<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        let expected: Heap<Seen> = requests.into_iter().map(Seen::Request).collect();
        prop_assert_eq!(feed_all(&bytes, &cuts, &mut quota()), expected);
    }

    #[test]
    fn bytes_of_any_kind_mean_the_same_however_they_are_cut(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            proptest::collection::vec(proptest::sample::select(b"*$0123\r\n \"'a-".as_slice()), 0..200),
        ],
        cuts in proptest::collection::vec(any::<Index>(), 0..20),
    ) {
        let cuts: Heap<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        prop_assert_eq!(feed_all(&bytes, &cuts, &mut quota()), feed_all(&bytes, &[], &mut quota()));
    }

    #[test]
    fn a_small_quota_drops_requests_and_nothing_else(requests in requests(), limit in 0_usize..40_000) {
        let bytes: Heap<u8> = requests.iter().flat_map(encode).collect();
        let seen = feed_all(&bytes, &[], &mut Quota::new(limit));
        prop_assert_eq!(seen.len(), requests.len());
        for (seen, request) in seen.into_iter().zip(requests) {
            prop_assert!(seen == Seen::TooLarge || seen == Seen::Request(request));
        }
    }
}

fn only(input: &[u8]) -> Seen {
    let whole = feed_all(input, &[], &mut quota());
    let every_cut: Heap<usize> = (0..input.len()).collect();
    assert_eq!(feed_all(input, &every_cut, &mut quota()), whole);
    assert_eq!(whole.len(), 1, "{whole:?}");
    whole.into_iter().next().unwrap()
}

#[test]
fn refusals_have_the_words_of_redis() {
    let long = |start: &str| (start.to_string() + &"1".repeat(LINE_LEN_MAX + 2)).into_bytes();
    for (input, words) in [
        (b"*1048577\r\n".to_vec(), "invalid multibulk length"),
        (
            b"*99999999999999999999999999999999999999999\r\n".to_vec(),
            "invalid multibulk length",
        ),
        (b"*\r\n".to_vec(), "invalid multibulk length"),
        (b"*1\r\n\r\n".to_vec(), "expected '$', got '\r'"),
        (b"*1\r\n:1\r\n".to_vec(), "expected '$', got ':'"),
        (b"*1\r\n$-1\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$1048577\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$536870912\r\n".to_vec(), "invalid bulk length"),
        (b"\"abc\r\n".to_vec(), "unbalanced quotes in request"),
        (long("a"), "too big inline request"),
        (long("*"), "too big mbulk count string"),
        (long("*1\r\n$"), "too big bulk count string"),
    ] {
        let Seen::Broken(error) = only(&input) else {
            panic!("accepted: {words}")
        };
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn the_longest_value_is_taken() {
    let value = vec![b'v'; BULK_LEN_MAX];
    let args = vec![b"SET".to_vec(), b"k".to_vec(), value];
    assert!(feed_all(&encode(&args), &[100_000], &mut quota()) == [Seen::Request(args)]);
}

#[test]
fn an_argument_waits_while_others_hold_memory_and_can_give_up() {
    let args = vec![b"SET".to_vec(), b"k".to_vec(), vec![b'v'; 100_000]];
    let bytes = encode(&args);
    let mut quota = Quota::new(200_000);
    assert!(quota.take(150_000));
    let mut request = Request::new(Global, Global);
    let (used, progress) = request.feed(&bytes, &mut quota);
    assert_eq!(progress, Progress::Stalled);
    let (none, progress) = request.feed(&bytes[used..], &mut quota);
    assert_eq!((none, progress), (0, Progress::Stalled));

    quota.give_back(150_000);
    assert_eq!(
        request.feed(&bytes[used..], &mut quota),
        (bytes.len() - used, Progress::Ready)
    );
    assert_eq!(request.arg(2), &args[2]);
    request.finish(&mut quota);

    assert!(quota.take(150_000));
    assert_eq!(request.feed(&bytes, &mut quota), (used, Progress::Stalled));
    request.give_up(&mut quota);
    assert_eq!(
        request.feed(&bytes[used..], &mut quota),
        (bytes.len() - used, Progress::TooLarge)
    );
    request.finish(&mut quota);
    assert_eq!(request.feed(b"PING\r\n", &mut quota).1, Progress::Ready);
    request.release(&mut quota);
    assert_eq!(quota.used_bytes(), 150_000);
}

#[test]
fn requests_that_hold_large_arguments_never_wait_for_each_other() {
    let bytes = encode(&vec![vec![b'v'; 100_000]; 2]);
    let mut quota = Quota::new(300_000);
    let (mut one, mut other) = (Request::new(Global, Global), Request::new(Global, Global));
    assert_eq!(one.feed(&bytes[..50_000], &mut quota).1, Progress::More);
    assert_eq!(other.feed(&bytes[..50_000], &mut quota).1, Progress::More);
    assert_eq!(one.feed(&bytes[50_000..], &mut quota).1, Progress::TooLarge);
    assert_eq!(other.feed(&bytes[50_000..], &mut quota).1, Progress::Ready);
    one.release(&mut quota);
    other.release(&mut quota);
    assert_eq!(quota.used_bytes(), 0);
}

#[test]
fn the_text_of_an_error_is_text() {
    let text: String = ProtocolError::ExpectedBulk(b'!').to_string();
    assert_eq!(text, "expected '$', got '!'");
}

#[test]
fn a_large_argument_can_be_taken() {
    let value = vec![b'v'; 100_000];
    let bytes = encode(&vec![b"SET".to_vec(), b"k".to_vec(), value.clone()]);
    let mut quota = quota();
    let mut request = Request::new(Global, Global);
    assert_eq!(request.feed(&bytes, &mut quota).1, Progress::Ready);
    assert!(request.is_large(2) && !request.is_large(1));
    let drawn = quota.used_bytes();
    let block = request.take_large(2);
    assert_eq!((&block[..], block.capacity()), (&value[..], 1 << 17));
    assert_eq!((request.arg(2), quota.used_bytes()), (&b""[..], drawn));
    request.release(&mut quota);
    assert_eq!(quota.used_bytes(), 0);
}
