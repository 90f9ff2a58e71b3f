//! One source file: which paths of its own crate it names, and which names it brings into its module.

use std::collections::BTreeMap;

use syn::{
    Attribute, File, ItemMod, ItemUse, Macro, UseTree,
    visit::{self, Visit},
};

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Paths within the crate, from its root.
    pub(super) paths: Vec<Vec<String>>,
    /// Names that a `use` brought in, and the paths from the crate's root that they stand for.
    pub(super) names: BTreeMap<String, Vec<String>>,
}

/// Collects while it walks.
struct Collector {
    source: Source,
    /// Where the file is, from the crate's root; inline modules below it count as the file.
    module: Vec<String>,
    /// The modules that the file declares.
    children: Vec<String>,
}

// === impl Source ===

impl Source {
    /// Reads the text of the file that is `module`.
    pub(super) fn parse(text: &str, module: &str) -> syn::Result<Self> {
        let file: File = syn::parse_file(text)?;
        let children = file.items.iter().filter_map(|item| match item {
            syn::Item::Mod(child) if child.content.is_none() => Some(child.ident.to_string()),
            _ => None,
        });
        let module = module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut collector = Collector { source: Self::default(), module, children: children.collect() };
        collector.visit_file(&file);
        Ok(collector.source)
    }

    /// `lib.rs` and `main.rs` are both the root.
    pub(super) fn extend(&mut self, other: Self) {
        self.paths.extend(other.paths);
        self.names.extend(other.names);
    }
}

// === impl Collector ===

impl Collector {
    /// The path from the crate's root; `None` for one that leads out of the crate, or is a local name.
    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let first = path.first()?.as_str();
        let is_child = self.children.iter().any(|child| child == first);
        let ups = path.iter().take_while(|part| *part == "super").count();
        let (base, rest) = match first {
            "crate" => (&[][..], &path[1..]),
            "self" => (&self.module[..], &path[1..]),
            "super" => (&self.module[..self.module.len().checked_sub(ups)?], &path[ups..]),
            _ if is_child => (&self.module[..], path),
            _ => return None,
        };
        Some(base.iter().chain(rest).cloned().collect())
    }

    fn note(&mut self, path: &[String]) {
        self.source.paths.extend(self.resolve(path));
    }

    fn note_use(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.note_use(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_use(before, tree)),
            UseTree::Glob(_) => self.note(before),
            UseTree::Name(name) if name.ident == "self" => self.note_name(before, None),
            UseTree::Name(name) => self.note_name(&with(&name.ident), None),
            UseTree::Rename(rename) if rename.ident == "self" => {
                self.note_name(before, Some(rename.rename.to_string()));
            }
            UseTree::Rename(rename) => self.note_name(&with(&rename.ident), Some(rename.rename.to_string())),
        }
    }

    fn note_name(&mut self, path: &[String], renamed: Option<String>) {
        self.note(path);
        if let (Some(target), Some(name)) = (self.resolve(path), renamed.or_else(|| path.last().cloned())) {
            self.source.names.insert(name, target);
        }
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !module.attrs.iter().any(is_for_tests) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !item.attrs.iter().any(is_for_tests) {
            self.note_use(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 {
            self.note(&parts);
        }
        visit::visit_path(self, path);
    }

    /// What a macro takes is not parsed, so its words are looked through.
    fn visit_macro(&mut self, invocation: &'ast Macro) {
        let text = invocation.tokens.to_string();
        let words: Vec<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).collect();
        let joined = words.join(" ").replace(" :: ", "::").replace(":: ", "::").replace(" ::", "::");
        for word in joined.split_whitespace().filter(|word| word.contains("::")) {
            let parts: Vec<String> = word.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            if matches!(parts.first().map(String::as_str), Some("crate" | "super" | "self")) {
                self.note(&parts);
            }
        }
    }
}

/// `#[cfg(test)]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
}
