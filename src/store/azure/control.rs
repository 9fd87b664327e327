//! What only the control plane knows of an account.

use crate::store::{ContainerLock, StoreError};

/// Reads what Azure Resource Manager says of a storage account's containers.
pub trait ControlPlane: Send + Sync {
    /// The policy of a container, by its real name; `None` where it has none.
    fn container_policy(&self, container: &str) -> Result<Option<ContainerLock>, StoreError>;
}
