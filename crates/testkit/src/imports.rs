//! Which module of a crate imports which: for tests that hold a crate's layout.
//!
//! A *room* is what stands at the top of a crate: a folder with its page (`watch.rs` and `watch/`), or a single file. A
//! crate's test has a table of its rooms and of what each may import, from the ground up:
//!
//! ```no_run
//! const MAY_IMPORT: [(&str, &[&str]); 2] = [("client", &[]), ("lease", &["client"])];
//!
//! testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
//! ```
//!
//! What is checked, and reported all at once:
//!
//! - every room is in the table, and imports what the table says, no more and no less;
//! - a room stands below what imports it, so that the table reads from the ground up and has no circle;
//! - the same within each room: no circle between the files and folders that stand side by side. A child may import
//!   its own page (`use super::Api`), and a page its children.
//!
//! Counted is what is compiled into the crate: `use` declarations, re-exports, paths in code and in macros. Not
//! counted: modules under `#[cfg(test)]`, documentation, and other crates.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

mod source;

use source::Source;

/// Every module of a crate, and the modules that it imports. Modules are written as paths from the crate's root
/// (`watch::engine`); the root itself is left out.
#[derive(Debug)]
pub struct Imports(BTreeMap<String, BTreeSet<String>>);

/// Checks the layout of the crate whose manifest is in `manifest_folder`, see the [module](self).
///
/// # Panics
///
/// With every fault, a line each; or when the sources cannot be read.
pub fn assert_layout(manifest_folder: &str, table: &[(&str, &[&str])]) {
    let faults = Imports::read(&Path::new(manifest_folder).join("src")).faults(table);
    assert!(faults.is_empty(), "the layout of {manifest_folder}:\n  {}", faults.join("\n  "));
}

// === impl Imports ===

impl Imports {
    /// Reads a crate's sources; binaries below `bin` are crates of their own.
    ///
    /// # Panics
    ///
    /// A file cannot be read, or is not Rust.
    pub fn read(src: &Path) -> Self {
        let mut sources = BTreeMap::new();
        read_folder(src, "", &mut sources);
        let arrows = sources.iter().map(|(module, source)| {
            let targets = source.paths.iter().map(|path| module_of(path, &sources));
            (module.clone(), targets.filter(|target| target != module && !target.is_empty()).collect())
        });
        Self(arrows.filter(|(module, _): &(String, _)| !module.is_empty()).collect())
    }

    /// What is not as the table of rooms says, a sentence each.
    pub fn faults(&self, table: &[(&str, &[&str])]) -> Vec<String> {
        let mut faults = self.faults_of_rooms(table);
        faults.extend(self.circles().iter().map(|circle| format!("a circle: {}", circle.join(" → "))));
        faults
    }

    fn faults_of_rooms(&self, table: &[(&str, &[&str])]) -> Vec<String> {
        let allowed: BTreeMap<&str, &[&str]> = table.iter().copied().collect();
        let rooms: BTreeSet<&str> = self.0.keys().map(|module| room(module)).collect();
        let arrows = self.arrows_between_rooms();
        let unknown = rooms.iter().filter(|room| !allowed.contains_key(*room));
        let mut faults: Vec<String> =
            unknown.map(|room| format!("`{room}` is not in the table: say what it may import")).collect();
        for (index, (from, imports)) in table.iter().enumerate() {
            if !rooms.contains(from) {
                faults.push(format!("`{from}` is in the table and not in the crate"));
            }
            for to in *imports {
                if !table[..index].iter().any(|(room, _)| room == to) {
                    faults.push(format!("`{to}` must stand above `{from}` in the table, which may import it"));
                }
                if !arrows.contains_key(&(*from, *to)) {
                    faults.push(format!("`{from}` no longer imports `{to}`: take it out of the table"));
                }
            }
        }
        let forbidden = arrows.iter().filter(|((from, to), _)| !allowed.get(from).is_some_and(|may| may.contains(to)));
        faults.extend(forbidden.map(|((from, to), file)| format!("`{from}` must not import `{to}`, as `{file}` does")));
        faults
    }

    /// Which room imports which, with the first module that does.
    fn arrows_between_rooms(&self) -> BTreeMap<(&str, &str), &str> {
        let mut arrows = BTreeMap::new();
        for (module, targets) in &self.0 {
            for target in targets.iter().filter(|target| room(target) != room(module)) {
                arrows.entry((room(module), room(target))).or_insert(module.as_str());
            }
        }
        arrows
    }

    /// Circles between modules that stand side by side, each with what is below it.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let mut beside: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
        for (module, targets) in &self.0 {
            for target in targets {
                if let Some((parent, from, to)) = side_by_side(module, target) {
                    beside.entry(parent).or_default().entry(from).or_default().insert(to);
                }
            }
        }
        beside.values().flat_map(circles).collect()
    }
}

/// The topmost part of a module's path.
fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Where the ways to `from` and `to` part: their common parent, and its two children. `None` when one is above the
/// other.
fn side_by_side<'a>(from: &'a str, to: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
    let mut start = 0;
    loop {
        let end = |path: &str| path[start..].find("::").map_or(path.len(), |length| start + length);
        let ours = &from[..end(from)];
        let theirs = &to[..end(to)];
        if ours != theirs {
            return Some((&from[..start.saturating_sub(2)], ours, theirs));
        }
        if ours.len() == from.len() || theirs.len() == to.len() {
            return None;
        }
        start = ours.len() + 2;
    }
}

/// One circle through each module that is in any, without naming one twice.
fn circles(arrows: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for start in arrows.keys() {
        if seen.contains(start) {
            continue;
        }
        if let Some(way) = way_back(start, arrows) {
            seen.extend(way.iter().copied());
            circles.push(way.into_iter().chain([*start]).map(str::to_owned).collect());
        }
    }
    circles
}

/// The shortest way from `start` to itself, without its end.
fn way_back<'a>(start: &'a str, arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let mut ways = std::collections::VecDeque::from([vec![start]]);
    let mut visited = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| arrows.get(last)).into_iter().flatten() {
            if *next == start {
                return Some(way);
            }
            if visited.insert(*next) {
                ways.push_back(way.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}

fn read_folder(folder: &Path, module: &str, sources: &mut BTreeMap<String, Source>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("the folder is read").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a file's name is UTF-8").to_owned();
        let child = if module.is_empty() { name.clone() } else { format!("{module}::{name}") };
        // What a crate's tests share is compiled for tests only, too.
        let is_left_out = name == "tests" || (module.is_empty() && name == "bin");
        if path.is_dir() && !is_left_out {
            read_folder(&path, &child, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            let is_root = module.is_empty() && matches!(name.as_str(), "lib" | "main");
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let module = if is_root { String::new() } else { child };
            let source = Source::parse(&text, &module).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            sources.entry(module).or_default().extend(source);
        }
    }
}

/// The module in which the thing at `path` is defined, through re-exports.
fn module_of(path: &[String], sources: &BTreeMap<String, Source>) -> String {
    // A re-export leads on; no crate of ours has a chain of more than three.
    const STEPS: usize = 8;
    let mut path = path.to_vec();
    for _ in 0..STEPS {
        let depth = (0..=path.len()).rev().find(|depth| sources.contains_key(&path[..*depth].join("::"))).unwrap_or(0);
        let module = path[..depth].join("::");
        let named = path.get(depth).and_then(|name| sources.get(&module)?.names.get(name));
        match named {
            Some(target) => path = target.iter().chain(&path[depth + 1..]).cloned().collect(),
            None => return module,
        }
    }
    String::new()
}

#[cfg(test)]
mod tests;
