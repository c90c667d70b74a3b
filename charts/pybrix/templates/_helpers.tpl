{{- define "pybrix.controllersConfiguration" -}}
apiVersion: "config.pybrix.ai/v1alpha1"
kind: "ControllersConfiguration"
namespaces: {{ $.Values.controllers.namespaces | toRawJson }}
leaderElection: {{ dict "namespace" $.Release.Namespace "name" "pybrix-controllers" | toRawJson }}
healthAddress: "0.0.0.0"
healthPort: 8081
controllers: {{ $.Values.controllers.configuration.controllers | toRawJson }}
defaultConcurrency: {{ $.Values.controllers.configuration.defaultConcurrency | toRawJson }}
concurrency: {{ $.Values.controllers.configuration.concurrency | toRawJson }}
modelAdapter: {{ $.Values.controllers.configuration.modelAdapter | toRawJson }}
kvCache: {{ $.Values.controllers.configuration.kvCache | toRawJson }}
{{- end }}

{{- define "pybrix.gatewayConfiguration" -}}
apiVersion: "config.pybrix.ai/v1alpha1"
kind: "GatewayConfiguration"
address: "0.0.0.0"
port: 8080
namespaces: {{ $.Values.gateway.namespaces | toRawJson }}
{{- if $.Values.gateway.tls.secretName }}
tlsCertificatePath: "/etc/pybrix/tls/tls.crt"
{{- end }}
{{- if $.Values.gateway.tls.secretName }}
tlsKeyPath: "/etc/pybrix/tls/tls.key"
{{- end }}
routingStrategy: {{ $.Values.gateway.configuration.routingStrategy | toRawJson }}
bodyLimitBytes: {{ $.Values.gateway.configuration.bodyLimitBytes | toRawJson }}
decisionTimeoutMs: {{ $.Values.gateway.configuration.decisionTimeoutMs | toRawJson }}
streamIdleTimeoutS: {{ $.Values.gateway.configuration.streamIdleTimeoutS | toRawJson }}
connectTimeoutS: {{ $.Values.gateway.configuration.connectTimeoutS | toRawJson }}
reservationRenewalS: {{ $.Values.gateway.configuration.reservationRenewalS | toRawJson }}
engineMetricsIntervalS: {{ $.Values.gateway.configuration.engineMetricsIntervalS | toRawJson }}
isUsageCounted: {{ $.Values.gateway.configuration.isUsageCounted | toRawJson }}
envoyWorkers: {{ $.Values.gateway.configuration.envoyWorkers | toRawJson }}
streamDeadlineS: {{ $.Values.gateway.configuration.streamDeadlineS | toRawJson }}
listenerDrainS: {{ $.Values.gateway.configuration.listenerDrainS | toRawJson }}
drainTimeoutS: {{ $.Values.gateway.configuration.drainTimeoutS | toRawJson }}
redis: {{ dict "address" (ternary $.Values.redis.address (ternary (printf "%v%v" "pybrix-redis" ":6379") "" (not (not (and (not $.Values.redis.address) (or (gt (int $.Values.gateway.replicas) 1) $.Values.redis.storage.size))))) (not (not $.Values.redis.address))) "passwordPath" (ternary "/etc/pybrix/redis/password" "" (not (not (or (and (not $.Values.redis.address) (or (gt (int $.Values.gateway.replicas) 1) $.Values.redis.storage.size)) (and $.Values.redis.address $.Values.redis.passwordSecret))))) "isTls" (ternary $.Values.redis.tls.enabled false (not (not $.Values.redis.address))) "tlsCaPath" (ternary "/etc/pybrix/redis-ca/ca.crt" "" (not (not (and $.Values.redis.address $.Values.redis.tls.enabled $.Values.redis.tls.caSecret)))) "database" $.Values.gateway.configuration.redis.database "username" $.Values.gateway.configuration.redis.username "keyPrefix" $.Values.gateway.configuration.redis.keyPrefix "timeoutMs" $.Values.gateway.configuration.redis.timeoutMs | toRawJson }}
limits: {{ $.Values.gateway.configuration.limits | toRawJson }}
identity: {{ dict "usersAddress" "0.0.0.0" "usersPort" (ternary 8090 0 (not (not (and $.Values.gateway.adminTokenSecret $.Values.gateway.usersPort)))) "adminTokenPath" (ternary "/etc/pybrix/admin/token" "" (not (not $.Values.gateway.adminTokenSecret))) "isApiKeyRequired" $.Values.gateway.configuration.identity.isApiKeyRequired "isUserHeaderTrusted" $.Values.gateway.configuration.identity.isUserHeaderTrusted | toRawJson }}
explain: {{ $.Values.gateway.configuration.explain | toRawJson }}
tracing: {{ $.Values.gateway.configuration.tracing | toRawJson }}
statesync: {{ $.Values.gateway.configuration.statesync | toRawJson }}
{{- end }}

{{- define "pybrix.redisConfiguration" -}}
port 6379
dir "/data"
save ""
appendonly "yes"
appendfsync "everysec"
maxmemory {{ $.Values.redis.maxMemory | toRawJson }}
maxmemory-policy "noeviction"
{{- end }}
