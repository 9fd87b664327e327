//! What can go wrong with a request, as a person and an attestation need it.

/// Why a service did not give what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HttpError {
    /// There is no token: the credential was refused, or what it needs is not here.
    #[error("{what}")]
    Credential {
        /// Who was asked, for whom, and the first line of the answer; it holds no secret.
        what: String,
        /// What a person does about it.
        hint: String,
    },
    /// No answer, several times.
    #[error("{place} cannot be reached: {what}")]
    Unreachable {
        /// Scheme, host and path; never a query, which may hold a token of its own.
        place: String,
        /// The last cause.
        what: String,
    },
    /// An answer that says no.
    #[error("{place} answered {status}{}", words(*status, code, said))]
    Refused {
        /// Scheme, host and path.
        place: String,
        /// The HTTP status.
        status: u16,
        /// The service's own code, such as `Authorization_RequestDenied`.
        code: String,
        /// What it said, cut to one line.
        said: String,
    },
    /// The service asked to wait for longer than a run may.
    #[error("{place} is throttled: after {waited_seconds} s of waiting it still asks to wait {asks_seconds} s")]
    Throttled {
        /// Scheme, host and path.
        place: String,
        /// How long this request waited.
        waited_seconds: u64,
        /// The last wish.
        asks_seconds: u64,
    },
    /// An answer that is not what it should be, several times.
    #[error("{place} gave an answer that cannot be read: {what}")]
    Unreadable {
        /// Scheme, host and path.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// A link that leads to another host; the token is not sent there.
    #[error("a page of {place} names {host} as the place of the next page; the token is not sent there")]
    ForeignLink {
        /// Scheme, host and path of the page.
        place: String,
        /// Where it leads.
        host: String,
    },
    /// Pages that never end.
    #[error("the pages of {place} never end: {what}")]
    EndlessPages {
        /// Scheme, host and path.
        place: String,
        /// How that was seen.
        what: String,
    },
    /// Azure answers so to a client that has no role on any subscription: with an empty list, and no error.
    #[error("{place} shows this client no subscription at all")]
    NoSubscriptions {
        /// Scheme, host and path.
        place: String,
    },
    /// The client cannot be made.
    #[error("{what}")]
    Setup {
        /// Why.
        what: String,
    },
}

impl HttpError {
    /// A code for attestations; never a server's text.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Credential { .. } => "credential_refused",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { status: 401, .. } => "unauthorized",
            Self::Refused { status: 403, code, .. } if unlicensed(code) => "not_licensed",
            Self::Refused { status: 403, .. } => "forbidden",
            Self::Refused { status: 404, .. } => "not_found",
            Self::Refused { status: 400, code, .. } if unlicensed(code) => "not_licensed",
            Self::Refused { status: 400, .. } => "bad_request",
            Self::Refused { status: 500.., .. } => "server_error",
            Self::Refused { .. } => "refused",
            Self::Throttled { .. } => "throttled",
            Self::Unreadable { .. } => "unreadable_answer",
            Self::ForeignLink { .. } => "foreign_link",
            Self::EndlessPages { .. } => "endless_pages",
            Self::NoSubscriptions { .. } => "no_subscriptions",
            Self::Setup { .. } => "setup",
        }
    }

    /// Whether the same question may be answered later.
    pub fn passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Throttled { .. } | Self::Unreadable { .. } | Self::Refused { status: 500.., .. })
    }
}

/// What a refusal said, where it said something.
fn words(status: u16, code: &str, said: &str) -> String {
    match (code, said) {
        ("", "") if (300..400).contains(&status) => ": a redirect, which is not followed; is it a proxy's?".into(),
        ("", "") => " and did not say why".into(),
        ("", text) | (text, "") => format!(" {text}"),
        (code, said) => format!(" {code}: {said}"),
    }
}

/// Codes by which Entra says that the tenant has no licence for what was asked.
fn unlicensed(code: &str) -> bool {
    ["Authentication_RequestFromNonPremiumTenantOrB2CTenant", "AadPremiumLicenseRequired", "RequestFromNonPremiumTenant"].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_without_words_has_no_empty_ones() {
        let refused = |status, code: &str, said: &str| {
            HttpError::Refused { place: "https://x/y".into(), status, code: code.into(), said: said.into() }.to_string()
        };
        assert_eq!(refused(403, "Denied", "No."), "https://x/y answered 403 Denied: No.");
        assert_eq!(refused(403, "Denied", ""), "https://x/y answered 403 Denied");
        assert_eq!(refused(407, "", ""), "https://x/y answered 407 and did not say why");
        assert_eq!(refused(302, "", ""), "https://x/y answered 302: a redirect, which is not followed; is it a proxy's?");
    }
}
