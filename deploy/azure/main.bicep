// A storage account for a backstop vault: version-level immutability, four containers, tiers by age, three roles.
// main.json beside it says the same; keep both in step. README.md says what cannot be undone.
targetScope = 'resourceGroup'

@description('Name of the storage account: 3 to 24 lower-case letters and digits.')
@minLength(3)
@maxLength(24)
param accountName string

@description('Region.')
param location string = resourceGroup().location

@description('Redundancy. Zone-redundant kinds are left out: they have no archive tier.')
@allowed([
  'Standard_GRS'
  'Standard_RAGRS'
  'Standard_LRS'
])
param skuName string = 'Standard_RAGRS'

@description('Real names of the four containers. They are never renamed later.')
param containerNames object = {
  configSnapshots: 'config-snapshots'
  auditLogs: 'audit-logs'
  evidence: 'evidence'
  attestations: 'attestations'
}

@description('The container of the leases by which several agents share the work.')
param leasesContainer string = 'backstop-leases'

@description('For how many days deleted blobs and containers can be brought back.')
@minValue(1)
@maxValue(365)
param softDeleteDays int = 14

@description('Age in days after which data goes to the cool tier.')
param coolAfterDays int = 365

@description('Age in days after which data goes to the archive tier. Attestations never go there.')
param archiveAfterDays int = 1095

@description('For how many days a blob that was brought back from the archive tier stays out of it.')
param staysRehydratedDays int = 30

@description('Shared keys and the SAS made from them. Only an agent that cannot have a role needs them.')
param allowSharedKeyAccess bool = false

@description('Whether the account is reached from the internet; Disabled needs a private endpoint.')
@allowed([
  'Enabled'
  'Disabled'
])
param publicNetworkAccess string = 'Enabled'

@description('Begins the names of the three roles, which are unique in a tenant.')
param rolePrefix string = 'Backstop'

@description('Object id of the agent, such as a managed identity; empty: no assignment.')
param agentPrincipalId string = ''

@description('Object id of who tests restores or audits; empty: no assignment.')
param testerPrincipalId string = ''

@description('Object id of the operators, such as a group; empty: no assignment.')
param operatorPrincipalId string = ''

@description('Kind of the agent and the tester.')
@allowed([
  'ServicePrincipal'
  'Group'
  'User'
])
param principalType string = 'ServicePrincipal'

@description('Kind of the operators.')
@allowed([
  'ServicePrincipal'
  'Group'
  'User'
])
param operatorPrincipalType string = 'Group'

var containers = [
  containerNames.configSnapshots
  containerNames.auditLogs
  containerNames.evidence
  containerNames.attestations
]

// What all three read: the account's settings, its containers with their policies, its lifecycle rules.
var settings = [
  'Microsoft.Storage/storageAccounts/read'
  'Microsoft.Storage/storageAccounts/blobServices/read'
  'Microsoft.Storage/storageAccounts/blobServices/containers/read'
  'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies/read'
  'Microsoft.Storage/storageAccounts/managementPolicies/read'
]

// The same three roles as role.json, role-tester.json and role-operator.json. Only operators delete.
var roles = [
  {
    name: 'agent'
    description: 'Writes a backstop vault and locks what it writes. Deletes nothing.'
    dataActions: [
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/filter/action'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/immutableStorage/runAsSuperUser/action'
    ]
  }
  {
    name: 'restore tester'
    description: 'Reads a backstop vault: restore tests and audits. Writes and deletes nothing.'
    dataActions: [
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/filter/action'
    ]
  }
  {
    name: 'operator'
    description: 'Sets and lifts legal holds, and destroys what is past every lock and hold.'
    dataActions: [
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/filter/action'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/immutableStorage/runAsSuperUser/action'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete'
      'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/deleteBlobVersion/action'
    ]
  }
]

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: accountName
  location: location
  kind: 'StorageV2'
  sku: {
    name: skuName
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: allowSharedKeyAccess
    defaultToOAuthAuthentication: true
    isHnsEnabled: false
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: publicNetworkAccess
    supportsHttpsTrafficOnly: true
    // At creation only, and for ever. No default policy: each object brings its own lock.
    immutableStorageWithVersioning: {
      enabled: true
    }
  }
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: true
    deleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
    // Neither goes together with version-level immutability.
    restorePolicy: {
      enabled: false
    }
    lastAccessTimeTrackingPolicy: {
      enable: false
    }
  }
}

resource vaultContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = [for name in containers: {
  parent: blobService
  name: name
  properties: {
    publicAccess: 'None'
    immutableStorageWithVersioning: {
      enabled: true
    }
  }
}]

// By leases on blobs in it, several agents share the work. Nothing in it is locked, and nothing is lost with it.
resource leases 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobService
  name: leasesContainer
  properties: {
    publicAccess: 'None'
  }
}

// Colder with age, and no rule deletes: disposal is a decision of operators.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          enabled: true
          name: 'backstopTierData'
          type: 'Lifecycle'
          definition: {
            actions: {
              baseBlob: {
                tierToCool: {
                  daysAfterModificationGreaterThan: coolAfterDays
                }
                tierToArchive: {
                  daysAfterModificationGreaterThan: archiveAfterDays
                  daysAfterLastTierChangeGreaterThan: staysRehydratedDays
                }
              }
              version: {
                tierToCool: {
                  daysAfterCreationGreaterThan: coolAfterDays
                }
                tierToArchive: {
                  daysAfterCreationGreaterThan: archiveAfterDays
                  daysAfterLastTierChangeGreaterThan: staysRehydratedDays
                }
              }
            }
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                '${containerNames.configSnapshots}/'
                '${containerNames.auditLogs}/'
                '${containerNames.evidence}/'
              ]
            }
          }
        }
        {
          enabled: true
          name: 'backstopCoolAttestations'
          type: 'Lifecycle'
          definition: {
            actions: {
              baseBlob: {
                tierToCool: {
                  daysAfterModificationGreaterThan: coolAfterDays
                }
              }
              version: {
                tierToCool: {
                  daysAfterCreationGreaterThan: coolAfterDays
                }
              }
            }
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                '${containerNames.attestations}/'
              ]
            }
          }
        }
      ]
    }
  }
  dependsOn: [
    blobService
  ]
}

resource roleDefinitions 'Microsoft.Authorization/roleDefinitions@2022-04-01' = [for role in roles: {
  name: guid(resourceGroup().id, rolePrefix, role.name)
  properties: {
    roleName: '${rolePrefix} ${role.name}'
    description: role.description
    type: 'CustomRole'
    permissions: [
      {
        actions: settings
        notActions: []
        dataActions: role.dataActions
        notDataActions: []
      }
    ]
    assignableScopes: [
      resourceGroup().id
    ]
  }
}]

// Each on this account only, and only where somebody was named.
resource agentAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(agentPrincipalId)) {
  scope: account
  name: guid(account.id, agentPrincipalId, 'agent')
  properties: {
    principalId: agentPrincipalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', guid(resourceGroup().id, rolePrefix, 'agent'))
  }
  dependsOn: [
    roleDefinitions
  ]
}

resource testerAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(testerPrincipalId)) {
  scope: account
  name: guid(account.id, testerPrincipalId, 'restore tester')
  properties: {
    principalId: testerPrincipalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', guid(resourceGroup().id, rolePrefix, 'restore tester'))
  }
  dependsOn: [
    roleDefinitions
  ]
}

resource operatorAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipalId)) {
  scope: account
  name: guid(account.id, operatorPrincipalId, 'operator')
  properties: {
    principalId: operatorPrincipalId
    principalType: operatorPrincipalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', guid(resourceGroup().id, rolePrefix, 'operator'))
  }
  dependsOn: [
    roleDefinitions
  ]
}

@description('For vault.azure.account in the policy.')
output account string = account.name

@description('For vault.azure.endpoint; needed outside the public cloud.')
output endpoint string = account.properties.primaryEndpoints.blob
