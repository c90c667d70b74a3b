"""Descriptions of how traffic gets in and what may pass. Notation: `shape`."""

NETWORK_TYPES = """
type NetworkPolicy -- which traffic pods take and send
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec NetworkPolicySpec @2
type NetworkPolicySpec
  podSelector LabelSelector @1 atomic -- the pods that the policy is about; all of the namespace when empty
  ingress [NetworkPolicyIngressRule] @2 -- what may come in; nothing when empty
  egress [NetworkPolicyEgressRule] @3 -- what may go out; nothing when empty and Egress is a type
  policyTypes [string] @4 -- Ingress, Egress; Ingress, and Egress where there are rules for it
type NetworkPolicyIngressRule
  ports [NetworkPolicyPort] @1
  from [NetworkPolicyPeer] @2
type NetworkPolicyEgressRule
  ports [NetworkPolicyPort] @1
  to [NetworkPolicyPeer] @2
type NetworkPolicyPort
  protocol string @1?
  port intstr @2?
  endPort int @3?
type NetworkPolicyPeer
  podSelector LabelSelector @1? atomic
  namespaceSelector LabelSelector @2? atomic
  ipBlock IPBlock @3?
type IPBlock
  cidr string @1 !
  except [string] @2

type Ingress -- routes from outside to Services, for an ingress controller to follow
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec IngressSpec @2
  status IngressStatus @3
type IngressSpec
  ingressClassName string @4? -- which controller follows it
  defaultBackend IngressBackend @1? -- where goes what no rule matches
  tls [IngressTLS] @2
  rules [IngressRule] @3
type IngressBackend
  service IngressServiceBackend @4?
  resource TypedLocalObjectReference @3? atomic
type IngressServiceBackend
  name string @1 !
  port ServiceBackendPort @2
type ServiceBackendPort
  name string @1
  number int @2
type TypedLocalObjectReference
  apiGroup string @1?
  kind string @2 !
  name string @3 !
type IngressTLS
  hosts [string] @1
  secretName string @2
type IngressRule
  host string @1
  http HTTPIngressRuleValue @2.1?
type HTTPIngressRuleValue
  paths [HTTPIngressPath] @1 !
type HTTPIngressPath
  path string @1
  pathType string @3? ! -- Exact, Prefix or ImplementationSpecific
  backend IngressBackend @2 !
type IngressStatus
  loadBalancer IngressLoadBalancerStatus @1
type IngressLoadBalancerStatus
  ingress [IngressLoadBalancerIngress] @1
type IngressLoadBalancerIngress
  ip string @1
  hostname string @2
"""
