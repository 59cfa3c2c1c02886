//! Who calls, and what they may do.

use std::fmt;

use api::{AccountId, ApiError, ErrorKind};
use iam::{Decision, Policy};
use sha2::{Digest, Sha256};

/// Whom a key belongs to within its account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum User {
    /// The account itself: may do everything in it, has no policy.
    Root,
    /// `[\w+=,.@-]{1,64}`, the bounds of an IAM user's name.
    Named(String),
}

/// Longest name of a user, characters.
const NAME_MAX: usize = 64;
/// The name under which [`User::Root`] is known.
const ROOT: &str = "root";

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            User::Root => f.write_str(ROOT),
            User::Named(name) => f.write_str(name),
        }
    }
}

/// A text is not the name of a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "user must be 1 to {NAME_MAX} of the characters A-Z a-z 0-9 + = , . @ _ - and may be root in this spelling only"
)]
pub struct UserError;

impl std::str::FromStr for User {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
        match text {
            ROOT => Ok(User::Root),
            _ if text.eq_ignore_ascii_case(ROOT) => Err(UserError),
            _ if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(plain) => Ok(User::Named(text.to_owned())),
            _ => Err(UserError),
        }
    }
}

/// A user of an account with its policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    account: AccountId,
    user: User,
    arn: String,
    policies: Vec<Policy>,
}

impl Identity {
    /// A user, in the partition of the server's region. Without a policy, only root may do anything.
    pub fn new(partition: &str, account: AccountId, user: User, policies: Vec<Policy>) -> Self {
        let arn = arn(partition, &account, &user);
        Identity { account, user, arn, policies }
    }

    /// The account.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// The user.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// `arn:aws:iam::<account>:root` or `…:user/<name>`.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// What STS calls the `UserId`: root's is the account; another's is made of account and name, and so never changes.
    pub fn user_id(&self) -> String {
        let User::Named(name) = &self.user else { return self.account.to_string() };
        let digest = Sha256::digest(format!("{}:{name}", self.account));
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let text: String = digest[..16].iter().map(|byte| letters[usize::from(byte % 32)] as char).collect();
        format!("AIDA{text}")
    }

    /// May it do that? The whole of what S3 or any other front needs.
    pub fn decide(&self, action: &str, resource: &str) -> Decision {
        match self.user {
            User::Root => Decision::Allow,
            User::Named(_) => iam::decide(&self.policies, action, resource),
        }
    }

    /// May it do that, to a resource that may be another account's? Nothing of another account is open to anybody.
    ///
    /// # Errors
    /// `AccessDeniedException` in the service's words. They name nothing that the request did not.
    pub fn authorize(&self, action: &str, resource: &str) -> Result<(), ApiError> {
        let why = match self.decide(action, resource) {
            Decision::ExplicitDeny => "with an explicit deny in an identity-based policy".to_owned(),
            Decision::ImplicitDeny => format!("because no identity-based policy allows the {action} action"),
            Decision::Allow if self.is_foreign(resource) => {
                format!("because no resource-based policy allows the {action} action")
            }
            Decision::Allow => return Ok(()),
        };
        Err(self.refuse(action, resource, &why))
    }

    /// The refusal in the service's words.
    pub(super) fn refuse(&self, action: &str, resource: &str, why: &str) -> ApiError {
        let message =
            format!("User: {} is not authorized to perform: {action} on resource: {resource} {why}", self.arn);
        ApiError::new(ErrorKind::AccessDenied, message)
    }

    /// Is it another account's? What AWS itself owns is everybody's. Roles are recorded and not assumed, so that ARNs copied
    /// from anywhere do: the policy alone decides about passing one.
    fn is_foreign(&self, resource: &str) -> bool {
        let mut fields = resource.splitn(6, ':');
        let (service, account) = (fields.nth(2), fields.nth(1));
        service != Some("iam") && account.is_some_and(|account| !["", "aws", self.account.as_str()].contains(&account))
    }
}

/// The ARN of a user.
pub fn arn(partition: &str, account: &AccountId, user: &User) -> String {
    match user {
        User::Root => format!("arn:{partition}:iam::{account}:root"),
        User::Named(name) => format!("arn:{partition}:iam::{account}:user/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: &str = "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo";

    fn identity(user: &str, policy: Option<&str>) -> Identity {
        let policies = policy.map(|text| Policy::parse(text).expect("policy")).into_iter().collect();
        Identity::new("aws", "111122223333".parse().expect("account"), user.parse().expect("user"), policies)
    }

    fn refusal(identity: &Identity, action: &str, resource: &str) -> String {
        let error = identity.authorize(action, resource).expect_err("denied");
        assert_eq!((error.status(), error.error_type()), (403, "AccessDeniedException"));
        error.message().expect("words").to_owned()
    }

    #[test]
    fn refusals_are_in_the_service_s_words() {
        let nobody = identity("ci", None);
        assert_eq!(
            refusal(&nobody, "lambda:RunMicrovm", DEMO),
            format!(
                "User: arn:aws:iam::111122223333:user/ci is not authorized to perform: lambda:RunMicrovm on resource: {DEMO} \
                 because no identity-based policy allows the lambda:RunMicrovm action"
            )
        );
        let denied = r#"{"Statement":{"Effect":"Deny","Action":"lambda:Terminate*","Resource":"*"}}"#;
        let words = refusal(&identity("ci", Some(denied)), "lambda:TerminateMicrovm", DEMO);
        assert!(words.ends_with(&format!("on resource: {DEMO} with an explicit deny in an identity-based policy")));
    }

    #[test]
    fn root_may_do_all_in_its_account_and_nothing_elsewhere() {
        let root = identity("root", None);
        assert_eq!(root.authorize("lambda:RunMicrovm", DEMO), Ok(()));
        assert_eq!(root.authorize("lambda:ListMicrovms", "*"), Ok(()));
        let managed = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS";
        assert_eq!(root.authorize("lambda:PassNetworkConnector", managed), Ok(()));
        assert_eq!(root.authorize("iam:PassRole", "arn:aws:iam::999999999999:role/x"), Ok(()));
        let words = refusal(&root, "lambda:GetMicrovmImage", &DEMO.replace("111122223333", "444455556666"));
        assert!(
            words.ends_with("because no resource-based policy allows the lambda:GetMicrovmImage action"),
            "{words}"
        );
    }

    #[test]
    fn names_are_bounded() {
        for (text, fits) in [
            ("ci", true),
            ("root", true),
            ("a+b=c,d.e@f_g-h", true),
            (&"x".repeat(64), true),
            (&"x".repeat(65), false),
            ("", false),
            ("Root", false),
            ("a/b", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(text.parse::<User>().is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn user_ids() {
        assert_eq!(identity("root", None).user_id(), "111122223333");
        let (ci, other) = (identity("ci", None).user_id(), identity("other", None).user_id());
        assert!(ci.starts_with("AIDA") && ci.len() == 20 && ci != other, "{ci} {other}");
    }
}
