//! Imports point down: who may use whom is written in the docs of `src/lib.rs`, and this test reads it there.
//! A line of arrows orders the layers; what stands beside them is listed below.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules beside the layers: name, what they may use. A layer stands for all below it, too.
const BESIDE: &[(&str, &[&str])] = &[
    ("pace", &["error"]),
    ("processor", &["error"]),
    ("delivery", &["error", "weights", "pace"]),
    ("convert", &["models", "pace"]),
    ("bench", &["models", "pace"]),
    ("batch", &["tasks", "pace", "processor"]),
    ("parity", &["tasks", "pace", "processor", "delivery"]),
];

/// Modules beside the layers that layers may use: name, its users (and every layer above them).
const USED_FROM: &[(&str, &str)] = &[("pace", "weights"), ("processor", "tasks"), ("delivery", "api"), ("parity", "api"), ("bench", "api")];

#[test]
fn imports_point_down() {
    let allowed = allowed(&layers());
    let mut wrong = vec![];
    for file in rust_files(Path::new("src")) {
        let Some(module) = module_of(&file) else { continue };
        let allowed = allowed.get(&module).unwrap_or_else(|| panic!("src/lib.rs and tests/imports.rs say nothing of `{module}`"));
        for (line, used) in imports(&code(&file), depth_of(&file)) {
            if used != module && !allowed.contains(used.as_str()) {
                wrong.push(format!("{}:{line}: `{module}` must not use `{used}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point up:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_its_place() {
    let allowed = allowed(&layers());
    let lib = std::fs::read_to_string("src/lib.rs").unwrap();
    let declared: BTreeSet<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(declared.len() > 5, "found only {declared:?}");
    for module in declared {
        assert!(allowed.contains_key(module), "where does `{module}` stand? Say so in the docs of src/lib.rs or in tests/imports.rs");
    }
}

#[test]
fn the_reader_of_imports_sees_through_groups_comments_and_super() {
    let found = |text: &str, depth| imports(&strip(text), depth).into_iter().map(|(_, used)| used).collect::<Vec<_>>();
    assert_eq!(found("use crate::error::{Error, Result};", 1), ["error"]);
    assert_eq!(found("use crate::{error::Error, ops::{linear, norm}, weights};", 1), ["error", "ops", "weights"]);
    assert_eq!(found("use crate::{\n    error::Error, // crate::api\n    Result,\n};", 1), ["error", "error"]);
    assert_eq!(found("let x = crate::models::x(); /* crate::api */ // crate::tasks", 1), ["models"]);
    assert_eq!(found("/// See [`crate::tasks`].\npub(crate) fn f() { crate :: ops::f() }", 1), ["ops"]);
    assert_eq!(found("use super::super::ops::linear;", 2), ["ops"]);
    assert_eq!(found("use super::linear;", 2), Vec::<String>::new());
    assert_eq!(found("mod tests {\n    use super::super::linear;\n}", 2), Vec::<String>::new());
}

/// The layers from the bottom up, from the docs: ``a, b ← c ← d``. Names before one arrow stand side by side, each on those before it.
fn layers() -> Vec<String> {
    let lib = std::fs::read_to_string("src/lib.rs").unwrap();
    let docs: String = lib.lines().filter_map(|line| line.strip_prefix("//!")).collect();
    let order = docs.split('`').find(|span| span.contains('←')).expect("src/lib.rs shows the layers as `a, b ← c`");
    order.split(['←', ',']).map(|name| name.trim().to_string()).collect()
}

fn allowed(layers: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let place = |name: &str| layers.iter().position(|layer| layer == name).unwrap_or_else(|| panic!("`{name}` is no layer"));
    let mut allowed = BTreeMap::new();
    for (index, layer) in layers.iter().enumerate() {
        let mut may: BTreeSet<String> = layers[..index].iter().cloned().collect();
        may.extend(USED_FROM.iter().filter(|(_, from)| index >= place(from)).map(|(name, _)| name.to_string()));
        allowed.insert(layer.clone(), may);
    }
    for (name, uses) in BESIDE {
        let mut may = BTreeSet::new();
        for used in *uses {
            may.insert(used.to_string());
            may.extend(layers.iter().position(|layer| layer == used).map(|top| layers[..top].to_vec()).unwrap_or_default());
        }
        allowed.insert(name.to_string(), may);
    }
    allowed
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The module at the crate's root that a file belongs to; programs and lib.rs, which may use all, belong to none.
fn module_of(file: &Path) -> Option<String> {
    let first = file.strip_prefix("src").unwrap().components().next().unwrap();
    let name = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap();
    (name != "lib" && name != "bin").then(|| name.to_string())
}

/// How many modules deep a file is: `src/ops/mod.rs` 1, `src/ops/linear.rs` 2.
fn depth_of(file: &Path) -> usize {
    file.strip_prefix("src").unwrap().components().count() - usize::from(file.ends_with("mod.rs"))
}

fn code(file: &Path) -> String {
    strip(&std::fs::read_to_string(file).unwrap())
}

/// Without comments; lines keep their numbers.
fn strip(text: &str) -> String {
    let mut blocks = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("/*") {
        let end = rest[start..].find("*/").map_or(rest.len(), |end| start + end + 2);
        blocks.push_str(&rest[..start]);
        blocks.extend(rest[start..end].chars().filter(|&c| c == '\n'));
        rest = &rest[end..];
    }
    blocks.push_str(rest);
    blocks.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Every module at the root that is named after `crate::`, or after as many `super::` as lead there, with its line.
fn imports(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = vec![];
    let to_root = vec!["super"; depth].join("::");
    for root in ["crate", to_root.as_str()] {
        for (start, _) in code.match_indices(root) {
            let before = &code[..start];
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            // A module inside the file is one deeper than the file: there the same steps do not lead to the root.
            if root != "crate" && before.lines().last().is_some_and(|line| line.starts_with(' ')) {
                continue;
            }
            let Some(path) = code[start + root.len()..].trim_start().strip_prefix("::") else { continue };
            let line = before.matches('\n').count() + 1;
            found.extend(heads(path.trim_start()).into_iter().filter(|head| head != "super").map(|head| (line, head)));
        }
    }
    found
}

/// The first names of a path or of a group of paths: `{a::b, c::{d, e}}` has a and c. What begins with a capital is `error`'s, the only names that lib.rs passes on.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else { return vec![head(path)] };
    let (mut depth, mut at_start, mut heads) = (0, true, vec![]);
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if c.is_whitespace() => {}
            _ if at_start => {
                heads.push(head(&group[index..]));
                at_start = false;
            }
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> String {
    let name: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.starts_with(char::is_uppercase) { "error".into() } else { name }
}
