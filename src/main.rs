//! The program: parse arguments, call `cli`, turn the error into an exit code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    use ringway::config::*;
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut settings = Settings { listen: vec![], ..Settings::default() };
    let mut servers = vec![];
    let mut args = std::env::args().skip(2);
    while let (Some(k), Some(v)) = (args.next(), args.next()) {
        match &*k {
            "--workers" => settings.workers = Workers::Count(v.parse().unwrap()),
            "--listen" => settings.listen.push(match v.strip_prefix("unix:") { Some(p) => Listen::Unix(p.into()), None => Listen::Tcp(v.parse().unwrap()) }),
            "--server" => { let a: std::net::SocketAddr = v.parse().unwrap(); servers.push(Server { endpoint: Endpoint::Address(a), member: ringway::hash::Member { host: a.ip().to_string(), port: Some(a.port()), name: None, weight: 1 } }) }
            _ => panic!("{k}"),
        }
    }
    if servers.is_empty() {
        for i in 0..3 { servers.push(Server { endpoint: Endpoint::Embedded(Embedded { shard: i, memory_bytes_max: 21 << 20 }), member: ringway::hash::Member { host: format!("embedded-{i}"), port: None, name: None, weight: 1 } }); }
    }
    let pool = Pool { name: "main".into(), servers, hash: ringway::hash::Spec::default(), timeout: std::time::Duration::from_secs(1), connect_timeout: std::time::Duration::from_millis(500), on_error: OnError::Error, connections_count: 1, outstanding_count_max: 65536 };
    ringway::proxy::run(Config { settings, pools: vec![pool], route: Route::Pool(0) }).unwrap();
}
