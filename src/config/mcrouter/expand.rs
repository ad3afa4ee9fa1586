//! Macros: constants, parameters, calls and imports become plain JSON. mcrouter's ConfigPreprocessor, by its documentation.
//!
//! ```text
//! "%name%"  "a-%name%-b"                     a parameter or a constant: the whole value, or its text
//! "@name(a,@other(b))"                       a call, of a macro or of a built-in
//! {"type": "name", "a": …, "vars": {…}}      the same, with arguments by name, and with names of its own
//! ```
//!
//! Whatever runs away is stopped: calls within calls, steps, and bytes of new text are counted.

use super::builtin::{self, Call};
use super::files::{Files, Missing, Trouble};
use super::loops;
use crate::config::json::{Json, Key, Map, MapBuilder, Spot, TooMuch, Value};
use crate::config::quoted;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// mcrouter's.
const NESTED_MAX: u32 = 250;
/// Beside four for every value that is read.
const STEPS_COUNT_MAX: usize = 1_000_000;
/// New text, all of it together.
const BYTES_MAX: usize = 64 << 20;

pub(super) type Expanded<T = Json> = Result<T, Box<Trouble>>;

/// The document without `macros`, every call in it replaced by what it says.
pub(super) fn document(written: &Json, files: &Files, params: &[(String, String)]) -> Expanded {
    let Value::Map(top) = &written.value else {
        let message = format!("expected an object, found {}", written.kind());
        return Err(Trouble::new(written.spot, message));
    };
    let expander = Expander::new(files, params);
    expander.grant(written);
    let mut rest = MapBuilder::default();
    for (key, value) in &top.entries {
        if &*key.name == "macros" {
            expander.define(value)?;
        } else {
            rest.set(key.clone(), value.clone());
        }
    }
    let rest = expander.put_together(written.spot, rest.build(written.spot))?;
    expander.expand(&rest, &Scope::default())
}

/// Names and what they stand for, while one macro is expanded.
#[derive(Default)]
pub(super) struct Scope<'s> {
    pub(super) vars: Vec<(Rc<str>, Json)>,
    pub(super) outer: Option<&'s Self>,
}

impl<'s> Scope<'s> {
    pub(super) fn within(outer: &'s Self) -> Self {
        Self { vars: Vec::new(), outer: Some(outer) }
    }

    fn find(&self, name: &str) -> Option<&Json> {
        let own = self.vars.iter().rev().find(|(known, _)| &**known == name).map(|(_, json)| json);
        own.or_else(|| self.outer.and_then(|outer| outer.find(name)))
    }
}

struct Macro {
    params: Vec<Param>,
    result: Json,
}

pub(super) struct Param {
    pub(super) name: Rc<str>,
    pub(super) default: Option<Json>,
    pub(super) is_required: bool,
}

/// Something that is expanded when it is first asked for.
enum Lazy {
    Written(Json),
    UnderWay,
    Done(Json),
}

/// The arguments of a call, as written.
enum Arguments<'a> {
    InOrder(Vec<Json>),
    ByName(&'a Map),
}

pub(super) struct Expander<'a> {
    files: &'a Files,
    macros: RefCell<HashMap<Rc<str>, Rc<Macro>>>,
    consts: RefCell<HashMap<Rc<str>, Lazy>>,
    imports: RefCell<HashMap<Rc<str>, Lazy>>,
    nested: Cell<u32>,
    steps_left: Cell<usize>,
    bytes_left: Cell<usize>,
}

/// What every document may ask for: of a name that is there twice the last one counts.
pub(super) fn global_params(given: &[(String, String)]) -> Vec<(Rc<str>, Json)> {
    let spot = Spot::default();
    let text = |text: &str| Json::text(spot, text).value;
    let globals = [
        ("default-route", text("/././")),
        ("default-region", text(".")),
        ("default-cluster", text(".")),
        ("hostid", Value::Integer(host_id())),
        ("router-name", text("ringway")),
        ("service-name", text("unknown")),
        ("router-info-name", text("Memcache")),
        ("num-proxies", Value::Integer(1)),
        ("service-router-capable", Value::Bool(false)),
    ];
    let mut all: Vec<(Rc<str>, Json)> = Vec::new();
    let globals = globals.into_iter().map(|(name, value)| (name.into(), value));
    let given = given.iter().map(|(name, value)| (Rc::from(name.as_str()), text(value)));
    for (name, value) in globals.chain(given) {
        all.retain(|(known, _)| *known != name);
        all.push((name, Json::new(spot, value)));
    }
    all
}

impl<'a> Expander<'a> {
    fn new(files: &'a Files, params: &[(String, String)]) -> Self {
        let consts = global_params(params).into_iter().map(|(name, value)| (name, Lazy::Done(value)));
        Self {
            files,
            macros: RefCell::default(),
            consts: RefCell::new(consts.collect()),
            imports: RefCell::default(),
            nested: Cell::new(0),
            steps_left: Cell::new(STEPS_COUNT_MAX),
            bytes_left: Cell::new(BYTES_MAX),
        }
    }

    /// `macros`: an object of definitions, or an array of such objects.
    fn define(&self, macros: &Json) -> Expanded<()> {
        let macros = self.expand(macros, &Scope::default())?;
        match &macros.value {
            Value::Map(map) => map.entries.iter().try_for_each(|(key, macro_)| self.define_one(key, macro_)),
            Value::List(list) => list.items.iter().try_for_each(|item| self.define(item)),
            _ => {
                let message = format!("expected an object or an array of macros, found {}", macros.kind());
                Err(Trouble::new(macros.spot, message))
            }
        }
    }

    fn define_one(&self, key: &Key, macro_: &Json) -> Expanded<()> {
        let map = macro_.as_map();
        let result = map.and_then(|map| map.get("result"));
        let wrong = |what: &str| Err(Trouble::new(macro_.spot, format!("{}: {what}", quoted(&key.name))));
        match (map.and_then(|map| map.text("type")), result) {
            (Some("macroDef" | "constDef"), None) => wrong("`result` is missing"),
            (Some("constDef"), Some(result)) => {
                self.consts.borrow_mut().insert(Rc::clone(&key.name), Lazy::Written(result.clone()));
                Ok(())
            }
            (Some("macroDef"), Some(result)) => {
                let params = match map.and_then(|map| map.get("params")) {
                    None => Vec::new(),
                    Some(Json { value: Value::List(list), .. }) => {
                        list.items.iter().map(read_param).collect::<Expanded<_>>()?
                    }
                    Some(_) => return wrong("`params` is not an array"),
                };
                let first_optional = params.iter().position(|param| !param.is_required);
                if first_optional.is_some_and(|at| params[at..].iter().any(|param| param.is_required)) {
                    return wrong("parameters that may be left out come last");
                }
                let made = Rc::new(Macro { params, result: result.clone() });
                self.macros.borrow_mut().insert(Rc::clone(&key.name), made);
                Ok(())
            }
            _ => wrong("a macro has the `type` `macroDef` or `constDef`"),
        }
    }

    /// What a value says when every call in it is made.
    pub(super) fn expand(&self, json: &Json, scope: &Scope<'_>) -> Expanded {
        let nested = self.nested.get() + 1;
        if nested > NESTED_MAX + 2 {
            return Err(Trouble::new(json.spot, "Too many nested macros. Check for cycles."));
        }
        self.charge(json.spot, 1)?;
        self.nested.set(nested);
        let expanded = match &json.value {
            Value::Text(text) if is_plain(text) => Ok(json.clone()),
            Value::Text(text) => self.text(text, json.spot, scope),
            Value::Map(map) => self.map(json, map, scope),
            Value::List(list) => {
                let items = list.items.iter().map(|item| self.expand(item, scope)).collect::<Expanded<_>>();
                items.and_then(|items| self.list(json.spot, items))
            }
            _ => Ok(json.clone()),
        };
        self.nested.set(nested - 1);
        expanded
    }

    fn text(&self, text: &str, spot: Spot, scope: &Scope<'_>) -> Expanded {
        let Some(call) = text.strip_prefix('@') else { return self.replaced(text, spot, scope) };
        let (name, arguments) = match find_unescaped(call, '(') {
            None => (call, Vec::new()),
            Some(_) if !call.ends_with(')') => {
                return Err(Trouble::new(spot, format!("no closing bracket for the call {}", quoted(text))));
            }
            Some(at) => {
                let inner = &call[at + 1..call.len() - 1];
                let arguments = arguments(inner)
                    .ok_or_else(|| Trouble::new(spot, format!("brackets do not match: {}", quoted(inner))))?;
                (&call[..at], arguments.into_iter().map(|text| Json::text(spot, text)).collect())
            }
        };
        let name = self.replaced(name, spot, scope)?;
        let name = name.as_text().unwrap_or_default();
        match self.call(name, spot, &Arguments::InOrder(arguments), scope)? {
            Some(made) => Ok(made),
            None => Err(Trouble::new(spot, format!("there is no macro {}", quoted(name)))),
        }
    }

    /// Puts values in the place of `%name%`, and takes the backslashes off.
    fn replaced(&self, mut text: &str, spot: Spot, scope: &Scope<'_>) -> Expanded {
        let mut built = String::new();
        while let Some(rest) = unescape_until(text, &mut built) {
            let mut name = String::new();
            let Some(behind) = unescape_until(rest, &mut name) else {
                let message = format!("an odd number of percent signs around {}", quoted(rest));
                return Err(Trouble::new(spot, message).help("write `\\\\%` for a percent sign"));
            };
            let value = match scope.find(&name) {
                Some(value) => value.clone(),
                None => self.constant(&name, spot)?,
            };
            if built.is_empty() && behind.is_empty() {
                return Ok(value); // the whole text is a parameter: any value will do
            }
            let inner = as_string(&value).ok_or_else(|| {
                let message = format!("{} is {}, a string is needed here", quoted(&name), value.kind());
                Trouble::new(spot, message)
            })?;
            self.charge_bytes(spot, inner.len())?;
            built.push_str(&inner);
            text = behind;
        }
        self.new_text(spot, &built)
    }

    fn constant(&self, name: &str, spot: Spot) -> Expanded {
        let written = match self.consts.borrow_mut().get_mut(name) {
            None => {
                let message = format!("there is no parameter and no constant {}", quoted(name));
                return Err(Trouble::new(spot, message).help("`--config-params` gives more of them"));
            }
            Some(Lazy::Done(json)) => return Ok(json.clone()),
            Some(lazy) => std::mem::replace(lazy, Lazy::UnderWay),
        };
        let Lazy::Written(written) = written else {
            return Err(Trouble::new(spot, format!("the constant {} is part of itself", quoted(name))));
        };
        let json = self.expand(&written, &Scope::default())?;
        self.consts.borrow_mut().insert(name.into(), Lazy::Done(json.clone()));
        Ok(json)
    }

    /// Whether a name stands for something here.
    pub(super) fn is_defined(&self, name: &str, scope: &Scope<'_>) -> bool {
        scope.find(name).is_some() || self.consts.borrow().contains_key(name)
    }

    fn map(&self, json: &Json, map: &Rc<Map>, scope: &Scope<'_>) -> Expanded {
        if let Some(kind) = map.get("type") {
            let kind = self.expand(kind, scope)?;
            let kind = kind.as_text().unwrap_or_default();
            if matches!(kind, "macroDef" | "constDef") {
                return Ok(json.clone()); // until it is defined
            }
            let inner = self.with_vars(map, kind, scope)?;
            let scope = inner.as_ref().unwrap_or(scope);
            if let Some(run) = loops::find(kind) {
                return run(&loops::Loop { expander: self, name: kind, spot: json.spot, map, scope });
            }
            if let Some(made) = self.call(kind, json.spot, &Arguments::ByName(map), scope)? {
                return Ok(made);
            }
        }
        let mut built = MapBuilder::default();
        for (key, value) in &map.entries {
            let key = self.key(key, scope)?;
            built.set(key, self.expand(value, scope)?);
        }
        self.charge(json.spot, map.entries.len())?;
        self.put_together(json.spot, built.build(json.spot))
    }

    fn key(&self, key: &Key, scope: &Scope<'_>) -> Expanded<Key> {
        if is_plain(&key.name) {
            return Ok(key.clone());
        }
        let name = self.expand(&Json::new(key.spot, Value::Text(Rc::clone(&key.name))), scope)?;
        match name.value {
            Value::Text(name) => Ok(Key { name, spot: key.spot }),
            _ => Err(Trouble::new(key.spot, format!("a key must be a string, not {}", name.kind()))),
        }
    }

    /// `vars` beside a call: names for its arguments, each of which may use those before it.
    fn with_vars<'s>(&self, map: &Map, kind: &str, scope: &'s Scope<'s>) -> Expanded<Option<Scope<'s>>> {
        let is_call = loops::find(kind).is_some() || self.is_macro(kind);
        let Some(vars) = map.get("vars").filter(|_| is_call) else { return Ok(None) };
        let Some(written) = vars.as_map() else {
            return Err(Trouble::new(vars.spot, format!("`vars` is {}, not an object", vars.kind())));
        };
        let mut inner = Scope::within(scope);
        for (key, value) in &written.entries {
            let (key, value) = (self.key(key, &inner)?, self.expand(value, &inner)?);
            inner.vars.push((key.name, value));
        }
        Ok(Some(inner))
    }

    fn is_macro(&self, name: &str) -> bool {
        self.macros.borrow().contains_key(name) || builtin::find(name).is_some()
    }

    /// `None` when nothing has this name.
    fn call(
        &self,
        name: &str,
        spot: Spot,
        given: &Arguments<'_>,
        scope: &Scope<'_>,
    ) -> Expanded<Option<Json>> {
        let of_user = self.macros.borrow().get(name).cloned();
        let made = if let Some(macro_) = of_user {
            self.call_macro(&macro_, name, spot, given, scope)
        } else if let Some(builtin) = builtin::find(name) {
            let (params, optional) = builtin.params.split_at(builtin.required_count);
            let names =
                params.iter().map(|name| (*name, true)).chain(optional.iter().map(|name| (*name, false)));
            bound(name, spot, names, given)
                .and_then(|arguments| (builtin.run)(&Call { expander: self, spot, scope, arguments }))
        } else {
            return Ok(None);
        };
        made.map(Some).map_err(|mut trouble| {
            trouble.help.get_or_insert_with(|| format!("in a call of {}", quoted(name)));
            trouble
        })
    }

    fn call_macro(
        &self,
        macro_: &Macro,
        name: &str,
        spot: Spot,
        given: &Arguments<'_>,
        scope: &Scope<'_>,
    ) -> Expanded {
        let names = macro_.params.iter().map(|param| (&*param.name, param.is_required));
        let arguments = bound(name, spot, names, given)?;
        let mut inner = Scope::default();
        for (param, argument) in macro_.params.iter().zip(arguments) {
            let value = match argument {
                Some(argument) => Some(self.expand(&argument, scope)?),
                None => param.default.clone(),
            };
            inner.vars.extend(value.map(|value| (Rc::clone(&param.name), value)));
        }
        self.expand(&macro_.result, &inner)
    }

    /// Another file, expanded with the macros of this one; `otherwise` is what counts when it cannot be read.
    pub(super) fn import(
        &self,
        path: &str,
        spot: Spot,
        otherwise: impl FnOnce() -> Expanded<Option<Json>>,
    ) -> Expanded {
        match self.imports.borrow().get(path) {
            Some(Lazy::Done(json)) => return Ok(json.clone()),
            Some(_) => return Err(Trouble::new(spot, format!("the file {} imports itself", quoted(path)))),
            None => {}
        }
        let written = match self.files.json(path, spot) {
            Ok(written) => written,
            Err(Missing::Wrong(trouble)) => return Err(trouble),
            Err(Missing::Unread(why)) => return otherwise()?.ok_or_else(|| Trouble::new(spot, why)),
        };
        self.grant(&written);
        self.imports.borrow_mut().insert(path.into(), Lazy::UnderWay);
        let json = self.expand(&written, &Scope::default())?;
        self.imports.borrow_mut().insert(path.into(), Lazy::Done(json.clone()));
        Ok(json)
    }

    fn grant(&self, read: &Json) {
        self.steps_left.set(self.steps_left.get() + 4 * read.values_count());
    }

    /// So many values are looked at or made.
    pub(super) fn charge(&self, spot: Spot, steps: usize) -> Expanded<()> {
        let Some(left) = self.steps_left.get().checked_sub(steps) else {
            return Err(Trouble::new(spot, "the macros take more than 1,000,000 steps"));
        };
        self.steps_left.set(left);
        Ok(())
    }

    pub(super) fn charge_bytes(&self, spot: Spot, bytes: usize) -> Expanded<()> {
        let Some(left) = self.bytes_left.get().checked_sub(bytes) else {
            return Err(Trouble::new(spot, "the macros make more than 64MiB of text"));
        };
        self.bytes_left.set(left);
        Ok(())
    }

    pub(super) fn new_text(&self, spot: Spot, text: &str) -> Expanded {
        self.charge_bytes(spot, text.len())?;
        Ok(Json::text(spot, text))
    }

    pub(super) fn list(&self, spot: Spot, items: Vec<Json>) -> Expanded {
        self.charge(spot, items.len())?;
        self.put_together(spot, Json::list(spot, items))
    }

    pub(super) fn put_together(&self, spot: Spot, built: Result<Json, TooMuch>) -> Expanded {
        built.map_err(|TooMuch(why)| Trouble::new(spot, why))
    }
}

fn read_param(param: &Json) -> Expanded<Param> {
    match &param.value {
        Value::Text(name) => Ok(Param { name: Rc::clone(name), default: None, is_required: true }),
        Value::Map(map) if map.text("name").is_some() => Ok(Param {
            name: map.text("name").unwrap_or_default().into(),
            default: map.get("default").cloned(),
            is_required: map.get("default").is_none() && map.get("optional").is_none(),
        }),
        _ => {
            let message = format!("expected a parameter's name, found {}", param.kind());
            Err(Trouble::new(param.spot, message).help("or `{\"name\": …, \"default\": …}`"))
        }
    }
}

/// The arguments in the order of the parameters.
fn bound<'n>(
    name: &str,
    spot: Spot,
    params: impl Iterator<Item = (&'n str, bool)> + Clone,
    given: &Arguments<'_>,
) -> Expanded<Vec<Option<Json>>> {
    match given {
        Arguments::InOrder(list) => {
            let (least, most) = (params.clone().filter(|(_, required)| *required).count(), params.count());
            if !(least..=most).contains(&list.len()) {
                let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
                let message = format!("{} takes {range} arguments, not {}", quoted(name), list.len());
                return Err(Trouble::new(spot, message));
            }
            Ok((0..most).map(|i| list.get(i).cloned()).collect())
        }
        Arguments::ByName(map) => params
            .map(|(param, is_required)| match map.get(param) {
                None if is_required => {
                    Err(Trouble::new(spot, format!("{} needs {}", quoted(name), quoted(param))))
                }
                value => Ok(value.cloned()),
            })
            .collect(),
    }
}

/// Nothing in it means anything.
fn is_plain(text: &str) -> bool {
    !text.starts_with('@') && !text.contains(['%', '\\'])
}

fn find_unescaped(text: &str, wanted: char) -> Option<usize> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            _ if c == wanted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Moves the text up to `%` to the end of `to`, without its backslashes; what stands behind, if there is a `%`.
fn unescape_until<'t>(text: &'t str, to: &mut String) -> Option<&'t str> {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => to.extend(chars.next()),
            '%' => return Some(chars.as_str()),
            _ => to.push(c),
        }
    }
    None
}

/// What stands between the commas outside of brackets; `None` when brackets do not match.
fn arguments(text: &str) -> Option<Vec<&str>> {
    let mut list = Vec::new();
    let (mut open_count, mut start) = (0_usize, 0);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '(' => open_count += 1,
            ')' => open_count = open_count.checked_sub(1)?,
            ',' if open_count == 0 => {
                list.push(trim(&text[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    list.push(trim(&text[start..]));
    (open_count == 0).then_some(list)
}

/// Without the white space around it, except for a last one that is escaped.
fn trim(text: &str) -> &str {
    let text = text.trim_start();
    let trimmed = text.trim_end();
    let slashes = trimmed.len() - trimmed.trim_end_matches('\\').len();
    let escaped = if slashes % 2 == 1 { text[trimmed.len()..].chars().next() } else { None };
    &text[..trimmed.len() + escaped.map_or(0, char::len_utf8)]
}

/// How a single value reads within a text.
pub(super) fn as_string(json: &Json) -> Option<Rc<str>> {
    match &json.value {
        Value::Text(text) => Some(Rc::clone(text)),
        Value::Integer(value) => Some(value.to_string().into()),
        Value::Float(value) => Some(value.to_string().into()),
        Value::Bool(value) => Some(value.to_string().into()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// The same on every start of this host.
fn host_id() -> i64 {
    let name = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
    i64::from(crate::hash::murmur64a(name.trim_ascii()) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_end_at_commas_outside_of_brackets() {
        assert_eq!(arguments("a, @b(c,d) ,e").unwrap(), ["a", "@b(c,d)", "e"]);
        assert_eq!(arguments("").unwrap(), [""]);
        assert_eq!(arguments("a\\,b").unwrap(), ["a\\,b"]);
        assert_eq!(arguments(" a\\  ").unwrap(), ["a\\ "]);
        assert!(arguments("(a").is_none() && arguments("a)").is_none());
    }

    #[test]
    fn backslashes_hide_what_means_something() {
        assert_eq!(find_unescaped("a\\(b(", '('), Some(4));
        let mut to = String::new();
        assert_eq!(unescape_until("a\\%b%c", &mut to), Some("c"));
        assert_eq!(to, "a%b");
    }
}
