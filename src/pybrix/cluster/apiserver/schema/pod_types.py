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
  terminationGracePeriodSeconds int64 @4
  activeDeadlineSeconds int64 @5
  dnsPolicy string @6
  nodeSelector {string} @7 atomic
  serviceAccountName string @8
  serviceAccount string @9
  automountServiceAccountToken bool @21
  nodeName string @10
  hostNetwork bool @11
  hostPID bool @12
  hostIPC bool @13
  shareProcessNamespace bool @27
  securityContext PodSecurityContext @14
  imagePullSecrets [LocalObjectReference] @15 key=name
  hostname string @16
  hostnameOverride string
  subdomain string @17
  affinity any
  schedulerName string @19
  tolerations [Toleration]
  hostAliases [HostAlias] key=ip
  priorityClassName string @24
  priority int @25
  dnsConfig any
  readinessGates [PodReadinessGate]
  runtimeClassName string @29
  enableServiceLinks bool @30
  preemptionPolicy string @31
  overhead {quantity}
  topologySpreadConstraints [any] patch=topologyKey
  setHostnameAsFQDN bool @35
  os any
  hostUsers bool @37
  schedulingGates [PodSchedulingGate] key=name
  resourceClaims [any] patch=name retain
  resources ResourceRequirements
  schedulingGroup any
  workloadRef any
type PodSecurityContext
  seLinuxOptions any
  windowsOptions any
  runAsUser int64
  runAsGroup int64
  runAsNonRoot bool
  supplementalGroups [int64]
  supplementalGroupsPolicy string
  fsGroup int64
  sysctls [any]
  fsGroupChangePolicy string
  seccompProfile any
  appArmorProfile any
  seLinuxChangePolicy string
type PodReadinessGate
  conditionType string !
type PodSchedulingGate
  name string !
type HostAlias
  ip string !
  hostnames [string]
type Toleration
  key string
  operator string
  value string
  effect string
  tolerationSeconds int64
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
  restartPolicy string @24
  restartPolicyRules [any]
  volumeMounts [VolumeMount] @9 key=mountPath
  volumeDevices [any] patch=devicePath
  livenessProbe Probe @10
  readinessProbe Probe @11
  startupProbe Probe @22
  lifecycle Lifecycle @12
  terminationMessagePath string @13
  terminationMessagePolicy string @20
  imagePullPolicy string @14
  securityContext SecurityContext @15
  stdin bool @16
  stdinOnce bool @17
  tty bool @18
type SecurityContext
  capabilities any
  privileged bool
  seLinuxOptions any
  windowsOptions any
  runAsUser int64
  runAsGroup int64
  runAsNonRoot bool
  readOnlyRootFilesystem bool
  allowPrivilegeEscalation bool
  procMount string
  seccompProfile any
  appArmorProfile any
type ContainerPort
  name string @1
  hostPort int @2
  containerPort int @3 !
  protocol string @4
  hostIP string @5
type EnvVar
  name string @1 !
  value string @2
  valueFrom EnvVarSource @3
type EnvVarSource
  fieldRef ObjectFieldSelector atomic
  resourceFieldRef ResourceFieldSelector atomic
  configMapKeyRef KeySelector atomic
  secretKeyRef KeySelector atomic
  fileKeyRef any
type ObjectFieldSelector
  apiVersion string
  fieldPath string !
type ResourceFieldSelector
  containerName string
  resource string !
  divisor quantity
type KeySelector
  name string
  key string !
  optional bool
type EnvFromSource
  prefix string
  configMapRef OptionalReference
  secretRef OptionalReference
type OptionalReference
  name string
  optional bool
type ResourceRequirements
  limits {quantity} @1
  requests {quantity} @2
  claims [any] patch=name
type VolumeMount
  name string @1 !
  readOnly bool @2
  recursiveReadOnly string
  mountPath string @3 !
  subPath string @4
  mountPropagation string
  subPathExpr string @6
type Probe
  exec ExecAction
  httpGet HTTPGetAction
  tcpSocket TCPSocketAction
  grpc GRPCAction
  initialDelaySeconds int
  timeoutSeconds int
  periodSeconds int
  successThreshold int
  failureThreshold int
  terminationGracePeriodSeconds int64
type ExecAction
  command [string]
type HTTPGetAction
  path string
  port intstr !
  host string
  scheme string
  httpHeaders [HTTPHeader]
type HTTPHeader
  name string !
  value string !
type TCPSocketAction
  port intstr !
  host string
type GRPCAction
  port int !
  service string
type SleepAction
  seconds int64 !
type Lifecycle
  postStart LifecycleHandler
  preStop LifecycleHandler
  stopSignal string
type LifecycleHandler
  exec ExecAction
  httpGet HTTPGetAction
  tcpSocket TCPSocketAction
  sleep SleepAction
type Volume
  name string @1 !
  hostPath HostPathVolumeSource
  emptyDir EmptyDirVolumeSource
  gcePersistentDisk any
  awsElasticBlockStore any
  gitRepo any
  secret SecretVolumeSource
  nfs any
  iscsi any
  glusterfs any
  persistentVolumeClaim PersistentVolumeClaimVolumeSource
  rbd any
  flexVolume any
  cinder any
  cephfs any
  flocker any
  downwardAPI DownwardAPIVolumeSource
  fc any
  azureFile any
  configMap ConfigMapVolumeSource
  vsphereVolume any
  quobyte any
  azureDisk any
  photonPersistentDisk any
  projected ProjectedVolumeSource
  portworxVolume any
  scaleIO any
  storageos any
  csi any
  ephemeral any
  image any
type HostPathVolumeSource
  path string !
  type string
type EmptyDirVolumeSource
  medium string
  sizeLimit quantity
type KeyToPath
  key string !
  path string !
  mode int
type SecretVolumeSource
  secretName string
  items [KeyToPath]
  defaultMode int
  optional bool
type ConfigMapVolumeSource
  name string
  items [KeyToPath]
  defaultMode int
  optional bool
type PersistentVolumeClaimVolumeSource
  claimName string !
  readOnly bool
type DownwardAPIVolumeFile
  path string !
  fieldRef ObjectFieldSelector
  resourceFieldRef ResourceFieldSelector
  mode int
type DownwardAPIVolumeSource
  items [DownwardAPIVolumeFile]
  defaultMode int
type ProjectedVolumeSource
  sources [any]
  defaultMode int
type PodStatus -- what the node reports of a pod
  observedGeneration int64
  phase string
  conditions [PodCondition] key=type
  message string
  reason string
  nominatedNodeName string
  hostIP string
  hostIPs [HostIP] patch=ip
  podIP string
  podIPs [PodIP] key=ip
  startTime time
  initContainerStatuses [ContainerStatus]
  containerStatuses [ContainerStatus]
  ephemeralContainerStatuses [ContainerStatus]
  qosClass string
  resize string
  resourceClaimStatuses [any] patch=name retain
  extendedResourceClaimStatus any
  allocatedResources {quantity}
  resources ResourceRequirements
type PodCondition
  type string !
  observedGeneration int64
  status string !
  lastProbeTime time
  lastTransitionTime time
  reason string
  message string
type HostIP
  ip string
type PodIP
  ip string
type ContainerStatus
  name string !
  state ContainerState
  lastState ContainerState
  ready bool !
  restartCount int !
  image string !
  imageID string !
  containerID string
  started bool
  allocatedResources {quantity}
  resources ResourceRequirements
  volumeMounts [any]
  user any
  allocatedResourcesStatus [any]
  stopSignal string
type ContainerState
  waiting ContainerStateWaiting
  running ContainerStateRunning
  terminated ContainerStateTerminated
type ContainerStateWaiting
  reason string
  message string
type ContainerStateRunning
  startedAt time
type ContainerStateTerminated
  exitCode int !
  signal int
  reason string
  message string
  startedAt time
  finishedAt time
  containerID string
"""

APPS_TYPES = """
type Deployment -- moves pods from one template to the next
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec DeploymentSpec @2
  status DeploymentStatus @3
type DeploymentSpec
  replicas int @1
  selector LabelSelector @2 ! atomic
  template PodTemplateSpec @3 !
  strategy DeploymentStrategy @4 retain
  minReadySeconds int @5
  revisionHistoryLimit int @6
  paused bool @7
  progressDeadlineSeconds int @9
type DeploymentStrategy
  type string @1
  rollingUpdate RollingUpdateDeployment @2
type RollingUpdateDeployment
  maxUnavailable intstr @1
  maxSurge intstr @2
type DeploymentStatus
  observedGeneration int64
  replicas int
  updatedReplicas int
  readyReplicas int
  availableReplicas int
  unavailableReplicas int
  terminatingReplicas int
  conditions [DeploymentCondition] key=type
  collisionCount int
type DeploymentCondition
  type string !
  status string !
  lastUpdateTime time
  lastTransitionTime time
  reason string
  message string
type ReplicaSet -- keeps a number of pods of one template alive
  apiVersion string
  kind string
  metadata ObjectMeta
  spec ReplicaSetSpec
  status ReplicaSetStatus
type ReplicaSetSpec
  replicas int
  minReadySeconds int
  selector LabelSelector ! atomic
  template PodTemplateSpec
type ReplicaSetStatus
  replicas int
  fullyLabeledReplicas int
  readyReplicas int
  availableReplicas int
  terminatingReplicas int
  observedGeneration int64
  conditions [ReplicaSetCondition] key=type
type ReplicaSetCondition
  type string !
  status string !
  lastTransitionTime time
  reason string
  message string
"""
