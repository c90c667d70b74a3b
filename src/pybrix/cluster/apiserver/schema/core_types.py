"""Descriptions of metadata and the core group's kinds, pods apart. Notation: `shape`.

Source: https://kubernetes.io/docs/reference/kubernetes-api/ and the merge keys listed there.
"""

META_TYPES = """
type OwnerReference -- a link from an object to what owns it
  apiVersion string @5 !
  kind string @1 !
  name string @3 !
  uid string @4 !
  controller bool @6
  blockOwnerDeletion bool @7
type ManagedFieldsEntry -- which manager last set which fields
  manager string @1
  operation string @2
  apiVersion string @3
  time time @4
  fieldsType string @6
  fieldsV1 any
  subresource string @8
type ObjectMeta -- what every object has: names, labels, versions
  name string @1 -- unique within a namespace
  generateName string @2 -- prefix of a name that the server completes
  namespace string @3
  selfLink string @4
  uid string @5
  resourceVersion string @6
  generation int64 @7
  creationTimestamp time @8
  deletionTimestamp time @9
  deletionGracePeriodSeconds int64 @10
  labels {string} @11 -- keys and values that selectors match
  annotations {string} @12
  ownerReferences [OwnerReference] @13 key=uid
  finalizers [string] @14 set
  managedFields [ManagedFieldsEntry] @17
type ListMeta
  resourceVersion string
  continue string
type LabelSelectorRequirement
  key string @1 !
  operator string @2 !
  values [string] @3
type LabelSelector -- a query over labels: all of it must hold
  matchLabels {string} @1
  matchExpressions [LabelSelectorRequirement] @2
type Condition -- one aspect of an object's state
  type string !
  status string !
  observedGeneration int64
  lastTransitionTime time
  reason string
  message string
type Scale -- the replicas of a scalable object
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec ScaleSpec @2
  status ScaleStatus @3
type ScaleSpec
  replicas int @1
type ScaleStatus
  replicas int @1
  selector string @2
"""

CORE_TYPES = """
type Namespace -- a scope for names
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec NamespaceSpec @2
  status NamespaceStatus @3
type NamespaceSpec
  finalizers [string] @1
type NamespaceStatus
  phase string @1
  conditions [NamespaceCondition] @2 key=type
type NamespaceCondition
  type string !
  status string !
  lastTransitionTime time
  reason string
  message string

type Node -- a machine that runs pods
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec NodeSpec
  status NodeStatus
type NodeSpec
  podCIDR string
  podCIDRs [string] set
  providerID string
  unschedulable bool
  taints [Taint]
  configSource any
  externalID string
type Taint
  key string !
  value string
  effect string !
  timeAdded time
type NodeStatus
  capacity {quantity}
  allocatable {quantity}
  phase string
  conditions [NodeCondition] key=type
  addresses [NodeAddress] key=type
  daemonEndpoints any
  nodeInfo {string}
  images [any]
  volumesInUse [string]
  volumesAttached [any]
  config any
  features any
  runtimeHandlers [any]
type NodeCondition
  type string !
  status string !
  lastHeartbeatTime time
  lastTransitionTime time
  reason string
  message string
type NodeAddress
  type string !
  address string !

type ConfigMap -- configuration data that pods read
  apiVersion string
  kind string
  metadata ObjectMeta @1
  data {string} @2
  binaryData {bytes} @3
  immutable bool @4
type Secret -- secret data that pods read
  apiVersion string
  kind string
  metadata ObjectMeta @1
  data {bytes} @2
  stringData {string} @4
  type string @3
  immutable bool @5
type ServiceAccount -- an identity for what runs in pods
  apiVersion string
  kind string
  metadata ObjectMeta @1
  secrets [ObjectReference] @2 key=name
  imagePullSecrets [LocalObjectReference] @3
  automountServiceAccountToken bool @4
type LocalObjectReference
  name string @1
type ObjectReference
  kind string @1
  namespace string @2
  name string @3
  uid string @4
  apiVersion string @5
  resourceVersion string @6
  fieldPath string @7

type Service -- a stable name and address for the pods that a selector finds
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec ServiceSpec @2
  status ServiceStatus @3
type ServiceSpec
  ports [ServicePort] @1 key=port,protocol
  selector {string} @2 atomic
  clusterIP string @3
  clusterIPs [string] @18
  type string @4
  externalIPs [string] @5
  sessionAffinity string @7
  loadBalancerIP string @8
  loadBalancerSourceRanges [string] @9
  externalName string @10
  externalTrafficPolicy string @11
  healthCheckNodePort int @12
  publishNotReadyAddresses bool @13
  sessionAffinityConfig SessionAffinityConfig @14
  ipFamilies [string] @19
  ipFamilyPolicy string @17
  allocateLoadBalancerNodePorts bool @20
  loadBalancerClass string @21
  internalTrafficPolicy string @22
  trafficDistribution string @23
type SessionAffinityConfig
  clientIP ClientIPConfig @1
type ClientIPConfig
  timeoutSeconds int @1
type ServicePort
  name string @1
  protocol string @2
  appProtocol string @6
  port int @3 !
  targetPort intstr @4
  nodePort int @5
type ServiceStatus
  loadBalancer any
  conditions [Condition] key=type

type EventSource
  component string
  host string
type EventSeries
  count int
  lastObservedTime microtime
type Event -- a note about an object
  apiVersion string
  kind string
  metadata ObjectMeta !
  involvedObject ObjectReference !
  reason string
  message string
  source EventSource
  firstTimestamp time
  lastTimestamp time
  count int
  type string
  eventTime microtime
  series EventSeries
  action string
  related ObjectReference
  reportingComponent string
  reportingInstance string

type Binding -- the decision on which node a pod runs
  apiVersion string
  kind string
  metadata ObjectMeta @1
  target ObjectReference @2 !
"""

OTHER_TYPES = """
type Lease -- who holds a role, and since when
  apiVersion string
  kind string
  metadata ObjectMeta
  spec LeaseSpec
type LeaseSpec
  holderIdentity string
  leaseDurationSeconds int
  acquireTime microtime
  renewTime microtime
  leaseTransitions int
  strategy string
  preferredHolder string

type EndpointSlice -- some of the endpoints of a Service
  apiVersion string
  kind string
  metadata ObjectMeta
  addressType string !
  endpoints [Endpoint] !
  ports [EndpointPort]
type Endpoint
  addresses [string] !
  conditions EndpointConditions
  hostname string
  targetRef ObjectReference atomic
  deprecatedTopology {string}
  nodeName string
  zone string
  hints any
type EndpointConditions
  ready bool
  serving bool
  terminating bool
type EndpointPort
  name string
  protocol string
  port int
  appProtocol string

type ValidatingAdmissionPolicy -- rules that requests must fulfil, in CEL; a binding puts them into force
  apiVersion string
  kind string
  metadata ObjectMeta
  spec ValidatingAdmissionPolicySpec !
  status any
type ValidatingAdmissionPolicySpec
  paramKind any -- not supported by this server
  matchConstraints MatchResources -- which requests are looked at; required
  validations [AdmissionValidation] -- what must hold for them
  failurePolicy string -- what an evaluation that fails means: Fail (refused, the default) or Ignore
  auditAnnotations [any] -- not supported by this server
  matchConditions [AdmissionExpression] key=name -- expressions that must all hold for the policy to apply
  variables [AdmissionExpression] key=name -- values that expressions read as variables.NAME
type AdmissionExpression
  name string !
  expression string !
type AdmissionValidation
  expression string ! -- CEL over object, oldObject, request, namespaceObject and variables; false refuses
  message string -- what the refused client is told
  messageExpression string -- CEL that makes the message
  reason string -- Unauthorized, Forbidden, Invalid (the default) or RequestEntityTooLarge
type MatchResources
  namespaceSelector LabelSelector
  objectSelector LabelSelector
  resourceRules [NamedRuleWithOperations]
  excludeResourceRules [NamedRuleWithOperations]
  matchPolicy string
type NamedRuleWithOperations
  resourceNames [string]
  operations [string]
  apiGroups [string]
  apiVersions [string]
  resources [string]
  scope string

type ValidatingAdmissionPolicyBinding -- puts a ValidatingAdmissionPolicy into force
  apiVersion string
  kind string
  metadata ObjectMeta
  spec ValidatingAdmissionPolicyBindingSpec !
type ValidatingAdmissionPolicyBindingSpec
  policyName string -- the policy; required
  paramRef any -- not supported by this server
  matchResources MatchResources -- narrows what the policy looks at
  validationActions [string] set -- Deny, Warn, Audit; required

type CustomResourceDefinition -- a kind of your own, served by this API
  apiVersion string
  kind string
  metadata ObjectMeta
  spec CustomResourceDefinitionSpec !
  status CustomResourceDefinitionStatus
type CustomResourceDefinitionSpec
  group string !
  names CustomResourceDefinitionNames !
  scope string !
  versions [CustomResourceDefinitionVersion] !
  conversion CustomResourceConversion
  preserveUnknownFields bool
type CustomResourceConversion
  strategy string !
  webhook any
type CustomResourceDefinitionNames
  plural string !
  singular string
  shortNames [string]
  kind string !
  listKind string
  categories [string]
type CustomResourceDefinitionVersion
  name string !
  served bool !
  storage bool !
  deprecated bool
  deprecationWarning string
  schema any
  subresources CustomResourceSubresources
  additionalPrinterColumns [CustomResourceColumnDefinition]
  selectableFields [SelectableField]
type CustomResourceSubresources
  status any
  scale CustomResourceSubresourceScale
type CustomResourceSubresourceScale
  specReplicasPath string !
  statusReplicasPath string !
  labelSelectorPath string
type CustomResourceColumnDefinition
  name string !
  type string !
  format string
  description string
  priority int
  jsonPath string !
type SelectableField
  jsonPath string !
type CustomResourceDefinitionStatus
  conditions [Condition] key=type
  acceptedNames CustomResourceDefinitionNames
  storedVersions [string]
  observedGeneration int64
"""
