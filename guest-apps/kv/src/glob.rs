//! Redis's glob patterns: `*`, `?`, `[abc]`, `[^a-z]` and `\` before what is meant literally.
//!
//! Redis recurses at each `*`. Going back to the last one is enough and bounds the work by the product of
//! the two lengths. Malformed patterns mean what they mean to Redis: an unclosed class ends with the pattern.

/// Whether all of `text` fits `pattern`; letters of the one case fit the other if `ignore_case`.
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    // Where to go on if what follows the last star does not fit: behind the star, one byte further on.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(pattern_at..).unwrap_or_default() {
            [b'*', ..] => {
                pattern_at += 1;
                retry = Some((pattern_at, text_at));
                continue;
            }
            [] if text_at == text.len() => return true,
            [] => None,
            rest => text.get(text_at).and_then(|&byte| step(rest, byte, ignore_case)),
        };
        match (step, retry) {
            (Some(used), _) => {
                pattern_at += used;
                text_at += 1;
            }
            (None, Some((behind_star, from))) if from < text.len() => {
                pattern_at = behind_star;
                text_at = from + 1;
                retry = Some((behind_star, text_at));
            }
            (None, _) => return false,
        }
    }
}

/// How many bytes of `pattern`, which is not empty and does not start with a star, `byte` fits; `None` if
/// it does not.
fn step(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    let fold = |byte: u8| {
        if ignore_case {
            byte.to_ascii_lowercase()
        } else {
            byte
        }
    };
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (fits, used) = class_fits(class, fold(byte), &fold);
            fits.then_some(1 + used)
        }
        [b'\\', literal, ..] => (fold(*literal) == fold(byte)).then_some(2),
        [literal, ..] => (fold(*literal) == fold(byte)).then_some(1),
        [] => None,
    }
}

/// Whether `byte` is in the class that starts behind its bracket, and how long the class is.
fn class_fits(class: &[u8], byte: u8, fold: &dyn Fn(u8) -> u8) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &class[at..] {
            [] => break,
            [b'\\', literal, ..] => {
                found |= fold(*literal) == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                let (from, to) = (fold(*from.min(to)), fold(*from.max(to)));
                found |= (from..=to).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= fold(*literal) == byte;
                at += 1;
            }
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// The definition, by recursion on both: exponential, and plainly right.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|skipped| model(rest, &text[skipped..])),
            (_, []) => false,
            (_, [byte, text_rest @ ..]) => {
                step(pattern, *byte, false).is_some_and(|used| model(&pattern[used..], text_rest))
            }
        }
    }

    fn letters(of: &'static [u8], len_max: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(proptest::sample::select(of), 0..len_max)
    }

    proptest! {
        #[test]
        fn going_back_to_the_last_star_is_enough(
            pattern in letters(b"ab*?[]^-\\", 10),
            text in letters(b"ab-]", 10),
        ) {
            prop_assert_eq!(matches(&pattern, &text, false), model(&pattern, &text));
        }

        #[test]
        fn no_pattern_panics(pattern: Vec<u8>, text: Vec<u8>, ignore_case: bool) {
            matches(&pattern, &text, ignore_case);
        }
    }

    #[test]
    fn patterns_mean_what_redis_means() {
        for (pattern, text, expected) in [
            ("h?llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[z-a]llo", "hello", true),
            ("h[e", "he", true),
            ("[", "", false),
            ("a\\", "a\\", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a[\\]]b", "a]b", true),
            ("*", "", true),
            ("", "", true),
            ("**a*", "bab", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes(), false),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(matches(b"APPEND[A-C]*", b"appendbly", true));
    }

    #[test]
    fn many_stars_take_no_time() {
        let text = [b'a'; 4096];
        let mut pattern: Vec<u8> = b"*a".repeat(32);
        pattern.push(b'b');
        assert!(!matches(&pattern, &text, false));
    }
}
