//! The resolver: hickory, so that a static binary needs no C library and no thread ever blocks on a name.

use hickory_resolver::TokioResolver;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

/// The resolver of one worker, made when the first name is asked for. Never on the way of a request.
#[derive(Clone, Default)]
pub struct Resolver {
    inner: Rc<RefCell<Option<TokioResolver>>>,
}

impl Resolver {
    /// Addresses of `name`, IPv4 and IPv6, at least one.
    ///
    /// # Errors
    /// One phrase for logs and error lines.
    pub async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let resolver = self.resolver()?;
        let answer = resolver.lookup_ip(name).await.map_err(|e| format!("cannot resolve {name}: {e}"))?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() {
            return Err(format!("cannot resolve {name}: no addresses"));
        }
        Ok(addresses)
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        if let Some(resolver) = &*self.inner.borrow() {
            return Ok(resolver.clone());
        }
        let resolver = TokioResolver::builder_tokio()
            .and_then(|builder| builder.build())
            .map_err(|e| format!("no resolver (/etc/resolv.conf): {e}"))?;
        *self.inner.borrow_mut() = Some(resolver.clone());
        Ok(resolver)
    }
}
