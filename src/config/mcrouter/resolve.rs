//! What stands in several places is brought to one: pools that inherit, that are files, or that are written within a route.

use super::files::{Files, Missing, Trouble};
use crate::config::json::{Json, Key, Map, MapBuilder, Spot, TooMuch, Value};
use crate::config::quoted;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

type Told<T> = Result<T, Box<Trouble>>;

/// A document in which each pool that a route names stands under `pools` with all its keys.
pub(super) struct Resolved {
    pub(super) document: Json,
    /// The other pools, which stand there as they were written: mcrouter never looks at them.
    pub(super) unnamed: HashSet<String>,
    /// Those of them that others inherit from.
    pub(super) bases: HashSet<String>,
}

/// The same document, with its pools complete, and routes that name pools only.
pub(super) fn document(document: &Json, files: &Files) -> Result<Resolved, Vec<Trouble>> {
    let Value::Map(top) = &document.value else {
        return Err(vec![*Trouble::new(
            document.spot,
            format!("expected an object, found {}", document.kind()),
        )]);
    };
    let resolver = Resolver {
        files,
        written: read_pools(top).map_err(|trouble| vec![*trouble])?,
        pools: RefCell::default(),
        names: RefCell::default(),
        named: RefCell::default(),
        under_way: RefCell::default(),
        troubles: RefCell::default(),
    };
    let built = resolver.document(document.spot, top);
    let mut troubles = resolver.troubles.into_inner();
    match built {
        Ok(document) if troubles.is_empty() => {
            let names = resolver.named.into_inner();
            let unnamed = resolver.written.keys().filter(|name| !names.contains(*name));
            let base = |pool: &Json| pool.as_map().and_then(|pool| pool.text("inherit")).map(str::to_owned);
            Ok(Resolved {
                document,
                unnamed: unnamed.map(|name| name.to_string()).collect(),
                bases: resolver.written.values().filter_map(base).collect(),
            })
        }
        Ok(_) => Err(troubles),
        Err(trouble) => {
            troubles.push(*trouble);
            Err(troubles)
        }
    }
}

fn read_pools(top: &Map) -> Told<HashMap<Rc<str>, Json>> {
    match top.get("pools") {
        None => Ok(HashMap::new()),
        Some(Json { value: Value::Map(pools), .. }) => {
            Ok(pools.entries.iter().map(|(key, pool)| (Rc::clone(&key.name), pool.clone())).collect())
        }
        Some(other) => {
            let help = "as in `\"pools\": {\"A\": {\"servers\": [\"10.0.0.1:11211\"]}}`";
            Err(Trouble::new(other.spot, format!("expected an object of pools, found {}", other.kind()))
                .help(help))
        }
    }
}

struct Resolver<'a> {
    files: &'a Files,
    /// As they stand under `pools`.
    written: HashMap<Rc<str>, Json>,
    /// Complete ones.
    pools: RefCell<HashMap<Rc<str>, Json>>,
    /// Those that routes name, in the order in which they were met, and again as a set.
    names: RefCell<Vec<Key>>,
    named: RefCell<HashSet<Rc<str>>>,
    /// Pools that wait for those that they inherit from.
    under_way: RefCell<HashSet<Rc<str>>>,
    troubles: RefCell<Vec<Trouble>>,
}

impl Resolver<'_> {
    fn document(&self, spot: Spot, top: &Map) -> Told<Json> {
        let mut built = MapBuilder::default();
        for (key, value) in &top.entries {
            let value = match &*key.name {
                "route" | "routes" | "named_handles" => self.routes(value)?,
                _ => value.clone(),
            };
            built.set(key.clone(), value);
        }
        let mut pools = MapBuilder::default();
        // a pool may have routes among its servers, and they may have pools of their own
        let mut met_count = 0;
        while let Some(key) = { self.names.borrow().get(met_count).cloned() } {
            met_count += 1;
            if let Err(trouble) = self.pool(&key.name, key.spot) {
                self.troubles.borrow_mut().push(*trouble);
            }
        }
        // first those of the file in its order
        let written = top.get("pools").and_then(Json::as_map);
        for (key, pool) in written.into_iter().flat_map(|pools| &pools.entries) {
            let complete = self.pools.borrow().get(&key.name).cloned();
            pools.set(key.clone(), complete.unwrap_or_else(|| pool.clone()));
        }
        for key in self.names.borrow().iter() {
            if let (Some(pool), false) = (self.pools.borrow().get(&key.name), pools.has(&key.name)) {
                pools.set(key.clone(), pool.clone());
            }
        }
        let (key, place) = match top.entry("pools") {
            Some((key, pools)) => (key.clone(), pools.spot),
            None => (Key { name: "pools".into(), spot }, spot),
        };
        built.set(key, put_together(spot, pools.build(place))?);
        put_together(spot, built.build(spot))
    }

    /// The pool of this name, with what it inherits.
    fn pool(&self, name: &str, spot: Spot) -> Told<Json> {
        if let Some(pool) = self.pools.borrow().get(name) {
            return Ok(pool.clone());
        }
        let written = match self.written.get(name) {
            Some(pool) => pool.clone(),
            None if name.starts_with("file:") => self.file(name, spot)?,
            None => return Err(Trouble::new(spot, format!("there is no pool {}", quoted(name)))),
        };
        let name: Rc<str> = name.into();
        if !self.under_way.borrow_mut().insert(Rc::clone(&name)) {
            return Err(Trouble::new(spot, format!("the pool {} inherits from itself", quoted(&name))));
        }
        let pool = self.complete(&written).and_then(|pool| self.with_routes(pool));
        self.under_way.borrow_mut().remove(&name);
        let pool = pool?;
        self.pools.borrow_mut().insert(name, pool.clone());
        Ok(pool)
    }

    fn file(&self, path: &str, spot: Spot) -> Told<Json> {
        self.files.json(path, spot).map_err(|missing| match missing {
            Missing::Unread(why) => Trouble::new(spot, why),
            Missing::Wrong(trouble) => trouble,
        })
    }

    /// The keys of the pool that it inherits from, then its own.
    fn complete(&self, pool: &Json) -> Told<Json> {
        let Some(map) = pool.as_map() else { return Ok(pool.clone()) };
        let Some(base) = map.get("inherit") else { return Ok(pool.clone()) };
        let Some(name) = base.as_text() else {
            return Err(Trouble::new(
                base.spot,
                format!("expected the name of a pool, found {}", base.kind()),
            ));
        };
        let base = self.pool(name, base.spot)?;
        let mut built = match base.as_map() {
            Some(base) => MapBuilder::of(base),
            None => MapBuilder::default(),
        };
        for (key, value) in map.entries.iter().filter(|(key, _)| &*key.name != "inherit") {
            built.set(key.clone(), value.clone());
        }
        put_together(pool.spot, built.build(pool.spot))
    }

    /// The pool with what stands in routes among its servers brought to one place as well.
    fn with_routes(&self, pool: Json) -> Told<Json> {
        let Some(map) = pool.as_map() else { return Ok(pool) };
        let Some((key, Json { spot, value: Value::List(list) })) = map.entry("servers") else {
            return Ok(pool);
        };
        if !list.items.iter().any(|server| matches!(server.value, Value::Map(_))) {
            return Ok(pool);
        }
        let resolved = |server: &Json| match &server.value {
            Value::Map(map) => self.route(server.spot, map),
            _ => Ok(server.clone()),
        };
        let servers = list.items.iter().map(resolved).collect::<Told<_>>()?;
        let mut built = MapBuilder::of(map);
        built.set(key.clone(), put_together(*spot, Json::list(*spot, servers))?);
        put_together(pool.spot, built.build(pool.spot))
    }

    /// A part of the route tree.
    fn routes(&self, json: &Json) -> Told<Json> {
        match &json.value {
            Value::Text(text) => {
                self.meet_all(text, json.spot);
                Ok(json.clone())
            }
            Value::List(list) => {
                let items = list.items.iter().map(|item| self.routes(item)).collect::<Told<_>>()?;
                put_together(json.spot, Json::list(json.spot, items))
            }
            Value::Map(map) => self.route(json.spot, map),
            _ => Ok(json.clone()),
        }
    }

    fn route(&self, spot: Spot, map: &Map) -> Told<Json> {
        // `{"type": "Pool", "name": "A", "servers": […]}` is the pool itself
        if map.text("type") == Some("Pool") && (map.get("servers").is_some() || map.get("inherit").is_some())
        {
            let name = self.inline(spot, map)?;
            let mut built = MapBuilder::default();
            for key in ["type", "name"] {
                if let Some((key, value)) = map.entry(key) {
                    built.set(key.clone(), value.clone());
                }
            }
            built.set(Key { name: "pool".into(), spot }, Json::text(spot, &name));
            return put_together(spot, built.build(spot));
        }
        let mut built = MapBuilder::default();
        for (key, value) in &map.entries {
            let value = match (&*key.name, &value.value) {
                ("pool", Value::Map(pool)) => Json::text(value.spot, &self.inline(value.spot, pool)?),
                ("pool", Value::Text(name)) => {
                    self.meet_all(&format!("Pool|{name}"), value.spot);
                    value.clone()
                }
                _ => self.routes(value)?,
            };
            built.set(key.clone(), value);
        }
        let json = put_together(spot, built.build(spot))?;
        self.with_hash(json)
    }

    /// A pool that is written within a route stands under `pools` by its name; the first of a name is the one.
    fn inline(&self, spot: Spot, pool: &Map) -> Told<String> {
        let Some((_, name)) = pool.entry("name") else {
            return Err(Trouble::new(spot, "a pool within a route needs its `name`"));
        };
        let Some(text) = name.as_text() else {
            return Err(Trouble::new(name.spot, format!("expected a pool's name, found {}", name.kind())));
        };
        self.meet(text, name.spot);
        if pool.get("servers").is_none() && pool.get("inherit").is_none() {
            return Ok(text.to_owned());
        }
        if !self.written.contains_key(text) && !self.pools.borrow().contains_key(text) {
            let mut built = MapBuilder::default();
            for (key, value) in pool.entries.iter().filter(|(key, _)| !matches!(&*key.name, "name" | "type"))
            {
                built.set(key.clone(), value.clone());
            }
            let pool = self.complete(&put_together(spot, built.build(spot))?)?;
            let pool = self.with_routes(pool)?;
            self.pools.borrow_mut().insert(text.into(), pool);
            self.name(text, name.spot);
        }
        Ok(text.to_owned())
    }

    /// `FailoverRoute|Pool|A` names the pool `A`. A text that only looks like it does no harm: one pool more is read.
    fn meet_all(&self, text: &str, spot: Spot) {
        let mut rest = text;
        self.meet(rest, spot);
        while let Some((before, behind)) = rest.split_once('|') {
            // a pool that is a file of its own
            if behind.starts_with("file:") && (before == "Pool" || before == "PoolRoute") {
                self.name(behind, spot);
            }
            rest = behind;
            self.meet(rest, spot);
        }
    }

    /// A route says this, which may be a pool.
    fn meet(&self, text: &str, spot: Spot) {
        if self.written.contains_key(text) {
            self.name(text, spot);
        }
    }

    /// A route names this pool.
    fn name(&self, name: &str, spot: Spot) {
        if self.named.borrow_mut().insert(name.into()) {
            self.names.borrow_mut().push(Key { name: name.into(), spot });
        }
    }

    /// A `hash` of a pool's route takes the pool's weights and tags where it has none of its own, and the function that goes with
    /// weights where it names none. (mcrouter's `makePoolRoute`)
    fn with_hash(&self, route: Json) -> Told<Json> {
        let Some(map) = route.as_map() else { return Ok(route) };
        let (Some(name), Some((key, hash))) = (map.text("pool"), map.entry("hash")) else { return Ok(route) };
        let Ok(pool) = self.pool(name, route.spot) else { return Ok(route) };
        let mut of_hash = match &hash.value {
            Value::Map(hash) => MapBuilder::of(hash),
            Value::Text(_) => {
                let mut built = MapBuilder::default();
                built.set(Key { name: "hash_func".into(), spot: hash.spot }, hash.clone());
                built
            }
            _ => return Ok(route),
        };
        let of_pool = |key| pool.as_map().and_then(|pool| pool.entry(key));
        if of_pool("weights").is_some() && !of_hash.has("hash_func") {
            let key = Key { name: "hash_func".into(), spot: hash.spot };
            of_hash.set(key, Json::text(hash.spot, "WeightedCh3"));
        }
        for list in ["weights", "tags"] {
            if let (Some((key, value)), false) = (of_pool(list), of_hash.has(list)) {
                of_hash.set(key.clone(), value.clone());
            }
        }
        let mut built = MapBuilder::of(map);
        built.set(key.clone(), put_together(route.spot, of_hash.build(hash.spot))?);
        put_together(route.spot, built.build(route.spot))
    }
}

fn put_together(spot: Spot, built: Result<Json, TooMuch>) -> Told<Json> {
    built.map_err(|TooMuch(why)| Trouble::new(spot, why))
}
