"""Descriptions of StatefulSets, their revisions and the claims of their pods, and of Jobs. Notation: `shape`."""

WORKLOAD_TYPES = """
type StatefulSet -- keeps numbered pods, each with a name and claims of its own
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec StatefulSetSpec @2
  status StatefulSetStatus @3
type StatefulSetSpec
  replicas int @1?
  selector LabelSelector @2? ! atomic
  template PodTemplateSpec @3 !
  volumeClaimTemplates [PersistentVolumeClaim] @4 atomic -- each pod gets one claim of each, which outlives it
  serviceName string @5 -- the headless Service that gives the pods their names
  podManagementPolicy string @6 -- OrderedReady (the default) or Parallel
  updateStrategy StatefulSetUpdateStrategy @7
  revisionHistoryLimit int @8?
  minReadySeconds int @9
  persistentVolumeClaimRetentionPolicy StatefulSetPersistentVolumeClaimRetentionPolicy @10?
  ordinals StatefulSetOrdinals @11?
type StatefulSetUpdateStrategy
  type string @1 -- RollingUpdate (the default) or OnDelete
  rollingUpdate RollingUpdateStatefulSetStrategy @2?
type RollingUpdateStatefulSetStrategy
  partition int @1? -- pods with a lower number keep their revision
  maxUnavailable intstr @2?
type StatefulSetPersistentVolumeClaimRetentionPolicy
  whenDeleted string @1 -- Retain (the default) or Delete
  whenScaled string @2 -- Retain (the default) or Delete
type StatefulSetOrdinals
  start int @1
type StatefulSetStatus
  observedGeneration int64 @1
  replicas int @2 !
  readyReplicas int @3
  currentReplicas int @4
  updatedReplicas int @5
  currentRevision string @6
  updateRevision string @7
  collisionCount int @9?
  conditions [StatefulSetCondition] @10 key=type
  availableReplicas int @11
type StatefulSetCondition
  type string @1 !
  status string @2 !
  lastTransitionTime time @3
  reason string @4
  message string @5
type ControllerRevision -- a template as it was
  apiVersion string
  kind string
  metadata ObjectMeta @1
  data any @2?
  revision int64 @3 !

type Job -- runs pods until enough of them have succeeded
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec JobSpec @2
  status JobStatus @3
type JobSpec
  parallelism int @1? -- pods that run at the same time; 1
  completions int @2? -- pods that are to succeed; one success ends a Job without
  activeDeadlineSeconds int64 @3?
  podFailurePolicy PodFailurePolicy @11?
  successPolicy SuccessPolicy @16?
  backoffLimit int @7? -- failed pods after which the Job fails; 6
  backoffLimitPerIndex int @12? -- failed pods after which an index fails; none
  maxFailedIndexes int @13? -- failed indexes after which the Job fails at once; none
  selector LabelSelector @4? atomic
  manualSelector bool @5?
  template PodTemplateSpec @6 !
  ttlSecondsAfterFinished int @8? -- when a finished Job is deleted; never
  completionMode string @9? -- NonIndexed (the default) or Indexed
  suspend bool @10?
  podReplacementPolicy string @14? -- TerminatingOrFailed (the default) or Failed
  managedBy string @15? -- who works on the Job; kubernetes.io/job-controller
type PodFailurePolicy
  rules [PodFailurePolicyRule] @1 ! atomic
type SuccessPolicy
  rules [SuccessPolicyRule] @1 ! atomic
type SuccessPolicyRule
  succeededIndexes string @1? -- as 0,2-4; all
  succeededCount int @2? -- how many of these; all
type PodFailurePolicyRule
  action string @1 ! -- FailJob, FailIndex, Ignore or Count
  onExitCodes PodFailurePolicyOnExitCodesRequirement @2?
  onPodConditions [PodFailurePolicyOnPodConditionsPattern] @3 atomic
type PodFailurePolicyOnExitCodesRequirement
  containerName string @1?
  operator string @2 !
  values [int] @3 ! set
type PodFailurePolicyOnPodConditionsPattern
  type string @1 !
  status string @2
type JobStatus
  conditions [JobCondition] @1 atomic
  startTime time @2
  completionTime time @3
  active int @4
  succeeded int @5
  failed int @6
  terminating int @11?
  completedIndexes string @7
  failedIndexes string @10?
  uncountedTerminatedPods UncountedTerminatedPods @8?
  ready int @9?
type UncountedTerminatedPods
  succeeded [string] @1 set
  failed [string] @2 set
type JobCondition
  type string @1 !
  status string @2 !
  lastProbeTime time @3
  lastTransitionTime time @4
  reason string @5
  message string @6

type PersistentVolumeClaim -- room on disk that outlives the pods that use it
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec PersistentVolumeClaimSpec @2
  status PersistentVolumeClaimStatus @3
type PersistentVolumeClaimSpec
  accessModes [string] @1 atomic
  selector LabelSelector @4?
  resources VolumeResourceRequirements @2
  volumeName string @3
  storageClassName string @5?
  volumeMode string @6?
  dataSource any
  dataSourceRef any
  volumeAttributesClassName string @9?
type VolumeResourceRequirements
  limits {quantity} @1
  requests {quantity} @2
type PersistentVolumeClaimStatus
  phase string @1
  accessModes [string] @2 atomic
  capacity {quantity} @3
  conditions [PersistentVolumeClaimCondition] @4 key=type
  allocatedResources {quantity} @5
  allocatedResourceStatuses any
  currentVolumeAttributesClassName string @8?
  modifyVolumeStatus any
type PersistentVolumeClaimCondition
  type string @1 !
  status string @2 !
  lastProbeTime time @3
  lastTransitionTime time @4
  reason string @5
  message string @6
"""
