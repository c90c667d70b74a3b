"""Descriptions of who may do what: roles and bindings, and the requests about tokens and users. Notation: `shape`."""

ACCESS_TYPES = """
type Role -- what may be done with objects of its namespace
  apiVersion string
  kind string
  metadata ObjectMeta @1
  rules [PolicyRule] @2 -- what the role allows; together, none takes away
type ClusterRole -- what may be done with objects of all namespaces or of none
  apiVersion string
  kind string
  metadata ObjectMeta @1
  rules [PolicyRule] @2 -- what the role allows; together, none takes away
  aggregationRule AggregationRule @3? -- roles whose rules this one has
type AggregationRule
  clusterRoleSelectors [LabelSelector] @1
type PolicyRule -- verbs on resources or on paths
  verbs [string] @1 ! -- get, list, watch, create, update, patch, delete, ...; * for all
  apiGroups [string] @2 -- groups of the resources; "" is the core group, * for all
  resources [string] @3 -- plural names, subresources as pods/log; * for all
  resourceNames [string] @4 -- only objects of these names; all when empty
  nonResourceURLs [string] @5 -- paths such as /metrics; in a ClusterRole only
type RoleBinding -- gives a role to subjects within its namespace
  apiVersion string
  kind string
  metadata ObjectMeta @1
  subjects [Subject] @2 -- who gets the role
  roleRef RoleRef @3 ! atomic -- the Role of this namespace or the ClusterRole; it cannot be changed
type ClusterRoleBinding -- gives a ClusterRole to subjects in all namespaces
  apiVersion string
  kind string
  metadata ObjectMeta @1
  subjects [Subject] @2 -- who gets the role
  roleRef RoleRef @3 ! atomic -- the ClusterRole; it cannot be changed
type Subject -- a user, a group or a service account
  kind string @1 ! -- User, Group or ServiceAccount
  apiGroup string @2
  name string @3 !
  namespace string @4 -- of a service account
type RoleRef
  apiGroup string @1 !
  kind string @2 ! -- Role or ClusterRole
  name string @3 !

type TokenRequest -- asks for a token of a service account
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec TokenRequestSpec @2 !
  status TokenRequestStatus @3
type TokenRequestSpec
  audiences [string] @1 -- who is to accept the token; the API server when empty
  expirationSeconds int64 @4? -- wanted lifetime, at least 600; 3600
  boundObjectRef BoundObjectReference @3? -- a pod with which the token ends
type BoundObjectReference
  kind string @1
  apiVersion string @2
  name string @3
  uid string @4
type TokenRequestStatus
  token string @1 !
  expirationTimestamp time @2 !
type SelfSubjectReview -- asks who the server takes the client for
  apiVersion string
  kind string
  metadata ObjectMeta @1
  status SelfSubjectReviewStatus @2
type SelfSubjectReviewStatus
  userInfo UserInfo @1
type SelfSubjectAccessReview -- asks whether the client may do something
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec SelfSubjectAccessReviewSpec @2 !
  status SubjectAccessReviewStatus @3
type SelfSubjectAccessReviewSpec
  resourceAttributes ResourceAttributes @1?
  nonResourceAttributes NonResourceAttributes @2?
type SubjectAccessReview -- asks whether somebody may do something
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec SubjectAccessReviewSpec @2 !
  status SubjectAccessReviewStatus @3
type LocalSubjectAccessReview -- asks whether somebody may do something in this namespace
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec SubjectAccessReviewSpec @2 !
  status SubjectAccessReviewStatus @3
type SubjectAccessReviewSpec
  resourceAttributes ResourceAttributes @1?
  nonResourceAttributes NonResourceAttributes @2?
  user string @3
  groups [string] @4
  extra any
  uid string @6
type ResourceAttributes
  namespace string @1
  verb string @2
  group string @3
  version string @4
  resource string @5
  subresource string @6
  name string @7
  fieldSelector any
  labelSelector any
type NonResourceAttributes
  path string @1
  verb string @2
type SubjectAccessReviewStatus
  allowed bool @1 !
  denied bool @4
  reason string @2
  evaluationError string @3
type SelfSubjectRulesReview -- asks what the client may do in a namespace
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec SelfSubjectRulesReviewSpec @2 !
  status SubjectRulesReviewStatus @3
type SubjectRulesReviewStatus
  resourceRules [PolicyRule] @1
  nonResourceRules [NonResourceRule] @2
  incomplete bool @3
  evaluationError string @4
type NonResourceRule
  verbs [string] @1 !
  nonResourceURLs [string] @2
type SelfSubjectRulesReviewSpec
  namespace string @1
type TokenReview -- asks who the holder of a token is
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec TokenReviewSpec @2 !
  status TokenReviewStatus @3
type TokenReviewStatus
  authenticated bool @1
  user UserInfo @2
  error string @3
  audiences [string] @4
type TokenReviewSpec
  token string @1
  audiences [string] @2
type UserInfo
  username string @1
  uid string @2
  groups [string] @3
  extra any
"""
