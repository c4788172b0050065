use bytes::Bytes;

/// What is to leave with a request or a response beside the destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directions {
    headers: Vec<(Bytes, Bytes)>,
    metadata: Vec<MetadataEntry>,
    port: Option<u16>,
}

/// One value of the gateway's dynamic metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataEntry {
    pub namespace: String,
    pub key: String,
    pub value: MetadataValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValue {
    Text(String),
    Number(f64),
    Flag(bool),
}

impl Directions {
    /// Nothing beside the destination.
    pub const NONE: Self = Self { headers: Vec::new(), metadata: Vec::new(), port: None };

    /// Sets a header, by its lower-case name; the last value counts.
    pub fn set_header(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        match self.headers.iter_mut().find(|(k, _)| *k == key) {
            Some(slot) => slot.1 = value,
            None => self.headers.push((key, value)),
        }
    }

    /// Sets a value of the gateway's dynamic metadata; the last one counts.
    pub fn set_metadata(&mut self, namespace: &str, key: &str, value: MetadataValue) {
        match self.metadata.iter_mut().find(|e| e.namespace == namespace && e.key == key) {
            Some(entry) => entry.value = value,
            None => {
                let (namespace, key) = (namespace.to_owned(), key.to_owned());
                self.metadata.push(MetadataEntry { namespace, key, value });
            }
        }
    }

    /// Has the gateway connect to this port of every picked endpoint, not to their own.
    pub fn set_port(&mut self, port: u16) {
        self.port = Some(port);
    }

    /// Headers to set, in the order they were first set.
    pub fn headers(&self) -> &[(Bytes, Bytes)] {
        &self.headers
    }

    pub fn metadata(&self) -> &[MetadataEntry] {
        &self.metadata
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }
}
