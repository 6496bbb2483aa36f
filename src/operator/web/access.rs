//! Access to a history: a user may read it if a role allows the user to `get` the subresource `multimasterclusters/history` in the namespace.
//! Kubernetes decides.
//!
//! The operator's port is open to all pods and speaks HTTP without TLS. So it accepts only a token for the audience [`AUDIENCE`], which is valid
//! nowhere else. It accepts neither the agents' token, with which one can send orders to members, nor a token for the API server.

use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::refusal::Refusal;
use crate::names;
use crate::operator::kubernetes::ask;

/// Audience of the tokens: `kubectl create token NAME --audience multimaster.dev`.
pub const AUDIENCE: &str = names::GROUP;
/// The subresource that a role names. It exists in RBAC only.
pub const SUBRESOURCE: &str = "history";

/// Checks the token of a request and the user's right to read.
///
/// # Errors
/// [`Refusal`]: 401 without a valid token, 403 without the right, 503 when the API server does not answer.
pub async fn check(client: &Client, headers: &HeaderMap, namespace: &str, name: &str) -> Result<(), Refusal> {
    let token = token(headers).ok_or_else(|| unauthorized("no bearer token"))?;
    let user = user(client, token).await?;
    let who = user.username.clone().unwrap_or_default();
    let review = SubjectAccessReview {
        spec: spec(user, namespace, name),
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let review = ask("SubjectAccessReview", api.create(&PostParams::default(), &review)).await?;
    if review.status.is_some_and(|status| status.allowed) {
        return Ok(());
    }
    let message = format!(
        "{who} may not read the history: no role allows to get multimasterclusters/{SUBRESOURCE} in the namespace {namespace:?}"
    );
    Err(Refusal(StatusCode::FORBIDDEN, message))
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").filter(|token| !token.is_empty())
}

fn unauthorized(why: &str) -> Refusal {
    let message =
        format!("{why}; send one for the audience {AUDIENCE}: kubectl create token NAME --audience {AUDIENCE}");
    Refusal(StatusCode::UNAUTHORIZED, message)
}

/// The user of a token.
async fn user(client: &Client, token: &str) -> Result<UserInfo, Refusal> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.into(),
            audiences: Some(vec![AUDIENCE.into()]),
        },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(client.clone());
    let review = ask("TokenReview", api.create(&PostParams::default(), &review)).await?;
    let status = review.status.unwrap_or_default();
    let is_for_us = status
        .audiences
        .is_some_and(|audiences| audiences.iter().any(|audience| audience == AUDIENCE));
    match status.user {
        Some(user) if status.authenticated == Some(true) && is_for_us => Ok(user),
        _ => Err(unauthorized("the bearer token is not valid here")),
    }
}

fn spec(user: UserInfo, namespace: &str, name: &str) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: user.username,
        uid: user.uid,
        groups: user.groups,
        extra: user.extra,
        resource_attributes: Some(ResourceAttributes {
            verb: Some("get".into()),
            group: Some(names::GROUP.into()),
            resource: Some("multimasterclusters".into()),
            subresource: Some(SUBRESOURCE.into()),
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_a_token() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            headers
        };
        assert_eq!(token(&with("Bearer abc")), Some("abc"));
        for value in ["Bearer ", "Basic abc", "abc"] {
            assert_eq!(token(&with(value)), None, "{value}");
        }
        assert_eq!(token(&HeaderMap::new()), None);
    }

    #[test]
    fn kubernetes_is_asked_for_exactly_this_history() {
        let user = UserInfo {
            username: Some("system:serviceaccount:x:reader".into()),
            groups: Some(vec!["system:serviceaccounts".into()]),
            ..UserInfo::default()
        };
        let asked = serde_json::to_value(spec(user, "x", "demo")).unwrap();
        let expected = serde_json::json!({
            "user": "system:serviceaccount:x:reader",
            "groups": ["system:serviceaccounts"],
            "resourceAttributes": {
                "verb": "get", "group": "multimaster.dev", "resource": "multimasterclusters", "subresource": "history",
                "namespace": "x", "name": "demo",
            },
        });
        assert_eq!(asked, expected);
    }
}
