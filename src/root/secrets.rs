//! Blanks the secrets in what is captured. A capture is sent to strangers, so whatever may be a secret by its name is taken for
//! one; what a judgement rests on (booleans, variables, the shape of the file) stays.

use std::path::Path;

/// What stands in place of a secret.
const BLANK: &str = "BLANKED";

/// Parts of a name (`--token`, `password:`, `staticPodURLHeader`) that make its value a secret.
const SECRET: [&str; 7] = ["token", "passw", "secret", "key", "header", "auth", "credential"];

/// Values that tell nothing by themselves, and that the kubelet minds.
const KEPT: [&str; 10] = ["true", "false", "t", "f", "1", "0", "yes", "no", "on", "off"];

/// What stands between words, in arguments as in YAML, JSON and TOML.
const BETWEEN: [char; 11] = [' ', '\t', '\r', '\n', ',', ':', '=', '{', '}', '[', ']'];

/// The content of the file at `path` without its secrets. The kernel's own files hold none, but for its command line.
pub(super) fn blank(path: &Path, content: Vec<u8>) -> Vec<u8> {
    let is_kernels = ["/proc", "/sys", "/boot"].iter().any(|folder| path.starts_with(folder));
    let is_command_line = path.ends_with("cmdline");
    if is_kernels && !is_command_line {
        return content;
    }
    // A byte is a character here, so that a file that is no text keeps what is wrong with it.
    let text: String = content.into_iter().map(char::from).collect();
    let blanked = match is_command_line {
        true => text.split_inclusive(' ').map(blank_text).collect(),
        false => blank_text(&text),
    };
    blanked.chars().filter_map(|character| u8::try_from(character).ok()).collect()
}

fn blank_text(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    // How deep the name stands whose lines below are secret; an argument's value may stand on the next line as deep as its name.
    let mut above: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let body = line.trim_start();
        let indent = line.len() - body.len() + 1;
        let is_below = |above: usize| indent > above || indent == above && body.starts_with(['-', ']', '}']);
        let is_argument = body.starts_with("--");
        above = above.filter(|above| body.is_empty() || is_below(*above) && !is_argument);
        let ends_secret = blank_line(line, above.is_some(), &mut blanked);
        if above.is_none() && ends_secret {
            above = Some(if is_argument { indent - 1 } else { indent });
        }
    }
    blanked
}

/// Copies a line, all of it secret if it is `inside`; whether it ends with a secret's value, or with its name.
fn blank_line(line: &str, inside: bool, blanked: &mut String) -> bool {
    // The depth in brackets of the name whose value is being passed over.
    let (mut depth, mut secret) = (0_usize, inside.then_some(0));
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (word, after) = rest.split_at(length_of_word(rest, first));
        rest = after;
        if BETWEEN.contains(&first) {
            depth = match first {
                '{' | '[' => depth + 1,
                '}' | ']' => depth.saturating_sub(1),
                _ => depth,
            };
            let is_past = |name: usize| depth < name || first == ',' && depth == name && depth > 0;
            secret = secret.filter(|name| inside || !is_past(*name));
            blanked.push_str(word);
        } else if word.starts_with("--") || secret.is_none() {
            secret = names_secret(word, after).then_some(depth);
            blanked.push_str(word);
        } else {
            blanked.push_str(if is_kept(word) { word } else { BLANK });
        }
    }
    secret.is_some()
}

/// The bytes of what `rest` begins with: a string in quotes, a variable, a word, or one character between words.
fn length_of_word(rest: &str, first: char) -> usize {
    let through = |end: char| rest.char_indices().skip(1).find(|(_, c)| *c == end).map(|(at, c)| at + c.len_utf8());
    let length = match first {
        '"' | '\'' => through(first),
        '$' if rest.starts_with("${") => through('}'),
        first if BETWEEN.contains(&first) => Some(first.len_utf8()),
        _ => rest.char_indices().skip(1).find(|(_, c)| *c == '$' || BETWEEN.contains(c)).map(|(at, _)| at),
    };
    length.unwrap_or(rest.len())
}

/// Whether `word` is the name of a secret, with its value behind it.
fn names_secret(word: &str, after: &str) -> bool {
    let name = word.to_ascii_lowercase();
    let has_value = word.starts_with("--") || after.trim_start().starts_with([':', '=']);
    has_value && SECRET.iter().any(|part| name.contains(part))
}

/// A variable is not the secret that it stands for, and whether its value is known is a finding.
fn is_kept(word: &str) -> bool {
    let plain = word.trim_matches(['"', '\'']).to_ascii_lowercase();
    plain.starts_with('$') || plain.starts_with('-') && plain.len() == 1 || KEPT.contains(&plain.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> String {
        String::from_utf8(blank(Path::new("/var/x"), text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn arguments() {
        for (args, expected) in [
            ("--token=abc== --v=2\n", "--token=BLANKED== --v=2\n"),
            ("--token abc\n--v=2", "--token BLANKED\n--v=2"),
            ("--bearer_token\nabc\n--v=2", "--bearer_token\nBLANKED\n--v=2"),
            ("--password=\"a b\"", "--password=BLANKED"),
            ("--password=a:b,c", "--password=BLANKED:BLANKED,BLANKED"),
            ("--authentication-token-webhook=true\n--x=y", "--authentication-token-webhook=true\n--x=y"),
            ("--tls-private-key-file=${SNAP_DATA}/k", "--tls-private-key-file=${SNAP_DATA}BLANKED"),
            ("--cgroup-root=/a --cgroups-per-qos=false", "--cgroup-root=/a --cgroups-per-qos=false"),
        ] {
            assert_eq!(blanked(args), expected);
        }
    }

    #[test]
    fn settings() {
        for (text, expected) in [
            ("a: b\npassword: x, y\nc: d\n", "a: b\npassword: BLANKED, BLANKED\nc: d\n"),
            ("password = \"a b\"\nx = 1", "password = BLANKED\nx = 1"),
            (
                "staticPodURLHeader:\n  Authorization:\n  - Bearer a:b\nx: y",
                "staticPodURLHeader:\n  BLANKED:\n  - BLANKED BLANKED:BLANKED\nx: y",
            ),
            (
                "{\"h\":{\"token\":\"x\",\"a\":\"b\"},\"c\":\"d\"}",
                "{\"h\":{\"token\":BLANKED,\"a\":\"b\"},\"c\":\"d\"}",
            ),
            (
                "{\n \"header\": {\n  \"a\": [\"x\"]\n },\n \"c\": \"d\"\n}",
                "{\n \"header\": {\n  BLANKED: [BLANKED]\n },\n \"c\": \"d\"\n}",
            ),
            ("keys:\n- a\n- b\nx: y", "keys:\n- BLANKED\n- BLANKED\nx: y"),
            ("# password: x\n", "# password: BLANKED\n"),
        ] {
            assert_eq!(blanked(text), expected);
        }
    }

    #[test]
    fn only_what_is_not_the_kernels() {
        let stat = b"1 (key=x) S".to_vec();
        assert_eq!(blank(Path::new("/proc/1/stat"), stat.clone()), stat);
        let line = blank(Path::new("/proc/cmdline"), b"a.credential=b:c cgroup_disable=memory\n".to_vec());
        assert_eq!(line, b"a.credential=BLANKED:BLANKED cgroup_disable=memory\n");
        assert_eq!(blank(Path::new("/var/x"), b"\xff\x00".to_vec()), b"\xff\x00");
    }
}
