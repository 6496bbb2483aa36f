//! How a request is refused.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::operator::kubernetes::KubernetesError;

/// An HTTP status, and a message for the client.
#[derive(Debug)]
pub struct Refusal(pub StatusCode, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

impl From<KubernetesError> for Refusal {
    fn from(error: KubernetesError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, format!("{error}; try again"))
    }
}
