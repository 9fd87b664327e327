//! What only the control plane knows of an account.

use crate::store::StoreError;

/// A container's time-based retention policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPolicy {
    /// For how many days after its creation each object is protected.
    pub interval_days: u32,
    /// `Locked` or `Unlocked`.
    pub state: String,
    /// The policy's version.
    pub etag: String,
}

/// Reads what Azure Resource Manager says of a storage account's containers.
pub trait ControlPlane: Send + Sync {
    /// The policy of a container, by its real name; `None` where it has none.
    fn container_policy(&self, container: &str) -> Result<Option<ContainerPolicy>, StoreError>;
}
