//! What a gateway's metadata says: which endpoints it allows, which one served.

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::wire::Metadata;
use crate::exchange::EndpointSubset;
use crate::headers;

const SUBSET_NAMESPACE: &str = "envoy.lb.subset_hint";
const LB_NAMESPACE: &str = "envoy.lb";

/// The endpoints the gateway allows; `None` where it says nothing.
///
/// The value is a list of `ip:port` or `ip`, or a string of them with commas. Elements that are
/// not strings count for nothing: a list of only such allows no endpoint.
pub(super) fn subset_of(metadata: &Metadata) -> Option<EndpointSubset> {
    let value = field(metadata, SUBSET_NAMESPACE, headers::DESTINATION_SUBSET)?;
    let mut subset = EndpointSubset::default();
    match &value.kind {
        Some(Kind::StringValue(text)) => subset.allow(text),
        Some(Kind::ListValue(list)) => {
            for item in &list.values {
                if let Some(Kind::StringValue(text)) = &item.kind {
                    subset.allow(text);
                }
            }
        }
        _ => return None,
    }
    Some(subset)
}

/// The endpoint that served the request, as the gateway reports it with the response.
pub(super) fn served_by(metadata: &Metadata) -> Option<&str> {
    match &field(metadata, LB_NAMESPACE, headers::DESTINATION_SERVED)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

fn field<'m>(metadata: &'m Metadata, namespace: &str, key: &str) -> Option<&'m Value> {
    let Struct { fields } = metadata.filter_metadata.get(namespace)?;
    fields.get(key)
}
