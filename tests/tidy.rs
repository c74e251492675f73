//! Tidy: the architecture and the style of this crate, as tests.
//!
//! - The layers are read from the table in `docs/ARCHITECTURE.md`; nothing here repeats them.
//! - A checker is a function from texts to complaints. It is run over the crate, and in a test of its own over planted
//!   violations, so that a checker that sees nothing is noticed.
//! - Words and paths are looked for in code alone: comments and literals are blanked out first, byte for byte.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const FILE_LINES: usize = 600;
const MEDIAN_LINES: usize = 200;
const FUNCTION_LINES: usize = 70;

/// The layers that decide: nothing in them waits, and nothing in them differs from one run to the next.
const DETERMINISTIC: [&str; 7] = ["base", "format", "store", "commit", "primitive", "shard", "disk"];

/// What they must not name, as part of a path, and what to use instead.
const NONDETERMINISM: [(&str, &str); 26] = [
    ("Instant", "take the time as an argument"),
    ("SystemTime", "take the time as an argument"),
    ("std::fs", "files belong to runtime"),
    ("std::net", "belongs to runtime"),
    ("std::env", "belongs to runtime"),
    ("std::process", "belongs to runtime"),
    ("std::thread", "threads belong to runtime"),
    ("thread_local", "keep state in the shard"),
    ("async", "nothing here suspends: return an effect"),
    ("await", "nothing here suspends: return an effect"),
    ("tokio", "belongs to callers"),
    ("futures", "belongs to runtime"),
    ("flume", "belongs to runtime"),
    ("rand", "take the number in the command"),
    ("fastrand", "take the number in the command"),
    ("getrandom", "take the number in the command"),
    ("RunId::new", "take the id in the command"),
    ("RandomState", "use foldhash::fast::FixedState"),
    ("DefaultHasher", "use foldhash::fast::FixedState"),
    ("HashMap::new", "use HashMap::with_hasher and a fixed hasher, or BTreeMap"),
    ("HashMap::from", "use HashMap::with_hasher and a fixed hasher, or BTreeMap"),
    ("HashMap::with_capacity", "use HashMap::with_hasher and a fixed hasher, or BTreeMap"),
    ("HashSet::new", "use HashSet::with_hasher and a fixed hasher, or BTreeSet"),
    ("HashSet::from", "use HashSet::with_hasher and a fixed hasher, or BTreeSet"),
    ("HashSet::with_capacity", "use HashSet::with_hasher and a fixed hasher, or BTreeSet"),
    ("Uuid", "take the id in the command"),
];

/// Callers make ids before an operation reaches a shard; the type that does it is at the bottom.
const MAY_NAME: [(&str, &str); 1] = [("src/base/run_id.rs", "Uuid")];

/// The kernel, and another store's interface.
const UNSAFE_IN: [&str; 3] = ["src/runtime/sys.rs", "benches/peers/src/stores.rs", "benches/support/raw_device.rs"];
const GLOMMIO_IN: &str = "src/runtime/glommio/";
/// The binaries: crates of their own, which see the library's public names only.
const BINARIES: &str = "src/bin/";

const TOP_LEVEL: [&str; 15] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "examples",
    "benches",
    "fuzz",
    "tests",
    "docs",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "CHANGELOG.md",
    "deny.toml",
    "clippy.toml",
    "rustfmt.toml",
];

/// A Rust file.
struct Source {
    /// From the crate's root, with slashes.
    path: String,
    text: String,
    /// The text without comments and literals.
    code: String,
    /// The code without what is compiled for tests only.
    shipped: String,
    /// How many lines are not part of an item that is compiled for tests only.
    lines: usize,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = without_literals(text);
        let mut shipped = code.clone();
        let mut lines = text.lines().count();
        for item in test_items(&code) {
            lines -= code[item.clone()].lines().count();
            shipped = blank(&shipped, item);
        }
        Self { path: path.into(), text: text.into(), code, shipped, lines }
    }

    /// The names of the modules from the crate's root to this file.
    fn modules(&self) -> Vec<&str> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inner.split('/').filter(|name| !matches!(*name, "mod" | "lib")).collect()
    }

    fn complaint(&self, offset: usize, what: &str) -> String {
        let line = self.code[..offset].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }
}

// Reading Rust: as much of it as the checkers need.

fn blank(text: &str, range: Range<usize>) -> String {
    let spaces: String = text[range.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    [&text[..range.start], &spaces, &text[range.end..]].concat()
}

/// The same text with every comment and literal blanked out.
fn without_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let end = literal_end(text, at);
        if end == at {
            code.push(next);
            at += next.len_utf8();
        } else {
            code.extend(text[at..end].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `at` if none does.
fn literal_end(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let find =
        |pattern: &str, from: usize| rest[from..].find(pattern).map_or(rest.len(), |to| from + to + pattern.len());
    let length = if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment_length(rest)
    } else if rest.starts_with('"') {
        quoted_length(rest, '"')
    } else if rest.starts_with("'\\") {
        quoted_length(rest, '\'')
    } else if rest.starts_with('\'') {
        let mut inside = rest.char_indices().skip(2);
        inside.next().filter(|(_, close)| *close == '\'').map_or(0, |(close, _)| close + 1)
    } else if rest.starts_with('r') && !text[..at].ends_with(|before: char| is_word(before) && !"bc".contains(before)) {
        let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
        let is_raw = rest[1 + hashes..].starts_with('"');
        if is_raw { find(&format!("\"{}", "#".repeat(hashes)), 2 + hashes) } else { 0 }
    } else {
        0
    };
    at + length
}

fn block_comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match text.as_bytes()[at..] {
            [b'/', b'*', ..] => 1,
            [b'*', b'/', ..] => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, next) in text.char_indices().skip(1) {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if next == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Words, `::` and single other characters, each with its offset.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(next) = code[at..].chars().next() {
        let rest = &code[at..];
        let length = if is_word(next) {
            rest.find(|char| !is_word(char)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            next.len_utf8()
        };
        if !next.is_whitespace() {
            tokens.push((at, &rest[..length]));
        }
        at += length;
    }
    tokens
}

/// Every path, `use` groups written out: `use a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(code: &str) -> Vec<(usize, String)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = read_path(&tokens, at, "", &mut found).max(at + 1);
    }
    found
}

/// Reads the path that starts at a token. Returns the token behind it.
fn read_path(tokens: &[(usize, &str)], start: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let mut path = String::from(prefix);
    let mut at = start;
    loop {
        match tokens.get(at) {
            Some((_, word)) if word.starts_with(is_word) => path.push_str(word),
            Some((_, "{")) if path.ends_with("::") => {
                at += 1;
                while !matches!(tokens.get(at), None | Some((_, "}"))) {
                    at = read_path(tokens, at, &path, found).max(at + 1);
                }
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        if !matches!(tokens.get(at), Some((_, "::"))) {
            break;
        }
        path.push_str("::");
        at += 1;
    }
    if path.len() > prefix.len() {
        found.push((tokens[start].0, path));
    }
    at
}

/// The offset behind the brace that closes the first one at or behind `from`.
fn braces_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, char) in code[from..].char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 1 => return from + at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The offset of the first `{` or `;` that is in no parentheses or brackets.
fn body_start(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, char) in code[from..].char_indices() {
        match char {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' | ';' if depth == 0 => return Some(from + at),
            _ => {}
        }
    }
    None
}

/// The items that are compiled for tests only, each with its attribute and the whole of its lines.
fn test_items(code: &str) -> Vec<Range<usize>> {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(found) = code[at..].find(ATTRIBUTE) {
        let start = at + found;
        let is_use = code[start + ATTRIBUTE.len()..].trim_start().starts_with("use ");
        let end = match body_start(code, start + ATTRIBUTE.len()) {
            Some(body) if code[body..].starts_with(';') => body + 1,
            Some(body) if is_use => code[body..].find(';').map_or(code.len(), |end| body + end + 1),
            Some(body) => braces_end(code, body),
            None => code.len(),
        };
        items.push(start..end);
        at = end;
    }
    items
}

/// The modules that are written out inside a file.
fn inline_modules(code: &str) -> Vec<Range<usize>> {
    let tokens = tokens(code);
    let heads = tokens.windows(3).filter(|window| window[0].1 == "mod" && window[2].1 == "{");
    heads.map(|window| window[0].0..braces_end(code, window[0].0)).collect()
}

// The layers.

struct Layer {
    number: u32,
    module: String,
    may_import: Vec<String>,
}

/// The rows of the table whose head is `| layer | module | may import |`.
fn layers(document: &str) -> Vec<Layer> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let rows = document.lines().skip_while(|line| cells(line) != ["layer", "module", "may import"]).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(cells);
    let layer = |row: Vec<String>| {
        let may_import = row.get(2)?.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        Some(Layer { number: row[0].parse().ok()?, module: row[1].clone(), may_import: may_import.collect() })
    };
    rows.filter_map(layer).collect()
}

/// The table itself: it names every module, and imports point downward.
fn check_table(layers: &[Layer], sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for layer in layers {
        for name in &layer.may_import {
            if !layers.iter().any(|below| below.module == *name && below.number < layer.number) {
                complaints.push(format!("the table lets {} import {name}, which is no layer below it", layer.module));
            }
        }
    }
    for source in sources {
        if let Some(module) = source.modules().first()
            && !layers.iter().any(|layer| layer.module == *module)
        {
            complaints.push(format!("{}: the table of layers does not name the module {module}", source.path));
        }
    }
    complaints
}

fn check_imports(source: &Source, layers: &[Layer]) -> Vec<String> {
    if source.path.starts_with(BINARIES) {
        return check_binary(source);
    }
    let modules = source.modules();
    let Some(layer) = layers.iter().find(|layer| Some(&layer.module.as_str()) == modules.first()) else {
        return Vec::new();
    };
    let inline = inline_modules(&source.code);
    let mut complaints = Vec::new();
    for (offset, path) in paths(&source.code) {
        let mut segments = path.split("::");
        let what = match (segments.next(), segments.next()) {
            (Some("crate"), Some(target)) if target == layer.module => continue,
            (Some("crate"), Some(target)) if layer.may_import.iter().any(|name| name == target) => continue,
            (Some("crate"), Some(target)) if layers.iter().any(|layer| layer.module == target) => {
                format!("{} may not import {target}: {path}", layer.module)
            }
            (Some("crate"), Some(_)) => format!("name the layer instead of what the crate's root exports: {path}"),
            (Some("super"), Some(_)) => {
                let up = path.split("::").take_while(|segment| *segment == "super").count();
                let depth = modules.len() + inline.iter().filter(|module| module.contains(&offset)).count();
                if up < depth {
                    continue;
                }
                format!("write a path to another layer as crate::LAYER: {path}")
            }
            _ => continue,
        };
        complaints.push(source.complaint(offset, &what));
    }
    complaints
}

/// The compiler keeps a binary to the public names, as long as it compiles no file of the library into itself.
fn check_binary(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let taken = tokens
        .windows(3)
        .filter(|window| matches!([window[0].1, window[1].1, window[2].1], ["include", "!", _] | ["#", "[", "path"]));
    taken.map(|window| source.complaint(window[0].0, "a binary sees in_mem:: only: it takes no files in")).collect()
}

/// The crate, not our module of that name.
fn check_glommio(source: &Source) -> Vec<String> {
    if source.path.starts_with(GLOMMIO_IN) {
        return Vec::new();
    }
    let named = paths(&source.code).into_iter().filter(|(offset, path)| {
        path.starts_with("glommio::") || path == "glommio" && source.code[..*offset].trim_end().ends_with("use")
    });
    named
        .map(|(offset, path)| source.complaint(offset, &format!("glommio is named outside its driver: {path}")))
        .collect()
}

fn check_unsafe(source: &Source) -> Vec<String> {
    let found = tokens(&source.code).into_iter().filter(|(_, word)| *word == "unsafe");
    let found = found.filter(|_| !UNSAFE_IN.contains(&source.path.as_str()));
    found.map(|(offset, _)| source.complaint(offset, &format!("unsafe code belongs to {}", UNSAFE_IN[0]))).collect()
}

/// Whether a path has these segments somewhere.
fn contains_path(path: &str, part: &str) -> bool {
    format!("::{path}::").contains(&format!("::{part}::"))
}

fn check_determinism(source: &Source) -> Vec<String> {
    if !source.modules().first().is_some_and(|layer| DETERMINISTIC.contains(layer)) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (offset, path) in paths(&source.shipped) {
        for (banned, instead) in NONDETERMINISM {
            if contains_path(&path, banned) && !MAY_NAME.contains(&(source.path.as_str(), banned)) {
                complaints.push(source.complaint(offset, &format!("{banned}: {instead}")));
            }
        }
    }
    complaints.extend(unhashed_maps(source));
    complaints
}

/// Hash maps and sets whose type names no hasher.
fn unhashed_maps(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.shipped);
    let mut complaints = Vec::new();
    for (at, (offset, word)) in tokens.iter().enumerate() {
        let parameters = match *word {
            "HashMap" => 3,
            "HashSet" => 2,
            _ => continue,
        };
        if !matches!(tokens.get(at + 1), Some((_, "<"))) {
            continue;
        }
        let mut depth = 0;
        let mut found = 1;
        for (_, token) in &tokens[at + 1..] {
            match *token {
                "<" | "(" | "[" => depth += 1,
                ">" | ")" | "]" => depth -= 1,
                "," if depth == 1 => found += 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        if found < parameters {
            complaints.push(source.complaint(*offset, &format!("{word} without a fixed hasher")));
        }
    }
    complaints
}

// The style.

fn check_head(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![source.complaint(0, "the file has no head: start it with //! and what is always true here")]
}

fn check_file_lengths(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().filter(|source| source.lines > FILE_LINES);
    let mut complaints: Vec<String> =
        long.map(|source| format!("{}: {} lines, at most {FILE_LINES}", source.path, source.lines)).collect();
    let mut lengths: Vec<usize> = sources.iter().map(|source| source.lines).collect();
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(0);
    if median > MEDIAN_LINES {
        complaints.push(format!("the median of all files is {median} lines, at most {MEDIAN_LINES}"));
    }
    complaints
}

fn check_function_lengths(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let mut complaints = Vec::new();
    for window in tokens.windows(2) {
        let [(start, "fn"), (name_at, name)] = window else { continue };
        let Some(body) = body_start(&source.code, *name_at).filter(|body| source.code[*body..].starts_with('{')) else {
            continue;
        };
        let lines = source.code[*start..braces_end(&source.code, body)].lines().count();
        if name.starts_with(is_word) && lines > FUNCTION_LINES {
            let what = format!("the function {name} has {lines} lines, at most {FUNCTION_LINES}");
            complaints.push(source.complaint(*start, &what));
        }
    }
    complaints
}

fn check_leftovers(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for window in tokens(&source.code).windows(2) {
        if matches!(window[0].1, "todo" | "unimplemented" | "dbg") && window[1].1 == "!" {
            complaints.push(source.complaint(window[0].0, &format!("left over: {}", window[0].1)));
        }
    }
    for (offset, word) in tokens(&source.text) {
        if [concat!("FIX", "ME"), concat!("XX", "X")].contains(&word) {
            complaints.push(source.complaint(offset, &format!("left over: {word}")));
        }
    }
    complaints
}

fn check_ignored(source: &Source) -> Vec<String> {
    let attribute = concat!("#[", "ignore");
    let found = source.code.match_indices(attribute).filter(|(offset, _)| {
        let rest = source.text[offset + attribute.len()..].trim_start();
        let reason = rest.strip_prefix('=').map(str::trim_start).and_then(|rest| rest.strip_prefix('"'));
        reason.is_none_or(|reason| reason.starts_with('"'))
    });
    found.map(|(offset, _)| source.complaint(offset, "an ignored test says why and how it is run")).collect()
}

/// The targets of a document's links that are files of the project.
fn links(document: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in document.lines() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let reference = prose.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
        for target in inline.chain(reference) {
            let file = target.split(['#', ' ']).next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") {
                links.push(file.to_owned());
            }
        }
    }
    links
}

fn check_links(path: &str, document: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let directory = Path::new(path).parent().unwrap_or(Path::new(""));
    let broken = links(document).into_iter().filter(|link| !exists(&directory.join(link)));
    broken.map(|link| format!("{path}: the link {link} leads nowhere")).collect()
}

/// Dependencies of a manifest for which a document gives no reason: no row of a table starts with their name.
fn check_dependencies(manifest: &str, document: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut is_inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| is_inside) {
            let row = format!("| `{}` |", name.trim());
            if !document.lines().any(|line| line.starts_with(&row)) {
                complaints.push(format!("docs/DEPENDENCIES.md gives no reason for {}", name.trim()));
            }
        }
    }
    complaints
}

/// `ignored` is what the version control does not keep.
fn check_top_level<'a>(entries: impl Iterator<Item = &'a str>, ignored: &str) -> Vec<String> {
    let is_known = |entry: &str| {
        entry.starts_with('.')
            || TOP_LEVEL.contains(&entry)
            || ignored.lines().any(|line| line.trim_matches('/') == entry)
    };
    entries.filter(|entry| !is_known(entry)).map(|entry| format!("{entry}: not at the top level")).collect()
}

// The crate.

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// The paths, from the crate's root, of all files with this extension below some folders.
fn files(folders: &[&str], extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(entries(&path));
        } else if path.extension().is_some_and(|found| found == extension) {
            let inner = path.strip_prefix(root()).unwrap_or(&path);
            found.push(inner.to_string_lossy().replace('\\', "/"));
        }
    }
    found.sort();
    found
}

fn sources(folders: &[&str]) -> Vec<Source> {
    files(folders, "rs").iter().map(|path| Source::new(path, &read(&root().join(path)))).collect()
}

/// The files of a module that a parent declares for tests only: nothing in them is shipped.
fn is_for_tests_only(source: &Source, sources: &[Source]) -> bool {
    sources.iter().any(|parent| {
        let folder = ["/lib.rs", "/mod.rs", ".rs"].iter().find_map(|end| parent.path.strip_suffix(end));
        let inner = folder.and_then(|folder| source.path.strip_prefix(folder)?.strip_prefix('/'));
        let Some(name) = inner.map(|inner| inner.trim_end_matches(".rs").split('/').next().unwrap_or_default()) else {
            return false;
        };
        let items = test_items(&parent.code).into_iter().map(|item| &parent.code[item]);
        items.into_iter().any(|item| item.trim_end().ends_with(&format!("mod {name};")))
    })
}

fn assert_none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn architecture() -> Vec<Layer> {
    layers(&read(&root().join("docs/ARCHITECTURE.md")))
}

#[test]
fn imports_point_downward() {
    let (layers, sources) = (architecture(), sources(&["src"]));
    assert!(layers.len() >= DETERMINISTIC.len(), "the table of layers is in docs/ARCHITECTURE.md");
    assert_none(check_table(&layers, &sources));
    assert_none(sources.iter().flat_map(|source| check_imports(source, &layers)));
}

#[test]
fn glommio_is_named_in_its_driver_only() {
    assert_none(sources(&["src"]).iter().flat_map(check_glommio));
}

#[test]
fn unsafe_code_is_in_one_file() {
    assert_none(sources(&["src", "tests", "examples", "benches"]).iter().flat_map(check_unsafe));
}

#[test]
fn the_layers_that_decide_are_deterministic() {
    let sources = sources(&["src"]);
    let shipped = sources.iter().filter(|source| !is_for_tests_only(source, &sources));
    assert_none(shipped.flat_map(check_determinism));
}

#[test]
fn every_file_has_a_head() {
    assert_none(sources(&["src", "tests", "examples", "benches"]).iter().flat_map(check_head));
}

#[test]
fn files_and_functions_are_short() {
    let sources = sources(&["src"]);
    let functions = sources.iter().flat_map(check_function_lengths);
    assert_none(check_file_lengths(&sources).into_iter().chain(functions));
}

#[test]
fn nothing_is_left_over_and_nothing_is_ignored_without_a_reason() {
    let sources = sources(&["src", "tests", "examples", "benches"]);
    assert_none(sources.iter().flat_map(|source| [check_leftovers(source), check_ignored(source)].concat()));
}

#[test]
fn links_in_documents_resolve() {
    let mut documents = files(&["docs"], "md");
    documents
        .extend(["README.md", "CHANGELOG.md"].map(String::from).into_iter().filter(|path| root().join(path).exists()));
    let check = |path: &String| check_links(path, &read(&root().join(path)), |file| root().join(file).exists());
    assert_none(documents.iter().flat_map(check));
}

#[test]
fn every_dependency_has_a_reason() {
    assert_none(check_dependencies(&read(&root().join("Cargo.toml")), &read(&root().join("docs/DEPENDENCIES.md"))));
}

#[test]
fn the_top_level_is_as_agreed() {
    let entries = entries(&root());
    let names = entries.iter().filter_map(|entry| entry.file_name()?.to_str());
    assert_none(check_top_level(names, &read(&root().join(".gitignore"))));
}

// The checkers themselves.

fn source(text: &str) -> Source {
    Source::new("src/shard/planted.rs", text)
}

fn planted_layers() -> Vec<Layer> {
    layers(
        "| layer | module | may import |\n|---|---|---|\n| 0 | `base` | |\n| 5 | `shard` | base |\n\
         | 6 | `runtime` | `base`, `shard` |\n| 6 | `sim` | base, shard |\n\n| 9 | other | |\n",
    )
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "a \"x\\\"::y\" b r#\"c\"::d\"# 'e' '\\'' 'f: // g\n/* h /* i */ j */ k b\"l\" br\"m\\\" 'n' for";
    let words: Vec<_> = tokens(&without_literals(text)).into_iter().map(|(_, word)| word.to_owned()).collect();
    assert_eq!(words, ["a", "b", "'", "f", ":", "k", "b", "b", "for"]);
    assert_eq!(without_literals(text).len(), text.len());
}

#[test]
fn groups_are_written_out_as_paths() {
    let found: Vec<_> = paths("use a::{b, c::{d, e as f}}; x.g::<h>()").into_iter().map(|(_, path)| path).collect();
    let expected = ["use", "a::b", "a::c::d", "a::c::e", "a::c::as", "a::c::f", "x", "g::", "h"];
    assert_eq!(found, expected);
}

#[test]
fn items_for_tests_are_not_counted() {
    let source = source(
        "//! H.\n#[cfg(test)]\nuse a::{b};\nfn c() {}\n#[cfg(test)]\nconst D: [u8; 1] = [0];\n\
                         #[cfg(test)]\nmod tests {\n fn e() {}\n}\nfn f() {}\n",
    );
    assert_eq!(source.lines, 3);
    assert_eq!(tokens(&source.shipped).iter().filter(|(_, word)| *word == "fn").count(), 2);
}

#[test]
fn planted_imports_are_noticed() {
    let layers = planted_layers();
    let check = |text: &str| check_imports(&source(text), &layers).len();
    assert_eq!(check("use crate::base::key; use super::log; mod t { use super::super::log; }"), 0);
    assert_eq!(check("use crate::{base::key, runtime::clock};"), 1);
    assert_eq!(check("fn f() { crate::sim::run() }"), 1);
    assert_eq!(check("use super::super::runtime::clock;"), 1);
    assert_eq!(check("use crate::Database;"), 1);
    let twin = Source::new("src/sim/mesh.rs", "use crate::runtime::mesh;");
    assert_eq!(check_imports(&twin, &layers).len(), 1);
    assert!(check_table(&layers, &[twin]).is_empty());
    assert_eq!(check_table(&layers, &[Source::new("src/new.rs", "")]).len(), 1);
    let binary = |text: &str| check_imports(&Source::new("src/bin/tool/main.rs", text), &layers).len();
    assert_eq!(binary("use crate::table::Table; use in_mem::blocking::Database;"), 0);
    assert_eq!(binary("#[path = \"../../base/key.rs\"] mod key; fn f() { include!(\"../../base/key.rs\") }"), 2);
    let upward = "| layer | module | may import |\n|-|-|-|\n| 0 | base | shard |\n| 5 | shard | |\n";
    assert_eq!(check_table(&self::layers(upward), &[]).len(), 1);
}

#[test]
fn planted_glommio_and_unsafe_code_are_noticed() {
    for text in ["use glommio::io::DmaFile;", "use glommio;", "fn f() { ::glommio::executor() }"] {
        assert_eq!(check_glommio(&source(text)).len(), 1, "{text}");
    }
    assert!(check_glommio(&source("mod glommio; use super::glommio::thread; // glommio::io")).is_empty());
    assert!(check_glommio(&Source::new("src/runtime/glommio/worker.rs", "use glommio::io::X;")).is_empty());
    assert_eq!(check_unsafe(&source("fn f() { unsafe { g() } }")).len(), 1);
    assert!(check_unsafe(&source("#[expect(unsafe_code)] // unsafe")).is_empty());
    assert!(check_unsafe(&Source::new(UNSAFE_IN[0], "unsafe fn f() {}")).is_empty());
}

#[test]
fn planted_nondeterminism_is_noticed() {
    let planted = [
        "use std::{fs, io};",
        "fn f() { let t = std::time::Instant::now(); }",
        "use std::time::{Duration, SystemTime};",
        "fn f() { thread_local! {} }",
        "fn f() { g().await }",
        "async fn f() {}",
        "fn f() { RunId::new() }",
        "fn f() -> u8 { rand::random() }",
        "fn f() { Uuid::now_v7() }",
        "struct S { m: HashMap<u8, Vec<(u8, u8)>> }",
        "fn f() { let s: HashSet<u8> = x; }",
        "fn f() { HashMap::new() }",
    ];
    for text in planted {
        assert_eq!(check_determinism(&source(text)).len(), 1, "{text}");
    }
    let fine = "struct S { m: HashMap<u8, (u8, u8), FixedState> } use std::io; #[cfg(test)] mod t { use std::fs; }";
    assert_eq!(check_determinism(&source(fine)), Vec::<String>::new());
    assert!(check_determinism(&Source::new("src/base/run_id.rs", "fn f() { Uuid::now_v7() }")).is_empty());
    assert!(check_determinism(&Source::new("src/runtime/x.rs", "use std::fs;")).is_empty());
    let family = [source("#[cfg(test)] mod harness;"), Source::new("src/shard/planted/harness.rs", "")];
    assert!(is_for_tests_only(&family[1], &family) && !is_for_tests_only(&family[0], &family));
}

#[test]
fn planted_lengths_and_missing_heads_are_noticed() {
    assert_eq!(check_head(&source("use a;\n")).len(), 1);
    assert!(check_head(&source("//! Head.\n")).is_empty());
    let long = source(&"a;\n".repeat(FILE_LINES + 1));
    assert_eq!(check_file_lengths(&[long]).len(), 2, "the file and the median");
    let mostly_tests = format!("a;\n#[cfg(test)]\nmod t {{\n{}}}\n", "b;\n".repeat(FILE_LINES));
    assert!(check_file_lengths(&[source(&mostly_tests)]).is_empty());
    let function = |lines: usize| source(&format!("fn f(x: [u8; 2]) {{\n{}}}\nfn g();\n", "a;\n".repeat(lines - 2)));
    assert!(check_function_lengths(&function(FUNCTION_LINES)).is_empty());
    assert_eq!(check_function_lengths(&function(FUNCTION_LINES + 1)).len(), 1);
}

#[test]
fn planted_leftovers_are_noticed() {
    for text in [concat!("fn f() { to", "do!() }"), concat!("f(db", "g!(x))"), concat!("// FIX", "ME: later")] {
        assert_eq!(check_leftovers(&source(text)).len(), 1, "{text}");
    }
    assert!(check_leftovers(&source("let todo = \"dbg!\";")).is_empty());
    let ignored =
        |reason: &str| check_ignored(&source(&format!("{}{reason}] fn f() {{}}", concat!("#[", "ignore")))).len();
    assert_eq!([ignored(""), ignored(" = \"\""), ignored(" = \"slow: run with --ignored\"")], [1, 1, 0]);
}

#[test]
fn planted_links_dependencies_and_folders_are_noticed() {
    let document =
        "[a](A.md#b) [web](https://x.y) [self](#c) `[d](D.md)`\n```\n[e](E.md)\n```\n[f](../F.md)\n[g]: G.md\n";
    assert_eq!(links(document), ["A.md", "../F.md", "G.md"]);
    let complaints = check_links("docs/X.md", document, |path| path != Path::new("docs/../F.md"));
    assert_eq!(complaints, ["docs/X.md: the link ../F.md leads nowhere"]);
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\n[target.'cfg(unix)'.dependencies]\nb = \"1\"\n";
    let complaints = check_dependencies(manifest, "| `a` | why |\n");
    assert_eq!(complaints, ["docs/DEPENDENCIES.md gives no reason for b"]);
    let entries = ["src", ".ci", "target", "notes", "README.md"];
    assert_eq!(check_top_level(entries.into_iter(), "/target\n"), ["notes: not at the top level"]);
}
