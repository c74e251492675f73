//! The blocking API has the names and signatures of the asynchronous one, without async.
//!
//! - Both are read from their source: public functions of public types, and the tables of `src/blocking/twin.rs`. What
//!   a function returns, and a closure that returns a future, is mapped; all else is compared as it is written.
//! - Trait implementations are not compared, nor attributes and `const`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, FnArg, GenericArgument, GenericParam, Ident, ImplItem, Item, Pat, PathArguments, ReturnType, Signature,
    Token, TraitItem, Type, TypeParamBound, UseTree, Visibility, WherePredicate, braced, bracketed, parenthesized,
    parse_quote,
};

/// Public names of the asynchronous API that the blocking one does not have.
const ASYNC_ONLY: [(&str, &str); 4] = [
    ("Op", "an operation that is not awaited yet"),
    ("BeginRun", "the same for begin_run, which gives a RunId"),
    ("Transition", "the same for a transition, which gives a result and a version"),
    ("WaitFor", "the same for a wait, which gives a state"),
];

/// The other way round.
const BLOCKING_ONLY: [(&str, &str); 1] = [("BlockingStream", "what Scan and PageStream are: iterators")];

/// What the functions of an API are, by `Type::name`.
type Surface = BTreeMap<String, Function>;

struct Function {
    /// As written.
    own: String,
    /// Without async.
    blocking: String,
}

impl Function {
    fn of(signature: &Signature) -> Self {
        Self { own: written(signature, false), blocking: written(signature, true) }
    }
}

fn text(tokens: &impl ToTokens) -> String {
    tokens.to_token_stream().to_string()
}

fn squeezed(text: &str) -> String {
    text.chars().filter(|char| !char.is_whitespace()).collect()
}

/// A signature in one form: bounds at the parameters and sorted, without `const` and `mut`.
fn written(signature: &Signature, without_async: bool) -> String {
    let mut generics = bounds(signature);
    let mut output = returned(&signature.output, without_async);
    if let Some(inner) = output.strip_prefix("BoxFuture < ").filter(|_| without_async) {
        output = inner.split_once(", ").unwrap().1.strip_suffix(" >").unwrap().into();
        generics = with_plain_closures(generics);
    }
    let generics: Vec<String> =
        generics.iter().map(|(name, bounds)| format!("{name}: {}", bounds.join(" + "))).collect();
    let arguments: Vec<String> = signature.inputs.iter().map(argument).collect();
    format!("fn {}<{}>({}) -> {output}", signature.ident, generics.join(", "), arguments.join(", "))
}

/// The generic parameters in order, each with its bounds.
fn bounds(signature: &Signature) -> Vec<(String, Vec<String>)> {
    let written = |bounds: &mut dyn Iterator<Item = &TypeParamBound>| bounds.map(text).collect::<Vec<_>>();
    let mut generics = Vec::new();
    for parameter in &signature.generics.params {
        match parameter {
            GenericParam::Type(parameter) => {
                let mut all = written(&mut parameter.bounds.iter());
                for predicate in signature.generics.where_clause.iter().flat_map(|clause| &clause.predicates) {
                    if let WherePredicate::Type(bound) = predicate
                        && parameter.ident == text(&bound.bounded_ty)
                    {
                        all.extend(written(&mut bound.bounds.iter()));
                    }
                }
                all.sort();
                generics.push((parameter.ident.to_string(), all));
            }
            other => generics.push((text(other), Vec::new())),
        }
    }
    generics
}

/// Instead of a closure that returns a future, one that returns what comes of it. It stays where it is: it is neither
/// sent nor kept.
fn with_plain_closures(generics: Vec<(String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
    let (futures, mut others): (Vec<_>, Vec<_>) = generics.into_iter().partition(|(name, _)| name == "Fut");
    let future = futures[0].1.iter().find_map(|bound| bound.strip_prefix("Future < Output = ")).unwrap();
    let output = future.strip_suffix(" >").unwrap();
    others.retain(|(name, _)| !name.starts_with('\''));
    for (_, bounds) in &mut others {
        bounds.retain(|bound| bound != "Send" && !bound.starts_with('\''));
        for bound in bounds.iter_mut() {
            if let Some(closure) = bound.strip_suffix("-> Fut") {
                *bound = format!("{closure}-> {output}");
            }
        }
    }
    others
}

fn argument(argument: &FnArg) -> String {
    match argument {
        FnArg::Receiver(receiver) if receiver.reference.is_some() => "&self".into(),
        FnArg::Receiver(_) => "self".into(),
        FnArg::Typed(typed) => match &*typed.pat {
            Pat::Ident(name) => format!("{}: {}", name.ident, text(&typed.ty)),
            other => unreachable!("an argument with a pattern: {}", text(other)),
        },
    }
}

fn returned(output: &ReturnType, without_async: bool) -> String {
    let ReturnType::Type(_, output) = output else { return "()".into() };
    let as_written = text(output);
    if !without_async {
        return as_written;
    }
    if let Type::ImplTrait(output) = &**output {
        let future = output.bounds.iter().map(text).find(|bound| bound.starts_with("Future < Output = "));
        return future.map_or(as_written, |future| future["Future < Output = ".len()..future.len() - 2].into());
    }
    let Type::Path(path) = &**output else { return as_written };
    let last = path.path.segments.last().unwrap();
    let arguments: Vec<String> = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().map(text).collect(),
        _ => Vec::new(),
    };
    match (last.ident.to_string().as_str(), &arguments[..]) {
        ("Op", [output]) => format!("Result < {output} >"),
        ("Transition", [output, _]) => format!("Result < ({output} , u64) >"),
        ("BeginRun", []) => "RunId".into(),
        ("WaitFor", [_]) => "Result < State >".into(),
        _ => as_written,
    }
}

// Reading.

/// The functions of a file.
fn surface(source: &str) -> Surface {
    let mut surface = Surface::new();
    let mut add = |of: &str, signature: &Signature| {
        surface.insert(format!("{of}::{}", signature.ident), Function::of(signature));
    };
    for item in syn::parse_file(source).unwrap().items {
        match item {
            Item::Impl(block) if block.trait_.is_none() => {
                let functions = block.items.iter().filter_map(|item| match item {
                    ImplItem::Fn(function) if is_public(&function.vis) => Some(&function.sig),
                    _ => None,
                });
                functions.for_each(|signature| add(&name_of(&block.self_ty), signature));
            }
            Item::Trait(block) if is_public(&block.vis) => {
                for item in &block.items {
                    if let TraitItem::Fn(function) = item {
                        add(&block.ident.to_string(), &function.sig);
                    }
                }
            }
            Item::Macro(table) if table.ident.is_none() => {
                let name = table.mac.path.get_ident().unwrap().to_string();
                let table: Table = table.mac.parse_body().unwrap();
                table.signatures(&name).iter().for_each(|(of, signature)| add(of, signature));
            }
            _ => {}
        }
    }
    surface
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// The last name of a type; of a stream as an iterator, that of the stream.
fn name_of(of: &Type) -> String {
    let Type::Path(path) = of else { unreachable!("an impl of {}", text(of)) };
    let last = path.path.segments.last().unwrap();
    match &last.arguments {
        PathArguments::AngleBracketed(arguments) if last.ident == "BlockingStream" => match &arguments.args[0] {
            GenericArgument::Type(stream) => name_of(stream),
            other => unreachable!("a stream of {}", text(other)),
        },
        _ => last.ident.to_string(),
    }
}

/// `module::Type { rows }` or `module::Store, Run { rows }` or `module::Store`.
struct Table {
    types: Vec<Ident>,
    rows: Vec<Row>,
}

/// `kind name[generics](arguments) -> output;`
struct Row {
    kind: Ident,
    name: Ident,
    generics: Punctuated<GenericParam, Token![,]>,
    arguments: Punctuated<FnArg, Token![,]>,
    output: Type,
}

impl Parse for Table {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut table = Self { types: Vec::new(), rows: Vec::new() };
        while !input.is_empty() && !input.peek(syn::token::Brace) {
            Attribute::parse_outer(input)?;
            let path: syn::Path = input.parse()?;
            table.types.push(path.segments.last().unwrap().ident.clone());
            input.parse::<Option<Token![,]>>()?;
        }
        if !input.is_empty() {
            let rows;
            braced!(rows in input);
            while !rows.is_empty() {
                table.rows.push(rows.parse()?);
            }
        }
        Ok(table)
    }
}

impl Parse for Row {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let (kind, name) = (input.parse()?, input.parse()?);
        let mut generics = Punctuated::new();
        if input.peek(syn::token::Bracket) {
            let content;
            bracketed!(content in input);
            generics = content.call(Punctuated::parse_terminated)?;
        }
        let content;
        parenthesized!(content in input);
        let arguments = content.call(Punctuated::parse_terminated)?;
        input.parse::<Token![->]>()?;
        let output = input.parse()?;
        input.parse::<Token![;]>()?;
        Ok(Self { kind, name, generics, arguments, output })
    }
}

impl Row {
    fn signature(&self, first: Option<FnArg>) -> Signature {
        let Self { kind, name, generics, output, .. } = self;
        let arguments: Punctuated<FnArg, Token![,]> = first.into_iter().chain(self.arguments.clone()).collect();
        match kind.to_string().as_str() {
            "waits" => parse_quote!(fn #name<#generics>(&self, #arguments) -> Result<#output>),
            "gives" => parse_quote!(fn #name<#generics>(&self, #arguments) -> #output),
            "with" => parse_quote!(fn #name<#generics>(self, #arguments) -> #output),
            other => unreachable!("a row of another kind: {other}"),
        }
    }
}

impl Table {
    fn signatures(&self, name: &str) -> Vec<(String, Signature)> {
        let rows = |of: &Ident, first: Option<FnArg>| {
            self.rows.iter().map(|row| (of.to_string(), row.signature(first.clone()))).collect::<Vec<_>>()
        };
        let store = |of: &Ident| (of.to_string(), parse_quote!(fn new(database: impl Into<Database>) -> Self));
        match (name, &self.types[..]) {
            ("twin" | "extension", [of]) => rows(of, None),
            ("store", [of]) => vec![store(of)],
            ("primitive", [of, run]) => {
                let mut all = rows(run, None);
                all.extend(rows(of, Some(parse_quote!(run: impl Borrow<RunId>))));
                all.push(store(of));
                all
            }
            (other, _) => unreachable!("a table of another kind: {other}"),
        }
    }
}

/// What a file exports, by module: the last names of `pub use`, and where each comes from.
fn exports(source: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    collect_exports("", &syn::parse_file(source).unwrap().items, &mut all);
    all
}

fn collect_exports(module: &str, items: &[Item], all: &mut BTreeMap<String, BTreeMap<String, String>>) {
    for item in items {
        match item {
            Item::Use(item) if is_public(&item.vis) => {
                collect_tree(&item.tree, "", all.entry(module.into()).or_default());
            }
            Item::Mod(item) if is_public(&item.vis) => {
                let inner = item.content.as_ref().map(|(_, items)| &items[..]).unwrap_or_default();
                collect_exports(&item.ident.to_string(), inner, all);
            }
            _ => {}
        }
    }
}

fn collect_tree(tree: &UseTree, from: &str, names: &mut BTreeMap<String, String>) {
    match tree {
        UseTree::Path(path) => collect_tree(&path.tree, &format!("{from}{}::", path.ident), names),
        UseTree::Name(name) => drop(names.insert(name.ident.to_string(), from.into())),
        UseTree::Rename(name) => drop(names.insert(name.rename.to_string(), from.into())),
        UseTree::Glob(_) => drop(names.insert(format!("{}*", from.rsplit("crate::").next().unwrap()), from.into())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| collect_tree(tree, from, names)),
    }
}

// Comparing.

/// An API: its functions, and the file that says what is public of it.
struct Api {
    functions: Surface,
    exports: BTreeMap<String, BTreeMap<String, String>>,
}

impl Api {
    fn new<'a>(public: &str, sources: impl IntoIterator<Item = &'a str>) -> Self {
        Self { functions: sources.into_iter().flat_map(surface).collect(), exports: exports(public) }
    }

    fn is_public(&self, of: &str) -> bool {
        self.exports.values().any(|names| names.contains_key(of))
    }

    /// Whether the blocking API has this very type of the asynchronous one.
    fn has_unchanged(&self, of: &str) -> bool {
        self.exports.values().any(|names| names.get(of).is_some_and(|from| from.starts_with("crate::api::")))
    }
}

fn complaints(asynchronous: &Api, blocking: &Api) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, function) in &asynchronous.functions {
        let of = name.split("::").next().unwrap();
        if !asynchronous.is_public(of) {
            continue;
        }
        match blocking.functions.get(name) {
            Some(twin) if squeezed(&twin.own) == squeezed(&function.blocking) => {}
            Some(twin) => complaints.push(format!("{name} is `{}`, not `{}`", twin.own, function.blocking)),
            None if blocking.has_unchanged(of) && function.own == function.blocking => {}
            None => complaints.push(format!("{name} has no blocking twin: `{}`", function.blocking)),
        }
    }
    let only_blocking = blocking.functions.keys().filter(|name| !asynchronous.functions.contains_key(*name));
    complaints.extend(only_blocking.map(|name| format!("{name} has no asynchronous twin")));
    for (module, names) in &asynchronous.exports {
        let empty = BTreeMap::new();
        let twins = blocking.exports.get(module).unwrap_or(&empty);
        let expected = names.keys().filter(|name| !ASYNC_ONLY.iter().any(|(only, _)| only == name));
        let given = twins.keys().filter(|name| !BLOCKING_ONLY.iter().any(|(only, _)| only == name));
        let (expected, given): (BTreeSet<_>, BTreeSet<_>) =
            (expected.map(|name| unqualified(name)).collect(), given.map(|name| unqualified(name)).collect());
        let differing = expected.symmetric_difference(&given);
        complaints.extend(differing.map(|name| format!("one API alone has the name `{name}` in `{module}`")));
    }
    complaints
}

fn unqualified(name: &str) -> &str {
    name.trim_start_matches("super::")
}

fn read(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_name_and_every_signature_has_its_blocking_twin() {
    let (asynchronous, blocking) = (read("src/api"), read("src/blocking"));
    let asynchronous = Api::new(include_str!("../../src/lib.rs"), asynchronous.iter().map(String::as_str));
    let blocking = Api::new(include_str!("../../src/blocking/mod.rs"), blocking.iter().map(String::as_str));
    assert!(asynchronous.functions.len() > 200 && blocking.functions.len() > 200);
    let complaints = complaints(&asynchronous, &blocking);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

const ASYNC: &str = "
    impl Store {
        pub fn new(database: impl Into<Database>) -> Self { .. }
        pub fn get<T: Read + 'static>(&self, run: impl Borrow<RunId>, key: &str) -> Op<Option<T>> { .. }
        pub fn swap(&self, run: impl Borrow<RunId>, key: &str) -> Op<u64> { .. }
        pub fn scan(&self, run: impl Borrow<RunId>) -> Scan { .. }
        pub fn transaction<'f, T, F, Fut>(&self, mut f: F) -> BoxFuture<'f, Result<T>>
        where
            F: FnMut(Transaction) -> Fut + Send + 'f,
            Fut: Future<Output = Result<T>> + Send + 'f,
            T: Send + 'f,
        { .. }
        fn secret(&self) -> Op<()> { .. }
    }
    impl Run {
        pub fn get<T: Read + 'static>(&self, key: &str) -> Op<Option<T>> { .. }
        pub fn swap(&self, key: &str) -> Op<u64> { .. }
        pub fn scan(&self) -> Scan { .. }
    }
    impl Data { pub const fn len(&self) -> usize { .. } }
    impl Hidden { pub fn wait(&self) -> Op<()> { .. } }
    pub trait Ext { fn change<F>(&self, f: F) -> impl Future<Output = Result<(T, u64)>> + Send where F: Send; }
";

const BLOCKING: &str = "
    primitive! {
        /// All.
        store::Store,
        /// One.
        Run {
            waits get[T: Read + 'static](key: &str) -> Option<T>;
            waits swap(key: &str) -> u64;
            gives scan() -> Scan;
        }
    }
    impl Store {
        pub fn transaction<T, F>(&self, f: F) -> Result<T> where F: FnMut(Transaction) -> Result<T> { .. }
    }
    extension! { store::Ext { waits change[F: Send](f: F) -> (T, u64); } }
";

const PUBLIC: &str = "pub use crate::api::store::{Data, Ext, Run, Store}; pub mod prelude { pub use super::Run; }";

fn planted(asynchronous: &str, blocking: &str, public: &str) -> Vec<String> {
    let body = |text: &str| text.replace("{ .. }", "{}");
    let twins =
        "pub use store::{Ext, Run, Store}; pub use crate::api::store::Data; pub mod prelude { pub use super::Run; }";
    complaints(&Api::new(public, [&*body(asynchronous)]), &Api::new(twins, [&*body(blocking)]))
}

#[test]
fn planted_differences_are_noticed() {
    assert_eq!(planted(ASYNC, BLOCKING, PUBLIC), [""; 0]);

    let omitted = BLOCKING.replace("waits swap(key: &str) -> u64;", "");
    let expected = ["Run::swap", "Store::swap"].map(|name| format!("{name} has no blocking twin"));
    let found = planted(ASYNC, &omitted, PUBLIC);
    assert!(found.len() == 2 && found.iter().zip(&expected).all(|(found, expected)| found.starts_with(expected)));

    let noticed = |from: &str, to: &str, what: &str| {
        assert!(BLOCKING.contains(from) || ASYNC.contains(from), "{from}");
        let found = planted(&ASYNC.replace(from, to), BLOCKING, PUBLIC);
        let other = planted(ASYNC, &BLOCKING.replace(from, to), PUBLIC);
        assert!(found.iter().chain(&other).any(|found| found.starts_with(what)), "from={from:?} {found:?} {other:?}");
    };
    noticed("swap(key: &str)", "swap(key: String)", "Run::swap is `");
    noticed("swap(key: &str)", "swap(name: &str)", "Store::swap is `");
    noticed("-> u64;", "-> u32;", "Run::swap is `");
    noticed("waits swap", "gives swap", "Run::swap is `");
    noticed("[T: Read + 'static]", "[T: Read]", "Run::get is `");
    noticed("FnMut(Transaction) -> Result<T> {", "FnMut(&Transaction) -> Result<T> {", "Store::transaction is `");
    noticed("FnMut(Transaction) -> Fut", "FnOnce(Transaction) -> Fut", "Store::transaction is `");
    noticed("waits change[F: Send](f: F) -> (T, u64);", "", "Ext::change has no blocking twin");
    noticed("gives scan() -> Scan;", "gives scan() -> Scan; waits more() -> ();", "Run::more has no asynchronous twin");
    noticed("fn len(&self) -> usize", "fn len(&self) -> Op<usize>", "Data::len has no blocking twin");
    let grown = PUBLIC.replace("Data,", "Data, More,");
    assert_eq!(planted(ASYNC, BLOCKING, &grown), ["one API alone has the name `More` in ``"]);
    let grown = PUBLIC.replace("super::Run;", "super::{Run, Data};");
    assert_eq!(planted(ASYNC, BLOCKING, &grown), ["one API alone has the name `Data` in `prelude`"]);
}
