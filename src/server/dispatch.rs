//! The way from a listener to its services: nearly all calls are for one of them.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::Either;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

type Response = http::Response<Body>;

/// Calls of one gRPC service go there directly, all others through a router: that boxes the future
/// and the body of each answer, and asks the boxes again for every frame.
#[derive(Clone, Debug)]
pub struct Dispatch<S> {
    first: S,
    others: Routes,
}

impl<S> Dispatch<S> {
    /// `first` for its own calls, `others` for the rest.
    pub fn new(first: S, others: Routes) -> Self {
        Self { first, others: others.prepare() }
    }
}

/// Whether a call is for the service `name`: `/NAME/METHOD`.
fn is_for(path: &str, name: &str) -> bool {
    let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(name));
    rest.is_some_and(|rest| rest.starts_with('/'))
}

impl<S> Service<http::Request<Incoming>> for Dispatch<S>
where
    S: Service<http::Request<Body>, Response = Response, Error = Infallible> + NamedService,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, <Routes as Service<http::Request<Incoming>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.first.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        if is_for(request.uri().path(), S::NAME) {
            Either::Left(self.first.call(request.map(Body::new)))
        } else {
            Either::Right(self.others.call(request))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_for;

    #[test]
    fn a_call_belongs_to_the_service_that_its_path_names_in_full() {
        for (path, expected) in [
            ("/a.B/Method", true),
            ("/a.B/", true),
            ("/a.B", false),
            ("/a.Bc/Method", false),
            ("/x/a.B/Method", false),
            ("a.B/Method", false),
            ("", false),
        ] {
            assert_eq!(is_for(path, "a.B"), expected, "{path}");
        }
    }
}
