"""Descriptions of metadata and the core group's kinds, pods apart. Notation: `shape`.

Source: https://kubernetes.io/docs/reference/kubernetes-api/ and the merge keys listed there.
"""

META_TYPES = """
type DeleteOptions -- how something is to be deleted
  apiVersion string
  kind string
  gracePeriodSeconds int64 @1?
  preconditions Preconditions @2?
  orphanDependents bool @3?
  propagationPolicy string @4?
  dryRun [string] @5
  ignoreStoreReadErrorWithClusterBreakingPotential bool @6?
type Preconditions
  uid string @1?
  resourceVersion string @2?
type OwnerReference -- a link from an object to what owns it
  apiVersion string @5 !
  kind string @1 !
  name string @3 !
  uid string @4 !
  controller bool @6?
  blockOwnerDeletion bool @7?
type ManagedFieldsEntry -- which manager last set which fields
  manager string @1
  operation string @2
  apiVersion string @3
  time time @4
  fieldsType string @6
  fieldsV1 any @7?
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
  deletionGracePeriodSeconds int64 @10?
  labels {string} @11 -- keys and values that selectors match
  annotations {string} @12
  ownerReferences [OwnerReference] @13 key=uid
  finalizers [string] @14 set
  managedFields [ManagedFieldsEntry] @17
type ListMeta
  resourceVersion string @2
  continue string @3
type LabelSelectorRequirement
  key string @1 !
  operator string @2 !
  values [string] @3
type LabelSelector -- a query over labels: all of it must hold
  matchLabels {string} @1
  matchExpressions [LabelSelectorRequirement] @2
type Condition -- one aspect of an object's state
  type string @1 !
  status string @2 !
  observedGeneration int64 @3
  lastTransitionTime time @4
  reason string @5
  message string @6
type Scale -- the replicas of a scalable object
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec ScaleSpec @2
  status ScaleStatus @3
type ScaleSpec
  replicas int @1?
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
  type string @1 !
  status string @2 !
  lastTransitionTime time @4
  reason string @5
  message string @6

type Node -- a machine that runs pods
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec NodeSpec @2
  status NodeStatus @3
type NodeSpec
  podCIDR string @1
  podCIDRs [string] @7 set
  providerID string @3
  unschedulable bool @4
  taints [Taint] @5
  configSource any
  externalID string @2
type Taint
  key string @1 !
  value string @2
  effect string @3 !
  timeAdded time @4
type NodeStatus
  capacity {quantity} @1
  allocatable {quantity} @2
  phase string @3
  conditions [NodeCondition] @4 key=type
  addresses [NodeAddress] @5 key=type
  daemonEndpoints any
  nodeInfo NodeSystemInfo @7
  images [any]
  volumesInUse [string] @9
  volumesAttached [any]
  config any
  features any
  runtimeHandlers [any]
type NodeSystemInfo
  machineID string @1 !
  systemUUID string @2 !
  bootID string @3 !
  kernelVersion string @4 !
  osImage string @5 !
  containerRuntimeVersion string @6 !
  kubeletVersion string @7 !
  kubeProxyVersion string @8 !
  operatingSystem string @9 !
  architecture string @10 !
type NodeCondition
  type string @1 !
  status string @2 !
  lastHeartbeatTime time @3
  lastTransitionTime time @4
  reason string @5
  message string @6
type NodeAddress
  type string @1 !
  address string @2 !

type ConfigMap -- configuration data that pods read
  apiVersion string
  kind string
  metadata ObjectMeta @1
  data {string} @2
  binaryData {bytes} @3
  immutable bool @4?
type Secret -- secret data that pods read
  apiVersion string
  kind string
  metadata ObjectMeta @1
  data {bytes} @2
  stringData {string} @4
  type string @3
  immutable bool @5?
type ServiceAccount -- an identity for what runs in pods
  apiVersion string
  kind string
  metadata ObjectMeta @1
  secrets [ObjectReference] @2 key=name
  imagePullSecrets [LocalObjectReference] @3
  automountServiceAccountToken bool @4?
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
  sessionAffinityConfig SessionAffinityConfig @14?
  ipFamilies [string] @19
  ipFamilyPolicy string @17?
  allocateLoadBalancerNodePorts bool @20?
  loadBalancerClass string @21?
  internalTrafficPolicy string @22?
  trafficDistribution string @23?
type SessionAffinityConfig
  clientIP ClientIPConfig @1?
type ClientIPConfig
  timeoutSeconds int @1?
type ServicePort
  name string @1
  protocol string @2
  appProtocol string @6?
  port int @3 !
  targetPort intstr @4
  nodePort int @5
type LoadBalancerStatus
  ingress [LoadBalancerIngress] @1 -- where the load balancer answers
type LoadBalancerIngress
  ip string @1
  hostname string @2
  ipMode string @3?
type ServiceStatus
  loadBalancer LoadBalancerStatus @1
  conditions [Condition] @2 key=type

type EventSource
  component string @1
  host string @2
type EventSeries
  count int @1
  lastObservedTime microtime @2
type Event -- a note about an object
  apiVersion string
  kind string
  metadata ObjectMeta @1 !
  involvedObject ObjectReference @2 !
  reason string @3
  message string @4
  source EventSource @5
  firstTimestamp time @6
  lastTimestamp time @7
  count int @8
  type string @9
  eventTime microtime @10
  series EventSeries @11?
  action string @12
  related ObjectReference @13?
  reportingComponent string @14
  reportingInstance string @15

type EventsEvent -- a note about an object, as the group events.k8s.io has it
  apiVersion string
  kind string
  metadata ObjectMeta @1 !
  regarding ObjectReference @8 -- what it is about
  reason string @7 -- why, in one word
  note string @10 -- what happened, for people
  type string @11 -- Normal or Warning
  eventTime microtime @2 ! -- when it was first seen
  series EventSeries @3? -- how often it was seen, when more than once
  action string @6 -- what was done
  related ObjectReference @9?
  reportingController string @4 -- who says so
  reportingInstance string @5
  deprecatedSource EventSource @12
  deprecatedFirstTimestamp time @13
  deprecatedLastTimestamp time @14
  deprecatedCount int @15

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
  metadata ObjectMeta @1
  spec LeaseSpec @2
type LeaseSpec
  holderIdentity string @1?
  leaseDurationSeconds int @2?
  acquireTime microtime @3
  renewTime microtime @4
  leaseTransitions int @5?
  strategy string @6?
  preferredHolder string @7?

type EndpointSlice -- some of the endpoints of a Service
  apiVersion string
  kind string
  metadata ObjectMeta @1
  addressType string @4 !
  endpoints [Endpoint] @2 !
  ports [EndpointPort] @3
type Endpoint
  addresses [string] @1 !
  conditions EndpointConditions @2
  hostname string @3?
  targetRef ObjectReference @4? atomic
  deprecatedTopology {string} @5
  nodeName string @6?
  zone string @7?
  hints EndpointHints @8?
type EndpointHints -- who had better use it
  forZones [ForZone] @1
type ForZone
  name string @1 !
type EndpointConditions
  ready bool @1?
  serving bool @2?
  terminating bool @3?
type EndpointPort
  name string @1?
  protocol string @2?
  port int @3?
  appProtocol string @4?

type ValidatingAdmissionPolicy -- rules that requests must fulfil, in CEL; a binding puts them into force
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec ValidatingAdmissionPolicySpec @2 !
  status any
type ValidatingAdmissionPolicySpec
  paramKind any -- not supported by this server
  matchConstraints MatchResources @2? -- which requests are looked at; required
  validations [AdmissionValidation] @3 -- what must hold for them
  failurePolicy string @4? -- what an evaluation that fails means: Fail (refused, the default) or Ignore
  auditAnnotations [any] -- not supported by this server
  matchConditions [AdmissionExpression] @6 key=name -- expressions that must all hold for the policy to apply
  variables [AdmissionExpression] @7 key=name -- values that expressions read as variables.NAME
type AdmissionExpression
  name string !
  expression string !
type AdmissionValidation
  expression string ! -- CEL over object, oldObject, request, namespaceObject and variables; false refuses
  message string -- what the refused client is told
  messageExpression string -- CEL that makes the message
  reason string -- Unauthorized, Forbidden, Invalid (the default) or RequestEntityTooLarge
type MatchResources
  namespaceSelector LabelSelector @1?
  objectSelector LabelSelector @2?
  resourceRules [NamedRuleWithOperations] @3
  excludeResourceRules [NamedRuleWithOperations] @4
  matchPolicy string @7?
type NamedRuleWithOperations
  resourceNames [string] @1
  operations [string] @2.1
  apiGroups [string] @2.2.1
  apiVersions [string] @2.2.2
  resources [string] @2.2.3
  scope string @2.2.4?

type ValidatingAdmissionPolicyBinding -- puts a ValidatingAdmissionPolicy into force
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec ValidatingAdmissionPolicyBindingSpec @2 !
type ValidatingAdmissionPolicyBindingSpec
  policyName string @1 -- the policy; required
  paramRef any -- not supported by this server
  matchResources MatchResources @3? -- narrows what the policy looks at
  validationActions [string] @4 set -- Deny, Warn, Audit; required

type CustomResourceDefinition -- a kind of your own, served by this API
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec CustomResourceDefinitionSpec @2 !
  status CustomResourceDefinitionStatus @3
type CustomResourceDefinitionSpec
  group string @1 !
  names CustomResourceDefinitionNames @3 !
  scope string @4 !
  versions [CustomResourceDefinitionVersion] @7 !
  conversion CustomResourceConversion @9?
  preserveUnknownFields bool @10
type CustomResourceConversion
  strategy string @1 !
  webhook any
type CustomResourceDefinitionNames
  plural string @1 !
  singular string @2
  shortNames [string] @3
  kind string @4 !
  listKind string @5
  categories [string] @6
type CustomResourceDefinitionVersion
  name string @1 !
  served bool @2 !
  storage bool @3 !
  deprecated bool @7
  deprecationWarning string @8?
  schema any
  subresources CustomResourceSubresources @5?
  additionalPrinterColumns [CustomResourceColumnDefinition] @6
  selectableFields [SelectableField] @9
type CustomResourceSubresources
  status any
  scale CustomResourceSubresourceScale @2?
type CustomResourceSubresourceScale
  specReplicasPath string @1 !
  statusReplicasPath string @2 !
  labelSelectorPath string @3?
type CustomResourceColumnDefinition
  name string @1 !
  type string @2 !
  format string @3
  description string @4
  priority int @5
  jsonPath string @6 !
type SelectableField
  jsonPath string @1 !
type CustomResourceDefinitionStatus
  conditions [Condition] @1 key=type
  acceptedNames CustomResourceDefinitionNames @2
  storedVersions [string] @3
  observedGeneration int64 @4
"""
