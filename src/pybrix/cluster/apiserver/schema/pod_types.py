"""Descriptions of pods and of the workload kinds that make them. Notation: `shape`."""

POD_TYPES = """
type Pod -- processes that live and die together under one IP
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec PodSpec @2
  status PodStatus @3
type PodTemplateSpec -- what a pod made from it looks like
  metadata ObjectMeta @1
  spec PodSpec @2
type PodSpec -- what a pod runs, and where
  volumes [Volume] @1 key=name retain
  initContainers [Container] @20 key=name
  containers [Container] @2 ! key=name
  ephemeralContainers [any] patch=name
  restartPolicy string @3
  terminationGracePeriodSeconds int64 @4?
  activeDeadlineSeconds int64 @5?
  dnsPolicy string @6
  nodeSelector {string} @7 atomic
  serviceAccountName string @8
  serviceAccount string @9
  automountServiceAccountToken bool @21?
  nodeName string @10
  hostNetwork bool @11
  hostPID bool @12
  hostIPC bool @13
  shareProcessNamespace bool @27?
  securityContext PodSecurityContext @14?
  imagePullSecrets [LocalObjectReference] @15 key=name
  hostname string @16
  hostnameOverride string @41?
  subdomain string @17
  affinity Affinity @18?
  schedulerName string @19
  tolerations [Toleration] @22
  hostAliases [HostAlias] @23 key=ip
  priorityClassName string @24
  priority int @25?
  dnsConfig PodDNSConfig @26?
  readinessGates [PodReadinessGate] @28
  runtimeClassName string @29?
  enableServiceLinks bool @30?
  preemptionPolicy string @31?
  overhead {quantity} @32
  topologySpreadConstraints [TopologySpreadConstraint] @33 key=topologyKey,whenUnsatisfiable patch=topologyKey
  setHostnameAsFQDN bool @35?
  os PodOS @36?
  hostUsers bool @37?
  schedulingGates [PodSchedulingGate] @38 key=name
  resourceClaims [any] patch=name retain
  resources ResourceRequirements @40?
  schedulingGroup any
  workloadRef any
type Affinity -- where a pod may run or had better run
  nodeAffinity NodeAffinity @1?
  podAffinity PodAffinity @2?
  podAntiAffinity PodAntiAffinity @3?
type NodeAffinity
  requiredDuringSchedulingIgnoredDuringExecution NodeSelector @1?
  preferredDuringSchedulingIgnoredDuringExecution [PreferredSchedulingTerm] @2
type NodeSelector
  nodeSelectorTerms [NodeSelectorTerm] @1 ! -- one of them must hold
type NodeSelectorTerm -- all of it must hold
  matchExpressions [NodeSelectorRequirement] @1 -- by labels of nodes
  matchFields [NodeSelectorRequirement] @2 -- by metadata.name
type NodeSelectorRequirement
  key string @1 !
  operator string @2 ! -- In, NotIn, Exists, DoesNotExist, Gt, Lt
  values [string] @3
type PreferredSchedulingTerm
  weight int @1 ! -- 1 to 100
  preference NodeSelectorTerm @2 !
type PodAffinity -- near other pods
  requiredDuringSchedulingIgnoredDuringExecution [PodAffinityTerm] @1
  preferredDuringSchedulingIgnoredDuringExecution [WeightedPodAffinityTerm] @2
type PodAntiAffinity -- away from other pods
  requiredDuringSchedulingIgnoredDuringExecution [PodAffinityTerm] @1
  preferredDuringSchedulingIgnoredDuringExecution [WeightedPodAffinityTerm] @2
type PodAffinityTerm
  labelSelector LabelSelector @1? -- which pods
  namespaces [string] @2
  topologyKey string @3 ! -- the label of nodes by which two are the same place
  namespaceSelector LabelSelector @4?
  matchLabelKeys [string] @5
  mismatchLabelKeys [string] @6
type WeightedPodAffinityTerm
  weight int @1 ! -- 1 to 100
  podAffinityTerm PodAffinityTerm @2 !
type TopologySpreadConstraint -- how evenly pods are spread
  maxSkew int @1 !
  topologyKey string @2 !
  whenUnsatisfiable string @3 ! -- DoNotSchedule or ScheduleAnyway
  labelSelector LabelSelector @4?
  minDomains int @5?
  nodeAffinityPolicy string @6?
  nodeTaintsPolicy string @7?
  matchLabelKeys [string] @8
type PodDNSConfig
  nameservers [string] @1
  searches [string] @2
  options [PodDNSConfigOption] @3
type PodDNSConfigOption
  name string @1
  value string @2?
type PodOS
  name string @1 ! -- linux
type SELinuxOptions
  user string @1
  role string @2
  type string @3
  level string @4
type SeccompProfile
  type string @1 ! -- RuntimeDefault, Unconfined or Localhost
  localhostProfile string @2?
type AppArmorProfile
  type string @1 ! -- RuntimeDefault, Unconfined or Localhost
  localhostProfile string @2?
type Capabilities
  add [string] @1
  drop [string] @2
type PodSecurityContext
  seLinuxOptions SELinuxOptions @1?
  windowsOptions any
  runAsUser int64 @2?
  runAsGroup int64 @6?
  runAsNonRoot bool @3?
  supplementalGroups [int64] @4
  supplementalGroupsPolicy string @12?
  fsGroup int64 @5?
  sysctls [any]
  fsGroupChangePolicy string @9?
  seccompProfile SeccompProfile @10?
  appArmorProfile AppArmorProfile @11?
  seLinuxChangePolicy string @13?
type PodReadinessGate
  conditionType string @1 !
type PodSchedulingGate
  name string @1 !
type HostAlias
  ip string @1 !
  hostnames [string] @2
type Toleration
  key string @1
  operator string @2
  value string @3
  effect string @4
  tolerationSeconds int64 @5?
type Container -- what runs in a pod
  name string @1 !
  image string @2
  command [string] @3
  args [string] @4
  workingDir string @5
  ports [ContainerPort] @6 key=containerPort,protocol
  envFrom [EnvFromSource] @19
  env [EnvVar] @7 key=name
  resources ResourceRequirements @8
  resizePolicy [any]
  restartPolicy string @24?
  restartPolicyRules [any]
  volumeMounts [VolumeMount] @9 key=mountPath
  volumeDevices [any] patch=devicePath
  livenessProbe Probe @10?
  readinessProbe Probe @11?
  startupProbe Probe @22?
  lifecycle Lifecycle @12?
  terminationMessagePath string @13
  terminationMessagePolicy string @20
  imagePullPolicy string @14
  securityContext SecurityContext @15?
  stdin bool @16
  stdinOnce bool @17
  tty bool @18
type SecurityContext
  capabilities Capabilities @1?
  privileged bool @2?
  seLinuxOptions SELinuxOptions @3?
  windowsOptions any
  runAsUser int64 @4?
  runAsGroup int64 @8?
  runAsNonRoot bool @5?
  readOnlyRootFilesystem bool @6?
  allowPrivilegeEscalation bool @7?
  procMount string @9?
  seccompProfile SeccompProfile @11?
  appArmorProfile AppArmorProfile @12?
type ContainerPort
  name string @1
  hostPort int @2
  containerPort int @3 !
  protocol string @4
  hostIP string @5
type EnvVar
  name string @1 !
  value string @2
  valueFrom EnvVarSource @3?
type EnvVarSource
  fieldRef ObjectFieldSelector @1? atomic
  resourceFieldRef ResourceFieldSelector @2? atomic
  configMapKeyRef KeySelector @3? atomic
  secretKeyRef KeySelector @4? atomic
  fileKeyRef any
type ObjectFieldSelector
  apiVersion string @1
  fieldPath string @2 !
type ResourceFieldSelector
  containerName string @1
  resource string @2 !
  divisor quantity @3
type KeySelector
  name string @1.1
  key string @2 !
  optional bool @3?
type EnvFromSource
  prefix string @1
  configMapRef OptionalReference @2?
  secretRef OptionalReference @3?
type OptionalReference
  name string @1.1
  optional bool @2?
type ResourceRequirements
  limits {quantity} @1
  requests {quantity} @2
  claims [any] patch=name
type VolumeMount
  name string @1 !
  readOnly bool @2
  recursiveReadOnly string @7?
  mountPath string @3 !
  subPath string @4
  mountPropagation string @5?
  subPathExpr string @6
type Probe
  exec ExecAction @1.1?
  httpGet HTTPGetAction @1.2?
  tcpSocket TCPSocketAction @1.3?
  grpc GRPCAction @1.4?
  initialDelaySeconds int @2
  timeoutSeconds int @3
  periodSeconds int @4
  successThreshold int @5
  failureThreshold int @6
  terminationGracePeriodSeconds int64 @7?
type ExecAction
  command [string] @1
type HTTPGetAction
  path string @1
  port intstr @2 !
  host string @3
  scheme string @4
  httpHeaders [HTTPHeader] @5
type HTTPHeader
  name string @1 !
  value string @2 !
type TCPSocketAction
  port intstr @1 !
  host string @2
type GRPCAction
  port int @1 !
  service string @2?
type SleepAction
  seconds int64 @1 !
type Lifecycle
  postStart LifecycleHandler @1?
  preStop LifecycleHandler @2?
  stopSignal string @3?
type LifecycleHandler
  exec ExecAction @1?
  httpGet HTTPGetAction @2?
  tcpSocket TCPSocketAction @3?
  sleep SleepAction @4?
type Volume
  name string @1 !
  hostPath HostPathVolumeSource @2.1?
  emptyDir EmptyDirVolumeSource @2.2?
  gcePersistentDisk any
  awsElasticBlockStore any
  gitRepo any
  secret SecretVolumeSource @2.6?
  nfs any
  iscsi any
  glusterfs any
  persistentVolumeClaim PersistentVolumeClaimVolumeSource @2.10?
  rbd any
  flexVolume any
  cinder any
  cephfs any
  flocker any
  downwardAPI DownwardAPIVolumeSource @2.16?
  fc any
  azureFile any
  configMap ConfigMapVolumeSource @2.19?
  vsphereVolume any
  quobyte any
  azureDisk any
  photonPersistentDisk any
  projected ProjectedVolumeSource @2.26?
  portworxVolume any
  scaleIO any
  storageos any
  csi any
  ephemeral any
  image any
type HostPathVolumeSource
  path string @1 !
  type string @2?
type EmptyDirVolumeSource
  medium string @1
  sizeLimit quantity @2
type KeyToPath
  key string @1 !
  path string @2 !
  mode int @3?
type SecretVolumeSource
  secretName string @1
  items [KeyToPath] @2
  defaultMode int @3?
  optional bool @4?
type ConfigMapVolumeSource
  name string @1.1
  items [KeyToPath] @2
  defaultMode int @3?
  optional bool @4?
type PersistentVolumeClaimVolumeSource
  claimName string @1 !
  readOnly bool @2
type DownwardAPIVolumeFile
  path string @1 !
  fieldRef ObjectFieldSelector @2?
  resourceFieldRef ResourceFieldSelector @3?
  mode int @4?
type DownwardAPIVolumeSource
  items [DownwardAPIVolumeFile] @1
  defaultMode int @2?
type ProjectedVolumeSource
  sources [VolumeProjection] @1
  defaultMode int @2?
type VolumeProjection -- one source of files; exactly one field is set
  secret SecretProjection @1?
  configMap SecretProjection @3?
  downwardAPI DownwardAPIVolumeSource @2?
  serviceAccountToken ServiceAccountTokenProjection @4?
  clusterTrustBundle any
  podCertificate any
type SecretProjection
  name string @1.1
  items [KeyToPath] @2
  optional bool @4?
type ServiceAccountTokenProjection -- a token of the pod's service account, renewed in time
  audience string @1
  expirationSeconds int64 @2?
  path string @3 !
type PodStatus -- what the node reports of a pod
  observedGeneration int64 @17
  phase string @1
  conditions [PodCondition] @2 key=type
  message string @3
  reason string @4
  nominatedNodeName string @11
  hostIP string @5
  hostIPs [HostIP] @16 patch=ip
  podIP string @6
  podIPs [PodIP] @12 key=ip
  startTime time @7
  initContainerStatuses [ContainerStatus] @10
  containerStatuses [ContainerStatus] @8
  ephemeralContainerStatuses [ContainerStatus] @13
  qosClass string @9
  resize string @14
  resourceClaimStatuses [any] patch=name retain
  extendedResourceClaimStatus any
  allocatedResources {quantity} @19
  resources ResourceRequirements @20?
type PodCondition
  type string @1 !
  observedGeneration int64 @7
  status string @2 !
  lastProbeTime time @3
  lastTransitionTime time @4
  reason string @5
  message string @6
type HostIP
  ip string @1
type PodIP
  ip string @1
type ContainerStatus
  name string @1 !
  state ContainerState @2
  lastState ContainerState @3
  ready bool @4 !
  restartCount int @5 !
  image string @6 !
  imageID string @7 !
  containerID string @8
  started bool @9?
  allocatedResources {quantity} @10
  resources ResourceRequirements @11?
  volumeMounts [any]
  user any
  allocatedResourcesStatus [any]
  stopSignal string @15?
type ContainerState
  waiting ContainerStateWaiting @1?
  running ContainerStateRunning @2?
  terminated ContainerStateTerminated @3?
type ContainerStateWaiting
  reason string @1
  message string @2
type ContainerStateRunning
  startedAt time @1
type ContainerStateTerminated
  exitCode int @1 !
  signal int @2
  reason string @3
  message string @4
  startedAt time @5
  finishedAt time @6
  containerID string @7
"""

APPS_TYPES = """
type Deployment -- moves pods from one template to the next
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec DeploymentSpec @2
  status DeploymentStatus @3
type DeploymentSpec
  replicas int @1?
  selector LabelSelector @2? ! atomic
  template PodTemplateSpec @3 !
  strategy DeploymentStrategy @4 retain
  minReadySeconds int @5
  revisionHistoryLimit int @6?
  paused bool @7
  progressDeadlineSeconds int @9?
type DeploymentStrategy
  type string @1
  rollingUpdate RollingUpdateDeployment @2?
type RollingUpdateDeployment
  maxUnavailable intstr @1?
  maxSurge intstr @2?
type DeploymentStatus
  observedGeneration int64 @1
  replicas int @2
  updatedReplicas int @3
  readyReplicas int @7
  availableReplicas int @4
  unavailableReplicas int @5
  terminatingReplicas int @9?
  conditions [DeploymentCondition] @6 key=type
  collisionCount int @8?
type DeploymentCondition
  type string @1 !
  status string @2 !
  lastUpdateTime time @6
  lastTransitionTime time @7
  reason string @4
  message string @5
type ReplicaSet -- keeps a number of pods of one template alive
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec ReplicaSetSpec @2
  status ReplicaSetStatus @3
type ReplicaSetSpec
  replicas int @1?
  minReadySeconds int @4
  selector LabelSelector @2? ! atomic
  template PodTemplateSpec @3
type ReplicaSetStatus
  replicas int @1
  fullyLabeledReplicas int @2
  readyReplicas int @4
  availableReplicas int @5
  terminatingReplicas int @7?
  observedGeneration int64 @3
  conditions [ReplicaSetCondition] @6 key=type
type ReplicaSetCondition
  type string @1 !
  status string @2 !
  lastTransitionTime time @3
  reason string @4
  message string @5
"""
