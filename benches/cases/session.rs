//! A whole session: a client's bytes in, the embedded cache's answers out, client and worker in one thread.
//!
//! Through a unix socket in the temporary folder. As time that includes the kernel's part; as instructions it does
//! not, for callgrind sees user space only.

use super::Case;
use ringway::admin::{Admin, Current, Process};
use ringway::cache::{Cache, CacheLeaf};
use ringway::client::{self, Context};
use ringway::config::{Listen, OnError, Settings};
use ringway::hash::{Member, Ring, Spec};
use ringway::net::{Budget, Listener, ReadBlock, bind};
use ringway::route::{Leaf, PoolRoute, Root};
use ringway::stats::Stats;
use ringway::time::Clock;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

const SET: &[u8] = b"set user:000007919:profile:v2:abcde 0 0 100\r\n";
const GET: &[u8] = b"get user:000007919:profile:v2:abcde\r\n";
const MG: &[u8] = b"mg user:000007919:profile:v2:abcde v\r\n";

pub(crate) fn cases() -> Vec<Case> {
    let set = [SET, &[b'v'; 100], b"\r\n"].concat();
    let value = [b"VALUE user:000007919:profile:v2:abcde 0 100\r\n".as_slice(), &[b'v'; 100], b"\r\nEND\r\n"]
        .concat();
    let meta_value = [b"VA 100\r\n".as_slice(), &[b'v'; 100], b"\r\n"].concat();
    vec![
        session("get, one at a time", GET, value.len(), 1),
        session("get, 16 at a time", GET, value.len(), 16),
        session("set, 16 at a time", &set, b"STORED\r\n".len(), 16),
        session("mg, 16 at a time", MG, meta_value.len(), 16),
    ]
}

/// One call sends `request` `pipeline` times and awaits as many answers of `answer_bytes`.
fn session(name: &'static str, request: &[u8], answer_bytes: usize, pipeline: usize) -> Case {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(client::on_park)
        .build_local(LocalOptions::default())
        .expect("a runtime");
    let mut stream = runtime.block_on(connected());
    ask(&runtime, &mut stream, &[SET, &[b'v'; 100], b"\r\n"].concat(), &mut [0; 8]);
    let request = request.repeat(pipeline);
    let mut answer = vec![0; answer_bytes * pipeline];
    let call = move || ask(&runtime, &mut stream, &request, &mut answer);
    Case { batch: pipeline, ..Case::new(name, 0, call) }
}

#[expect(clippy::disallowed_methods, reason = "a client that is never cancelled")]
fn ask(runtime: &LocalRuntime, stream: &mut UnixStream, request: &[u8], answer: &mut [u8]) {
    runtime.block_on(async {
        stream.write_all(request).await.expect("the session reads");
        stream.read_exact(answer).await.expect("the session answers");
    });
}

/// A worker's room for clients over one embedded server, and a client of it.
async fn connected() -> UnixStream {
    let settings = Settings::default();
    let cache = Arc::new(Cache::new(1 << 20, 1 << 20));
    let leaf: Rc<dyn Leaf> = Rc::new(CacheLeaf::new(cache, "embedded-0".into(), Clock::System));
    let member = Member { host: "embedded-0".into(), port: None, name: None, weight: 1 };
    let ring = Ring::build(&Spec::default(), &[member]).expect("a plain spec builds");
    let root = Root::of_pool(PoolRoute::new("main".into(), ring, vec![leaf], 1, OnError::Error));
    let stats = Stats::new(1);
    let counters = stats.of(0);
    let process = Process::new(Current::default(), stats, Arc::default());
    let budget = Budget::new(settings.limits.buffer_bytes_max, Arc::clone(&counters));
    let context = Context::new(
        Rc::new(root),
        counters,
        &settings,
        Rc::new(RefCell::new(ReadBlock::default())),
        Rc::new(Admin::new(Arc::new(process))),
        Arc::new(AtomicUsize::new(0)),
        budget,
        Rc::default(),
    );
    let path = std::env::temp_dir().join(format!("ringway-bench-{}.sock", std::process::id()));
    let bound = bind(&Listen::Unix(path.clone()), false).expect("a socket in the temporary folder");
    let socket = bound.sockets.into_iter().next().expect("one for the worker");
    let listener = Listener::new(socket).expect("a watched socket");
    tokio::task::spawn_local(client::accept(context, listener, std::future::pending::<()>()));
    let stream = UnixStream::connect(&path).await.expect("a client");
    // Connected: the name is no longer needed.
    std::fs::remove_file(path).expect("our own file");
    stream
}
