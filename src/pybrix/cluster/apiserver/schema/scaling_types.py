"""Descriptions of how many pods there should be, how few there may be, and which come first. Notation: `shape`."""

SCALING_TYPES = """
type Eviction -- asks for a pod to be deleted if its budgets allow it
  apiVersion string
  kind string
  metadata ObjectMeta @1
  deleteOptions DeleteOptions @2?
type PodDisruptionBudget -- how many of some pods may be away at once because somebody wants it
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec PodDisruptionBudgetSpec @2
  status PodDisruptionBudgetStatus @3
type PodDisruptionBudgetSpec
  minAvailable intstr @1? -- number or percentage that stays
  selector LabelSelector @2? atomic -- the pods; all of the namespace when empty
  maxUnavailable intstr @3? -- number or percentage that may go
  unhealthyPodEvictionPolicy string @4? -- IfHealthyBudget or AlwaysAllow
type PodDisruptionBudgetStatus
  observedGeneration int64 @1
  disruptedPods {time} @2
  disruptionsAllowed int @3
  currentHealthy int @4
  desiredHealthy int @5
  expectedPods int @6
  conditions [Condition] @7 key=type

type HorizontalPodAutoscaler -- how many replicas a workload gets, by metrics
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec HorizontalPodAutoscalerSpec @2
  status HorizontalPodAutoscalerStatus @3
type HorizontalPodAutoscalerSpec
  scaleTargetRef CrossVersionObjectReference @1 ! -- what is scaled
  minReplicas int @2? -- 1
  maxReplicas int @3 !
  metrics [MetricSpec] @4 -- what decides; the most replicas that one asks for. 80 % of the requested CPU when empty
  behavior HorizontalPodAutoscalerBehavior @5?
type CrossVersionObjectReference
  kind string @1 !
  name string @2 !
  apiVersion string @3
type MetricSpec
  type string @1 ! -- Resource, ContainerResource, Pods, Object or External
  object any
  pods any
  resource ResourceMetricSource @4?
  containerResource any
  external any
type ResourceMetricSource
  name string @1 !
  target MetricTarget @2 !
type MetricTarget
  type string @1 ! -- Utilization, Value or AverageValue
  value quantity @2
  averageValue quantity @3
  averageUtilization int @4?
type HorizontalPodAutoscalerBehavior
  scaleUp HPAScalingRules @1?
  scaleDown HPAScalingRules @2?
type HPAScalingRules
  stabilizationWindowSeconds int @3?
  selectPolicy string @1?
  policies [HPAScalingPolicy] @2
  tolerance quantity @4
type HPAScalingPolicy
  type string @1 !
  value int @2 !
  periodSeconds int @3 !
type HorizontalPodAutoscalerCondition
  type string @1 !
  status string @2 !
  lastTransitionTime time @3
  reason string @4
  message string @5
type HorizontalPodAutoscalerStatus
  observedGeneration int64 @1?
  lastScaleTime time @2
  currentReplicas int @3
  desiredReplicas int @4
  currentMetrics [any]
  conditions [HorizontalPodAutoscalerCondition] @6 key=type

type PriorityClass -- a name for a priority of pods
  apiVersion string
  kind string
  metadata ObjectMeta @1
  value int @2 ! -- higher goes first; it cannot be changed
  globalDefault bool @3 -- whether pods without a class get this one
  description string @4
  preemptionPolicy string @5? -- PreemptLowerPriority or Never
"""
