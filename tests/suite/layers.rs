//! The layers of ARCHITECTURE.md, read from the sources of the crate `referrals`: no import from a lower layer to a higher
//! one, no import cycle, and documentation for every module, type and function. Tests inside the sources are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, ImplItem, Item, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

/// The modules of each layer, from the lowest to the highest.
const LAYERS: [&[&str]; 5] = [
    &["domain", "mutant", "runtime"],
    &["aws"],
    &["fraud", "program", "referral", "view"],
    &["analytics", "cache", "store"],
    &["lambda", "lifecycle"],
];

/// A module by its path from the root of the crate, such as `["store", "keys"]`.
type Module = Vec<String>;

pub(crate) fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

pub(crate) fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)
}

/// The modules of the shared crate, each with its file.
fn modules() -> BTreeMap<Module, syn::File> {
    let folder = root("shared/src");
    let mut modules = BTreeMap::new();
    for path in sources(&folder) {
        let relative = path.strip_prefix(&folder).unwrap().with_extension("");
        let mut module: Module = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.pop_if(|last| last == "mod");
        if module != ["lib"] && module != ["sample"] {
            modules.insert(module, syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
        }
    }
    modules
}

/// Collects the paths that a file names.
#[derive(Default)]
struct Paths {
    found: Vec<Vec<String>>,
}

impl Paths {
    fn of_tree(&mut self, tree: &UseTree, before: &[String]) {
        match tree {
            UseTree::Path(path) => {
                let before: Vec<_> = before.iter().cloned().chain([path.ident.to_string()]).collect();
                self.of_tree(&path.tree, &before);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.of_tree(tree, before)),
            UseTree::Name(name) => self.found.push([before, &[name.ident.to_string()]].concat()),
            UseTree::Rename(rename) => self.found.push([before, &[rename.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.found.push(before.to_vec()),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(module) => &module.attrs,
            Item::Fn(function) => &function.attrs,
            Item::Use(import) => &import.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        // A re-export makes a part visible; the module does not depend on it.
        if matches!(import.vis, Visibility::Inherited) {
            self.of_tree(&import.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// The modules that a module imports from.
fn imports(module: &Module, file: &syn::File, modules: &BTreeMap<Module, syn::File>) -> BTreeSet<Module> {
    let mut paths = Paths::default();
    paths.visit_file(file);
    let targets = paths.found.iter().filter_map(|path| {
        let mut base: Module = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module[..module.len() - 1].to_vec(),
            _ => return None,
        };
        // The longest prefix that names a module. The other segments name something in it.
        for segment in &path[1..] {
            let deeper = [base.as_slice(), std::slice::from_ref(segment)].concat();
            if !modules.contains_key(&deeper) {
                break;
            }
            base = deeper;
        }
        (!base.is_empty() && base != *module).then_some(base)
    });
    targets.collect()
}

fn graph() -> BTreeMap<Module, BTreeSet<Module>> {
    let modules = modules();
    modules.iter().map(|(module, file)| (module.clone(), imports(module, file, &modules))).collect()
}

fn layer(module: &Module) -> usize {
    let found = LAYERS.iter().position(|layer| layer.contains(&module[0].as_str()));
    found.unwrap_or_else(|| panic!("{} has no layer: see LAYERS and ARCHITECTURE.md", module[0]))
}

#[test]
fn no_module_imports_from_a_higher_layer() {
    let graph = graph();
    assert!(graph.len() > 40 && graph.values().map(BTreeSet::len).sum::<usize>() > 100, "{graph:?}");
    for (module, imports) in &graph {
        for import in imports {
            assert!(layer(import) <= layer(module), "{} imports {}", module.join("::"), import.join("::"));
        }
    }
}

/// The parts of `store` and `cache` may use their root, which uses them: `impl` blocks of one type in several files.
fn is_part_of_a_type(module: &Module, import: &Module) -> bool {
    import.len() == 1 && module.len() > 1 && module[0] == import[0] && ["store", "cache"].contains(&import[0].as_str())
}

#[test]
fn there_is_no_import_cycle_among_files() {
    let mut files = graph();
    for (module, imports) in &mut files {
        imports.retain(|import| !is_part_of_a_type(module, import));
    }
    assert_no_cycle(files);
}

#[test]
fn there_is_no_import_cycle_among_folders() {
    let mut folders: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, imports) in graph() {
        let outside = imports.iter().filter(|import| import[0] != module[0]).map(|import| vec![import[0].clone()]);
        folders.entry(vec![module[0].clone()]).or_default().extend(outside);
    }
    assert_no_cycle(folders);
}

fn assert_no_cycle(mut rest: BTreeMap<Module, BTreeSet<Module>>) {
    // Removes modules whose imports are all removed, until nothing changes. What is left is on a cycle or above one.
    loop {
        let done: Vec<_> =
            rest.iter().filter(|(_, imports)| imports.is_empty()).map(|(name, _)| name.clone()).collect();
        if done.is_empty() {
            break;
        }
        for module in &done {
            rest.remove(module);
        }
        for imports in rest.values_mut() {
            imports.retain(|import| !done.contains(import));
        }
    }
    let left: Vec<_> = rest.iter().map(|(module, imports)| format!("{module:?} -> {imports:?}")).collect();
    assert!(left.is_empty(), "{left:#?}");
}

fn is_documented(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("doc"))
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// The public types and functions of a file that have no documentation. Fields and variants need some only where the name
/// does not say everything, which no tool can tell.
fn undocumented(file: &syn::File) -> Vec<String> {
    let mut missing = Vec::new();
    for item in &file.items {
        let (visibility, attributes, name) = match item {
            Item::Fn(item) => (&item.vis, &item.attrs, &item.sig.ident),
            Item::Struct(item) => (&item.vis, &item.attrs, &item.ident),
            Item::Enum(item) => (&item.vis, &item.attrs, &item.ident),
            Item::Trait(item) => (&item.vis, &item.attrs, &item.ident),
            Item::Type(item) => (&item.vis, &item.attrs, &item.ident),
            Item::Const(item) => (&item.vis, &item.attrs, &item.ident),
            Item::Impl(item) if item.trait_.is_none() => {
                missing.extend(item.items.iter().filter_map(|item| match item {
                    ImplItem::Fn(function) if is_public(&function.vis) && !is_documented(&function.attrs) => {
                        Some(function.sig.ident.to_string())
                    }
                    _ => None,
                }));
                continue;
            }
            _ => continue,
        };
        if is_public(visibility) && !is_documented(attributes) {
            missing.push(name.to_string());
        }
    }
    missing
}

#[test]
fn modules_types_and_functions_are_documented() {
    let mut missing = Vec::new();
    for path in ["shared/src", "functions", "tests/local"].iter().flat_map(|folder| sources(&root(folder))) {
        let text = fs::read_to_string(&path).unwrap();
        let file = syn::parse_file(&text).unwrap();
        if !is_documented(&file.attrs) {
            missing.push(format!("{}: the file", path.display()));
        }
        missing.extend(undocumented(&file).into_iter().map(|name| format!("{}: {name}", path.display())));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
