//! What goes through an object or an array: `transform`, `process`, `foreach`; and `define`, which names things.
//!
//! Each has expressions that are expanded once per entry, with `%key%` and `%item%` (or other names) for the entry.

use super::expand::{Expanded, Expander, Scope};
use super::files::Trouble;
use crate::config::json::{Json, Key, Map, MapBuilder, Spot, Value};
use std::rc::Rc;

/// One of them, as written.
pub(super) struct Loop<'a> {
    pub(super) expander: &'a Expander<'a>,
    pub(super) name: &'a str,
    pub(super) spot: Spot,
    pub(super) map: &'a Map,
    pub(super) scope: &'a Scope<'a>,
}

type Run = fn(&Loop<'_>) -> Expanded;

pub(super) fn find(name: &str) -> Option<Run> {
    match name {
        "transform" => Some(transform),
        "process" => Some(process),
        "foreach" => Some(foreach),
        // `vars` is done for every call
        "define" => Some(|here| here.expand("result", here.scope)),
        _ => None,
    }
}

impl Loop<'_> {
    fn wrong(&self, why: &str) -> Box<Trouble> {
        Trouble::new(self.spot, format!("`{}`: {why}", self.name))
    }

    /// The value of a key that must be there.
    fn expand(&self, key: &str, scope: &Scope<'_>) -> Expanded {
        match self.map.get(key) {
            Some(json) => self.expander.expand(json, scope),
            None => Err(self.wrong(&format!("`{key}` is missing"))),
        }
    }

    fn expand_if_any(&self, keys: &[&str], scope: &Scope<'_>) -> Expanded<Option<Json>> {
        let written = keys.iter().find_map(|key| self.map.get(key));
        written.map(|json| self.expander.expand(json, scope)).transpose()
    }

    /// What an entry's key, its value, … are called in the expressions.
    fn name(&self, key: &str, otherwise: &str) -> Expanded<Rc<str>> {
        match self.map.get(key) {
            None => Ok(otherwise.into()),
            Some(Json { value: Value::Text(name), .. }) => Ok(Rc::clone(name)),
            Some(other) => Err(self.wrong(&format!("`{key}` is {}, not a string", other.kind()))),
        }
    }

    /// The entries of what stands under a key, and whether it is an object.
    fn entries(&self, key: &str) -> Expanded<(Vec<(Json, Json)>, bool)> {
        let json = self.expand(key, self.scope)?;
        match &json.value {
            Value::Map(map) => {
                let entry = |(key, value): &(Key, Json)| {
                    (Json::new(key.spot, Value::Text(Rc::clone(&key.name))), value.clone())
                };
                Ok((map.entries.iter().map(entry).collect(), true))
            }
            Value::List(list) => {
                let entry = |(i, item): (usize, &Json)| {
                    (Json::new(item.spot, Value::Integer(i as i64)), item.clone())
                };
                Ok((list.items.iter().enumerate().map(entry).collect(), false))
            }
            _ => Err(self.wrong(&format!("`{key}` is {}, not an object or an array", json.kind()))),
        }
    }

    fn is_true(&self, keys: &[&str], scope: &Scope<'_>) -> Expanded<bool> {
        match self.expand_if_any(keys, scope)? {
            None => Ok(true),
            Some(Json { value: Value::Bool(value), .. }) => Ok(value),
            Some(other) => Err(self.wrong(&format!("the condition is {}, not a boolean", other.kind()))),
        }
    }

    fn built(&self, built: MapBuilder) -> Expanded {
        self.expander.put_together(self.spot, built.build(self.spot))
    }
}

/// Each entry by `itemTranslate` and `keyTranslate`, those without `itemFilter` left out. (Its old words end in `Transform`.)
fn transform(here: &Loop<'_>) -> Expanded {
    const ITEM: &[&str] = &["itemTranslate", "itemTransform"];
    let (key_name, item_name) = (here.name("keyName", "key")?, here.name("itemName", "item")?);
    let (entries, is_map) = here.entries("dictionary")?;
    let (mut built, mut items) = (MapBuilder::default(), Vec::new());
    for (key, item) in entries {
        let mut scope = Scope::within(here.scope);
        scope.vars = vec![(Rc::clone(&key_name), key.clone()), (Rc::clone(&item_name), item.clone())];
        if !here.is_true(&["itemFilter"], &scope)? {
            continue;
        }
        let keys = if is_map { here.expand_if_any(&["keyTranslate", "keyTransform"], &scope)? } else { None };
        let item = here.expand_if_any(ITEM, &scope)?.unwrap_or(item);
        if !is_map {
            items.push(item);
            continue;
        }
        match keys.unwrap_or(key) {
            Json { value: Value::Text(name), spot } => built.set(Key { name, spot }, item),
            Json { value: Value::List(names), spot } => {
                for name in &names.items {
                    let Value::Text(name) = &name.value else {
                        return Err(here.wrong("a new key is not a string"));
                    };
                    built.set(Key { name: Rc::clone(name), spot }, item.clone());
                }
            }
            _ => return Err(here.wrong("the new key is not a string or an array of them")),
        }
    }
    if is_map { here.built(built) } else { here.expander.list(here.spot, items) }
}

/// `%value%`, at first `initialValue`, by `transform` with each entry.
fn process(here: &Loop<'_>) -> Expanded {
    let names =
        [here.name("keyName", "key")?, here.name("itemName", "item")?, here.name("valueName", "value")?];
    let (entries, _) = here.entries("dictionary")?;
    let mut value = here.expand("initialValue", here.scope)?;
    for (key, item) in entries {
        let mut scope = Scope::within(here.scope);
        scope.vars = names.iter().cloned().zip([key, item, value]).collect();
        value = here.expand("transform", &scope)?;
    }
    Ok(value)
}

/// Of the first `top` entries for which `where` holds, all that `use` says, merged; `noMatchResult` if there are none.
fn foreach(here: &Loop<'_>) -> Expanded {
    let (key_name, item_name) = (here.name("key", "key")?, here.name("item", "item")?);
    let (entries, is_map) = here.entries("from")?;
    let top = match here.expand_if_any(&["top"], here.scope)? {
        None => usize::MAX,
        Some(Json { value: Value::Integer(top @ 0..), .. }) => usize::try_from(top).unwrap_or(usize::MAX),
        Some(_) => return Err(here.wrong("`top` is not an integer from 0")),
    };
    let mut makes_map = None;
    let (mut built, mut items, mut matches_count) = (MapBuilder::default(), Vec::new(), 0);
    for (key, item) in entries {
        if matches_count == top {
            break;
        }
        let mut scope = Scope::within(here.scope);
        scope.vars = vec![(Rc::clone(&key_name), key.clone()), (Rc::clone(&item_name), item.clone())];
        if !here.is_true(&["where"], &scope)? {
            continue;
        }
        matches_count += 1;
        let is_map = match here.expand_if_any(&["use"], &scope)?.map(|used| used.value) {
            None => {
                match key.value {
                    Value::Text(name) if is_map => built.set(Key { name, spot: key.spot }, item),
                    _ => items.push(item),
                }
                is_map
            }
            Some(Value::Map(used)) => {
                here.expander.charge(here.spot, used.entries.len())?;
                used.entries.iter().for_each(|(key, value)| built.set(key.clone(), value.clone()));
                true
            }
            Some(Value::List(used)) => {
                here.expander.charge(here.spot, used.items.len())?;
                items.extend(used.items.iter().cloned());
                false
            }
            Some(_) => return Err(here.wrong("`use` is not an object or an array")),
        };
        if *makes_map.get_or_insert(is_map) != is_map {
            return Err(here.wrong("`use` is an object once and an array another time"));
        }
    }
    if matches_count == 0
        && let Some(otherwise) = here.expand_if_any(&["noMatchResult"], here.scope)?
    {
        return Ok(otherwise);
    }
    if makes_map.unwrap_or(is_map) { here.built(built) } else { here.expander.list(here.spot, items) }
}
