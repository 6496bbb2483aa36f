//! The operator and an API server alone: no kubelet, no controller, so no pod ever runs. `KUBERNETES` and `ETCD` name the two programs (`hack/images.sh
//! tool kubernetes|etcd` builds them); these tests are ignored by default because not every machine has them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "agent/certificates.rs"]
mod certificates;
#[path = "api_server/foreign.rs"]
mod foreign;
#[path = "api_server/harness.rs"]
mod harness;
#[path = "api_server/many.rs"]
mod many;
#[path = "api_server/poison.rs"]
mod poison;
#[path = "api_server/rights.rs"]
mod rights;
