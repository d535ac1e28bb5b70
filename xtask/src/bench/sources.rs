//! Where packages come from: the mirror that the host's own sources name, asked for Debian 13's packages.
//!
//! The host may be an older Debian, or another distribution. Its mirror is asked all the same, because it is the one that is
//! known to be within reach; without one, Debian's own.

/// Where Debian is found from everywhere.
const DEBIAN: &str = "http://deb.debian.org/debian";

/// The release that is asked for.
pub(super) const SUITE: &str = "trixie";

/// The mirror of Debian's main archive that the host's sources name. `files` are names and contents of the files under
/// `/etc/apt`; the first that names one counts.
pub(super) fn mirror(files: &[(String, String)]) -> String {
    files
        .iter()
        .flat_map(|(name, text)| {
            if name.ends_with(".sources") {
                stanzas(text)
            } else {
                lines(text)
            }
        })
        .find(|address| is_main_archive(address))
        .unwrap_or_else(|| DEBIAN.into())
}

/// The addresses in a file of the one-line style: `deb [options] address suite components`.
fn lines(text: &str) -> Vec<String> {
    let address = |line: &str| {
        let rest = line.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        rest.split_whitespace().next().map(String::from)
    };
    text.lines().filter_map(address).collect()
}

/// The addresses in a file of stanzas, of those that are not switched off.
fn stanzas(text: &str) -> Vec<String> {
    let mut addresses = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |wanted: &str| {
            let fields = stanza.lines().filter_map(|line| line.split_once(':'));
            let mut named = fields.filter(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
            named.next().map_or("", |(_, value)| value.trim())
        };
        let is_binary = field("Types").split_whitespace().any(|kind| kind == "deb");
        if is_binary && !field("Enabled").eq_ignore_ascii_case("no") {
            addresses.extend(field("URIs").split_whitespace().map(String::from));
        }
    }
    addresses
}

/// Whether `address` is that of the main archive, not of updates for security or of somebody else's packages.
fn is_main_archive(address: &str) -> bool {
    let last = address.trim_end_matches('/').rsplit('/').next();
    // The second is a list of mirrors, as images for clouds have it.
    !address.starts_with("cdrom:") && matches!(last, Some("debian" | "debian.list"))
}

/// A sources file for [`SUITE`] at `mirror`, whose signatures are checked against `keyring`.
pub(super) fn private(mirror: &str, keyring: &str) -> String {
    // Targets: no translations, no desktop's metadata; the packages alone are ten megabytes.
    format!(
        "Types: deb\nURIs: {mirror}\nSuites: {SUITE}\nComponents: main\nArchitectures: amd64\nTargets: Packages\nSigned-By: {keyring}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> String {
        let files: Vec<(String, String)> = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        mirror(&files)
    }

    #[test]
    fn the_hosts_own_mirror_is_found_in_either_style() {
        let one_line = "# deb http://old.example/debian bullseye main\n\
            deb-src http://source.example/debian bookworm main\n\
            deb cdrom:[Debian]/debian bookworm main\n\
            deb http://security.example/debian-security bookworm-security main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://near.example/debian/ bookworm main contrib\n";
        assert_eq!(of(&[("sources.list", one_line)]), "http://near.example/debian/");
        let stanzas = "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\n\n\
            Types: deb\nURIs: http://other.example/apt\nSuites: stable\n\n\
            Types: deb deb-src\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm\nComponents: main\n";
        assert_eq!(
            of(&[("x.sources", stanzas)]),
            "mirror+file:///etc/apt/mirrors/debian.list"
        );
        assert_eq!(
            of(&[
                ("a.list", "deb http://other.example/apt x y\n"),
                ("b.list", "deb http://b.example/debian x y\n")
            ]),
            "http://b.example/debian"
        );
    }

    #[test]
    fn without_one_it_is_debians_own() {
        for text in [
            "",
            "deb",
            "deb [",
            "deb [arch=amd64]",
            "debian http://x/debian",
            "deb http://x/ubuntu noble main",
        ] {
            assert_eq!(of(&[("sources.list", text)]), DEBIAN, "{text}");
        }
        assert_eq!(of(&[]), DEBIAN);
        assert_eq!(
            of(&[("x.sources", "URIs: http://x/debian\n")]),
            DEBIAN,
            "it says not of what type"
        );
    }

    #[test]
    fn the_private_file_asks_for_debian_13_and_checks_signatures() {
        let text = private("http://near.example/debian", "/keys.gpg");
        for line in [
            "URIs: http://near.example/debian",
            "Suites: trixie",
            "Signed-By: /keys.gpg",
            "Types: deb",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert_eq!(of(&[("p.sources", &text)]), "http://near.example/debian");
    }
}
