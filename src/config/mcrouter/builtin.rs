//! The built-in calls: `@add(1,2)`, `{"type": "merge", "params": […]}`. What each takes stands in the table.

use super::expand::{Expanded, Expander, Scope, as_string};
use super::files::Trouble;
use crate::config::json::{Json, Key, List, Map, MapBuilder, Spot, Value};
use crate::config::quoted;
use crate::hash::{Rendezvous, spooky64};
use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

pub(super) struct Builtin {
    name: &'static str,
    /// Those that may be left out come last.
    pub(super) params: &'static [&'static str],
    pub(super) required_count: usize,
    pub(super) run: fn(&Call<'_>) -> Expanded,
}

/// One call, its arguments as written: each is expanded when it is asked for, so that `if` leaves one alone.
pub(super) struct Call<'a> {
    pub(super) expander: &'a Expander<'a>,
    pub(super) spot: Spot,
    pub(super) scope: &'a Scope<'a>,
    pub(super) arguments: Vec<Option<Json>>,
}

const BUILTINS: &[Builtin] = &[
    of("import", &["path", "default"], 1, import),
    of("hash", &["value"], 1, hash),
    of("weightedHash", &["dictionary", "key"], 2, weighted_hash),
    of("int", &["value"], 1, int),
    of("double", &["value"], 1, double),
    of("str", &["value"], 1, str),
    of("bool", &["value"], 1, bool),
    of("keys", &["dictionary"], 1, keys),
    of("values", &["dictionary"], 1, values),
    of("merge", &["params"], 1, merge),
    of("select", &["dictionary", "key", "default"], 2, select),
    of("shuffle", &["dictionary", "seed"], 1, shuffle),
    of("slice", &["dictionary", "from", "to"], 3, slice),
    of("split", &["dictionary", "delim"], 2, split),
    of("range", &["from", "to"], 2, range),
    of("contains", &["dictionary", "key"], 2, contains),
    of("empty", &["dictionary"], 1, |call| Ok(call.bool(call.size()? == 0))),
    of("size", &["dictionary"], 1, |call| Ok(call.integer(call.size()? as i64))),
    of("equals", &["A", "B"], 2, equals),
    of("less", &["A", "B"], 2, less),
    of("isArray", &["value"], 1, |call| call.is(|value| matches!(value, Value::List(_)))),
    of("isBool", &["value"], 1, |call| call.is(|value| matches!(value, Value::Bool(_)))),
    of("isInt", &["value"], 1, |call| call.is(|value| matches!(value, Value::Integer(_)))),
    of("isDouble", &["value"], 1, |call| call.is(|value| matches!(value, Value::Float(_)))),
    of("isObject", &["value"], 1, |call| call.is(|value| matches!(value, Value::Map(_)))),
    of("isString", &["value"], 1, |call| call.is(|value| matches!(value, Value::Text(_)))),
    of("bitwiseAnd", &["A", "B"], 2, |call| call.compute(|a, b| Some(a & b))),
    of("bitwiseOr", &["A", "B"], 2, |call| call.compute(|a, b| Some(a | b))),
    of("bitwiseXor", &["A", "B"], 2, |call| call.compute(|a, b| Some(a ^ b))),
    of("bitwiseNot", &["A"], 1, |call| Ok(call.integer(!call.int_at(0)?))),
    of("bitwiseLeftShift", &["A", "B"], 2, |call| call.compute(|a, b| a.checked_shl(u32::try_from(b).ok()?))),
    of("bitwiseRightShift", &["A", "B"], 2, |call| {
        call.compute(|a, b| a.checked_shr(u32::try_from(b).ok()?))
    }),
    of("and", &["A", "B"], 2, |call| Ok(call.bool(call.bool_at(0)? && call.bool_at(1)?))),
    of("or", &["A", "B"], 2, |call| Ok(call.bool(call.bool_at(0)? || call.bool_at(1)?))),
    of("not", &["A"], 1, |call| Ok(call.bool(!call.bool_at(0)?))),
    of("add", &["A", "B"], 2, |call| call.compute(i64::checked_add)),
    of("sub", &["A", "B"], 2, |call| call.compute(i64::checked_sub)),
    of("mul", &["A", "B"], 2, |call| call.compute(i64::checked_mul)),
    of("div", &["A", "B"], 2, |call| call.compute(i64::checked_div)),
    of("mod", &["A", "B"], 2, |call| call.compute(i64::checked_rem)),
    of("fail", &["msg"], 1, |call| Err(call.wrong(call.text_at(0)?))),
    of("sort", &["dictionary"], 1, sort),
    of("set", &["dictionary", "key", "value"], 3, set),
    of("if", &["condition", "is_true", "is_false"], 3, |call| call.get(if call.bool_at(0)? { 1 } else { 2 })),
    of(
        "defined",
        &["name"],
        1,
        |call| Ok(call.bool(call.expander.is_defined(&call.text_at(0)?, call.scope))),
    ),
    of("isLocalIp", &["ip"], 1, is_local_ip),
];

const fn of(
    name: &'static str,
    params: &'static [&'static str],
    required_count: usize,
    run: fn(&Call<'_>) -> Expanded,
) -> Builtin {
    Builtin { name, params, required_count, run }
}

pub(super) fn find(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

impl Call<'_> {
    /// An argument, expanded. Those that are needed are there.
    fn get(&self, index: usize) -> Expanded {
        match &self.arguments[index] {
            Some(argument) => self.expander.expand(argument, self.scope),
            None => Err(self.wrong("an argument is missing")),
        }
    }

    fn get_or_nothing(&self, index: usize) -> Expanded<Option<Json>> {
        if self.arguments[index].is_some() { self.get(index).map(Some) } else { Ok(None) }
    }

    fn wrong(&self, why: impl AsRef<str>) -> Box<Trouble> {
        Trouble::new(self.spot, why.as_ref())
    }

    fn expected(&self, what: &str, found: &Json) -> Box<Trouble> {
        self.wrong(format!("expected {what}, found {}", found.kind()))
    }

    fn text_at(&self, index: usize) -> Expanded<Rc<str>> {
        let json = self.get(index)?;
        match &json.value {
            Value::Text(text) => Ok(Rc::clone(text)),
            _ => Err(self.expected("a string", &json)),
        }
    }

    fn int_at(&self, index: usize) -> Expanded<i64> {
        let json = self.get(index)?;
        match json.value {
            Value::Integer(value) => Ok(value),
            _ => Err(self.expected("an integer", &json).help("as in `@int(5)`: `5` alone is a string")),
        }
    }

    fn bool_at(&self, index: usize) -> Expanded<bool> {
        let json = self.get(index)?;
        match json.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.expected("a boolean", &json)),
        }
    }

    fn is(&self, test: fn(&Value) -> bool) -> Expanded {
        Ok(self.bool(test(&self.get(0)?.value)))
    }

    fn compute(&self, compute: fn(i64, i64) -> Option<i64>) -> Expanded {
        let (a, b) = (self.int_at(0)?, self.int_at(1)?);
        compute(a, b)
            .map(|value| self.integer(value))
            .ok_or_else(|| self.wrong(format!("of {a} and {b} there is no result")))
    }

    fn size(&self) -> Expanded<usize> {
        let json = self.get(0)?;
        match &json.value {
            Value::Map(map) => Ok(map.entries.len()),
            Value::List(list) => Ok(list.items.len()),
            Value::Text(text) => Ok(text.len()),
            _ => Err(self.expected("an object, an array or a string", &json)),
        }
    }

    fn bool(&self, value: bool) -> Json {
        Json::new(self.spot, Value::Bool(value))
    }

    fn integer(&self, value: i64) -> Json {
        Json::new(self.spot, Value::Integer(value))
    }

    fn list(&self, items: Vec<Json>) -> Expanded {
        self.expander.list(self.spot, items)
    }

    fn map(&self, built: MapBuilder, entries_count: usize) -> Expanded {
        self.expander.charge(self.spot, entries_count)?;
        self.expander.put_together(self.spot, built.build(self.spot))
    }
}

fn import(call: &Call<'_>) -> Expanded {
    let path = call.text_at(0)?;
    call.expander.import(&path, call.spot, || call.get_or_nothing(1))
}

/// As folly's: SpookyHash of text, Thomas Wang's mix of integers.
fn hash(call: &Call<'_>) -> Expanded {
    let json = call.get(0)?;
    match &json.value {
        Value::Text(text) => Ok(call.integer(spooky64(text.as_bytes(), 0).cast_signed())),
        Value::Integer(value) => Ok(call.integer(mixed(value.cast_unsigned()).cast_signed())),
        _ => Err(call.expected("a string or an integer", &json)),
    }
}

fn mixed(mut key: u64) -> u64 {
    key = (!key).wrapping_add(key << 21);
    key ^= key >> 24;
    key = key.wrapping_add(key << 3).wrapping_add(key << 8);
    key ^= key >> 14;
    key = key.wrapping_add(key << 2).wrapping_add(key << 4);
    key ^= key >> 28;
    key.wrapping_add(key << 31)
}

/// One of the keys, by their weights: the same for the same text.
fn weighted_hash(call: &Call<'_>) -> Expanded {
    let (dictionary, key) = (call.get(0)?, call.text_at(1)?);
    let Some(map) = dictionary.as_map().filter(|map| !map.entries.is_empty()) else {
        return Err(call.expected("an object of weights", &dictionary));
    };
    let weight = |(_, weight): &(Key, Json)| match weight.value {
        Value::Integer(weight) => Some(weight as f64),
        Value::Float(weight) => Some(weight),
        _ => None,
    };
    let Some(weights) = map.entries.iter().map(weight).collect::<Option<Vec<f64>>>() else {
        return Err(call.wrong("a weight is not a number"));
    };
    let tags: Vec<String> = map.entries.iter().map(|(key, _)| key.name.to_string()).collect();
    let rendezvous =
        Rendezvous::build(&tags, Some(&weights)).map_err(|error| call.wrong(error.to_string()))?;
    let best = rendezvous.pick(key.as_bytes()).and_then(|best| tags.get(best));
    best.map(|tag| Json::text(call.spot, tag)).ok_or_else(|| call.wrong("an object without weights"))
}

fn int(call: &Call<'_>) -> Expanded {
    let json = call.get(0)?;
    let value = match &json.value {
        Value::Integer(value) => Some(*value),
        Value::Float(value) if value.fract() == 0.0 && value.abs() < 9e18 => Some(*value as i64),
        Value::Bool(value) => Some((*value).into()),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    value.map(|value| call.integer(value)).ok_or_else(|| call.expected("what reads as an integer", &json))
}

fn double(call: &Call<'_>) -> Expanded {
    let json = call.get(0)?;
    let value = match &json.value {
        Value::Integer(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Text(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => None,
    };
    let value = value.ok_or_else(|| call.expected("what reads as a number", &json))?;
    Ok(Json::new(call.spot, Value::Float(value)))
}

fn str(call: &Call<'_>) -> Expanded {
    let json = call.get(0)?;
    let text = as_string(&json).ok_or_else(|| call.expected("a single value", &json))?;
    call.expander.new_text(call.spot, &text)
}

fn bool(call: &Call<'_>) -> Expanded {
    let json = call.get(0)?;
    let value = match &json.value {
        Value::Bool(value) => Some(*value),
        Value::Integer(value) => Some(*value != 0),
        Value::Float(value) => Some(*value != 0.0),
        Value::Text(text) => match text.to_lowercase().as_str() {
            "true" | "1" | "yes" | "y" | "on" | "t" => Some(true),
            "false" | "0" | "no" | "n" | "off" | "f" => Some(false),
            _ => None,
        },
        _ => None,
    };
    value.map(|value| call.bool(value)).ok_or_else(|| call.expected("what reads as a boolean", &json))
}

fn map_of(call: &Call<'_>) -> Expanded<Rc<Map>> {
    let json = call.get(0)?;
    json.as_map().cloned().ok_or_else(|| call.expected("an object", &json))
}

fn keys(call: &Call<'_>) -> Expanded {
    let name = |(key, _): &(Key, Json)| Json::new(key.spot, Value::Text(Rc::clone(&key.name)));
    call.list(map_of(call)?.entries.iter().map(name).collect())
}

fn values(call: &Call<'_>) -> Expanded {
    call.list(map_of(call)?.entries.iter().map(|(_, value)| value.clone()).collect())
}

/// Arrays one behind the other; strings too; objects, where the later one's keys count.
fn merge(call: &Call<'_>) -> Expanded {
    let params = call.get(0)?;
    let Value::List(params) = &params.value else { return Err(call.expected("an array", &params)) };
    let parts = &params.items;
    let alike = |other: &Json| call.wrong(format!("cannot merge {} with {}", parts[0].kind(), other.kind()));
    match parts.first().map(|first| &first.value) {
        Some(Value::List(_)) => {
            let mut items = Vec::new();
            for part in parts {
                let Value::List(list) = &part.value else { return Err(alike(part)) };
                items.extend(list.items.iter().cloned());
            }
            call.list(items)
        }
        Some(Value::Map(_)) => {
            let mut built = MapBuilder::default();
            let mut entries_count = 0;
            for part in parts {
                let Value::Map(map) = &part.value else { return Err(alike(part)) };
                entries_count += map.entries.len();
                map.entries.iter().for_each(|(key, value)| built.set(key.clone(), value.clone()));
            }
            call.map(built, entries_count)
        }
        Some(Value::Text(_)) => {
            let mut built = String::new();
            for part in parts {
                let Value::Text(text) = &part.value else { return Err(alike(part)) };
                built.push_str(text);
            }
            call.expander.new_text(call.spot, &built)
        }
        _ => Err(call.wrong("`params` begins with no array, object or string")),
    }
}

fn select(call: &Call<'_>) -> Expanded {
    let (dictionary, key) = (call.get(0)?, call.get(1)?);
    let found = match (&dictionary.value, &key.value) {
        (Value::Map(map), Value::Text(key)) => map.get(key),
        (Value::List(list), Value::Integer(index)) => at(list, *index),
        (Value::Map(_), _) => return Err(call.expected("a string as the key", &key)),
        (Value::List(_), _) => return Err(call.expected("an integer as the key", &key)),
        _ => return Err(call.expected("an object or an array", &dictionary)),
    };
    if let Some(found) = found {
        return Ok(found.clone());
    }
    let wanted = as_string(&key).unwrap_or_default();
    call.get_or_nothing(2)?
        .ok_or_else(|| call.wrong(format!("there is no {}, and no default", quoted(&wanted))))
}

/// Negative places count from the end.
fn at(list: &List, index: i64) -> Option<&Json> {
    let index = if index < 0 { index + list.items.len() as i64 } else { index };
    list.items.get(usize::try_from(index).ok()?)
}

fn shuffle(call: &Call<'_>) -> Expanded {
    let json = call.get(0)?;
    let seed = match call.get_or_nothing(1)? {
        None => RandomState::new().hash_one(0_u8),
        Some(Json { value: Value::Integer(seed), .. }) => seed.cast_unsigned(),
        Some(other) => return Err(call.expected("an integer", &other)),
    };
    match &json.value {
        Value::Map(_) => Ok(json.clone()),
        Value::List(list) => {
            let mut items = list.items.clone();
            let mut state = seed;
            for i in 0..items.len() {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let rest = (items.len() - i) as u64;
                items.swap(i, i + (mixed(state) % rest) as usize);
            }
            call.list(items)
        }
        _ => Err(call.expected("an object or an array", &json)),
    }
}

/// From and to, both included.
fn slice(call: &Call<'_>) -> Expanded {
    let json = call.get(0)?;
    if let Value::Map(map) = &json.value {
        let (from, to) = (call.text_at(1)?, call.text_at(2)?);
        let mut built = MapBuilder::default();
        for (key, value) in map.entries.iter().filter(|(key, _)| from <= key.name && key.name <= to) {
            built.set(key.clone(), value.clone());
        }
        return call.map(built, map.entries.len());
    }
    let (from, to) = (call.int_at(1)?.max(0), call.int_at(2)?.saturating_add(1).max(0));
    let (from, to) = (usize::try_from(from).unwrap_or(usize::MAX), usize::try_from(to).unwrap_or(usize::MAX));
    let count = to.saturating_sub(from);
    match &json.value {
        Value::List(list) => call.list(list.items.iter().skip(from).take(count).cloned().collect()),
        Value::Text(text) => {
            let part: String = text.chars().skip(from).take(count).collect();
            call.expander.new_text(call.spot, &part)
        }
        _ => Err(call.expected("an object, an array or a string", &json)),
    }
}

fn split(call: &Call<'_>) -> Expanded {
    let (text, delim) = (call.text_at(0)?, call.text_at(1)?);
    if delim.is_empty() {
        return Err(call.wrong("cannot split by an empty string"));
    }
    call.expander.charge_bytes(call.spot, text.len())?;
    call.list(text.split(&*delim).map(|part| Json::text(call.spot, part)).collect())
}

fn range(call: &Call<'_>) -> Expanded {
    let (from, to) = (call.int_at(0)?, call.int_at(1)?);
    let count = usize::try_from(i128::from(to) - i128::from(from) + 1).unwrap_or(0);
    call.expander.charge(call.spot, count)?;
    call.list((from..=to).map(|value| call.integer(value)).collect())
}

fn contains(call: &Call<'_>) -> Expanded {
    let (dictionary, key) = (call.get(0)?, call.get(1)?);
    call.expander.charge(call.spot, dictionary.values_count())?;
    let has = match (&dictionary.value, &key.value) {
        (Value::Map(map), Value::Text(key)) => map.get(key).is_some(),
        (Value::List(list), wanted) => list.items.iter().any(|item| item.value == *wanted),
        (Value::Text(text), Value::Text(part)) => text.contains(&**part),
        (Value::Map(_) | Value::Text(_), _) => return Err(call.expected("a string as the key", &key)),
        _ => return Err(call.expected("an object, an array or a string", &dictionary)),
    };
    Ok(call.bool(has))
}

fn equals(call: &Call<'_>) -> Expanded {
    let (a, b) = (call.get(0)?, call.get(1)?);
    call.expander.charge(call.spot, a.values_count())?;
    Ok(call.bool(a.value == b.value))
}

fn less(call: &Call<'_>) -> Expanded {
    let (a, b) = (call.get(0)?, call.get(1)?);
    match compared(&a, &b) {
        Some(order) => Ok(call.bool(order == Ordering::Less)),
        None => Err(call.wrong(format!("cannot compare {} with {}", a.kind(), b.kind()))),
    }
}

fn compared(a: &Json, b: &Json) -> Option<Ordering> {
    match (&a.value, &b.value) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Integer(a), Value::Integer(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Integer(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Integer(b)) => a.partial_cmp(&(*b as f64)),
        _ => None,
    }
}

fn sort(call: &Call<'_>) -> Expanded {
    let json = call.get(0)?;
    let Value::List(list) = &json.value else { return Err(call.expected("an array", &json)) };
    let mut items = list.items.clone();
    if items.iter().any(|item| compared(&items[0], item).is_none()) {
        return Err(call.wrong("cannot sort values of different kinds"));
    }
    items.sort_by(|a, b| compared(a, b).unwrap_or(Ordering::Equal));
    call.list(items)
}

fn set(call: &Call<'_>) -> Expanded {
    let (dictionary, key, value) = (call.get(0)?, call.get(1)?, call.get(2)?);
    match (&dictionary.value, &key.value) {
        (Value::Map(map), Value::Text(name)) => {
            let mut built = MapBuilder::of(map);
            built.set(Key { name: Rc::clone(name), spot: key.spot }, value);
            call.map(built, map.entries.len())
        }
        (Value::List(list), Value::Integer(index)) => {
            let mut items = list.items.clone();
            let place = usize::try_from(*index).ok().and_then(|index| items.get_mut(index));
            *place.ok_or_else(|| call.wrong(format!("there is no place {index} in the array")))? = value;
            call.list(items)
        }
        (Value::Map(_), _) => Err(call.expected("a string as the key", &key)),
        (Value::List(_), _) => Err(call.expected("an integer as the key", &key)),
        _ => Err(call.expected("an object or an array", &dictionary)),
    }
}

/// Whether this host has the address.
fn is_local_ip(call: &Call<'_>) -> Expanded {
    let text = call.text_at(0)?;
    let ip: std::net::IpAddr =
        text.parse().map_err(|_| call.wrong(format!("{} is not an IP address", quoted(&text))))?;
    Ok(call.bool(std::net::UdpSocket::bind((ip, 0)).is_ok()))
}
