//! `ringway explain`: which path would this key take? The descent, as a small tree.

use super::source::Source;
use super::{EXIT_WRONG, output};
use crate::config::Config;
use crate::protocol::{Op, Request, limits::KEY_BYTES_MAX};
use crate::route::{self, Explained, When};
use std::process::ExitCode;

/// Show which server a key goes to, and why
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    ringway explain user:42 -c /etc/ringway.yaml\n  \
    ringway explain user:42 --op set --server 10.0.0.1:11211 --server 10.0.0.2:11211")]
pub(super) struct Args {
    /// The key
    #[arg(value_name = "KEY", value_parser = parse_key)]
    key: String,
    /// The operation: get, set, delete, mg, …
    #[arg(long, default_value = "get", value_name = "OP", value_parser = parse_op)]
    op: Op,
    #[command(flatten)]
    source: Source,
}

/// Prints the tree.
pub(super) fn run(args: &Args) -> ExitCode {
    let mut config = match args.source.load() {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    super::source::find_servers(&mut config);
    match tree(&config, args.op, &args.key) {
        Ok(text) => output::answer(&text),
        Err(why) => {
            output::error(&format!("error: {why}\n"));
            ExitCode::from(EXIT_WRONG)
        }
    }
}

fn tree(config: &Config, op: Op, key: &str) -> Result<String, String> {
    let request = Request::new(op, key.as_bytes());
    let walked = route::explain(config, &request)?;
    let here = Explained::new(format!("{} {key}", op.name()));
    Ok(here.with(When::Now, walked).to_string())
}

/// As memcached would take it.
fn parse_key(key: &str) -> Result<String, String> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(format!("a key has 1 to {KEY_BYTES_MAX} bytes"));
    }
    if key.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("a key has no spaces and no control characters".to_owned());
    }
    Ok(key.to_owned())
}

fn parse_op(name: &str) -> Result<Op, String> {
    Op::ALL.into_iter().find(|op| op.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Op::ALL.iter().map(|op| op.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_vectors_of_the_reference() {
        let servers = ["mc-0", "mc-1", "mc-2"].map(str::to_owned);
        let config = config::from_servers(&servers).unwrap();
        assert_eq!(
            tree(&config, Op::Get, "user:2").unwrap(),
            "get user:2\n└─ pool main\n   └─ ketama: md5 of `user:2` = 3264788475, among 480 points\n      \
             └─ server mc-1:11211\n"
        );
    }

    #[test]
    fn tags_one_server_and_random() {
        let of = |pool: &str, key: &str| {
            let (config, _) = config::from_text("t", &format!("pools: {{p: {pool}}}"), route::check).unwrap();
            tree(&config, Op::Set, key).unwrap()
        };
        assert!(of("{servers: [a, b], hash_tag: '{}'}", "x{7}y").contains("of `7` (part of the key)"));
        assert!(of("{servers: [a name=n]}", "k").contains("nothing to choose\n      └─ server n, a:11211"));
        assert!(of("{servers: [a, b], hash: ch3, salt: x}", "k").contains("of `k` and the salt `x` = "));
        let shard = of("{servers: [a, b], hash: const_shard}", "user:1:x");
        assert!(shard.contains("const_shard: shard of `user:1:x` = 1\n      └─ server b"), "{shard}");
        let tags = of("{servers: [a, b], hash: rendezvous, tags: [x, y]}", "k");
        assert!(tags.contains("rendezvous: murmur64a of `k` = "), "{tags}");
        assert!(of("{servers: [a, b], hash: random}", "k").contains("any of 2 servers"));
    }
}
